"""What editors and readers are told is what the models accept: schemas and reference cannot be stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import Config
from dicomnode.config_reference import TABLES, reasons_document, rewrite, schema_text, with_current_tables
from dicomnode.settings import NodeSettings

ROOT = Path(__file__).parents[2]
HOW = """python -c "from pathlib import Path; from dicomnode.config_reference import rewrite; rewrite(Path('.'))" """


@pytest.mark.parametrize("name", ["node.schema.json", "rules.schema.json"])
def test_the_schemas_beside_the_config_are_current(name: str) -> None:
    on_disk = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert on_disk == schema_text(Config.schemas()[name]), f"run {HOW}"


def test_the_reference_is_current() -> None:
    document = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")
    assert document == with_current_tables(document), f"run {HOW}"


def test_the_list_of_reasons_is_current() -> None:
    assert (ROOT / "docs" / "REASONS.md").read_text(encoding="utf-8") == reasons_document(), f"run {HOW}"


def test_the_reference_has_every_key_of_every_table() -> None:
    document = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")
    for table, model in TABLES.items():
        begin = document.index(f"<!-- keys of {table} -->")
        block = document[begin : document.index("<!-- end -->", begin)]
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in block
            assert field.description, f"{table} {name} has no description"


@pytest.mark.parametrize(("file", "schema"), [("node.toml", "node.schema.json"), ("rules.toml", "rules.schema.json")])
def test_the_shipped_files_name_their_schema(file: str, schema: str) -> None:
    assert (ROOT / "config" / file).read_text().startswith(f"#:schema ./{schema}\n")


def test_schemas_refuse_unknown_keys_and_use_the_names_of_the_files() -> None:
    schemas = Config.schemas()
    assert schemas["node.schema.json"]["additionalProperties"] is False
    assert schemas["node.schema.json"]["$defs"]["NodeSettings"]["additionalProperties"] is False
    assert "from" in schemas["rules.schema.json"]["$defs"]["RuleTable"]["properties"]
    assert schemas["node.schema.json"]["$defs"]["PipelineTable"]["additionalProperties"] is True


def test_what_is_stale_is_written_anew_and_the_rest_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "docs").mkdir()
    reference = tmp_path / "docs" / "CONFIG.md"
    reference.write_text("before\n<!-- keys of [node] -->\nstale\n<!-- end -->\nafter\n")
    assert len(rewrite(tmp_path)) == 5
    text = reference.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert all(f"`{name}`" in text for name in NodeSettings.model_fields)
    assert rewrite(tmp_path) == []
