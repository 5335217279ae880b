"""Needs and `[[retrieve]]` with a mistake are refused when the config is read, with key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

import inference.pipelines
from dicomnode.config import load_config
from dicomnode.errors import ConfigFault
from dicomnode.need_settings import NeedTable

PLUGGED = str(Path(__file__).parents[1] / "plugged" / "pipelines")
NODE = """
[node]
data_folder = "../var"
[peers.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 104
may = ["store"]
[peers.quiet]
ae_title = "QUIET"
host = "127.0.0.1"
port = 105
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
"""
RULE = """
[[rules]]
name = "PET"
when = 'Modality == "PT"'
run = "pet_with_ct"
send_to = ["pacs"]
needs = ["ct"]
"""
NEED = """
[needs.ct]
modality = "CT"
from = ["pacs"]
"""
RETRIEVE = """
[[retrieve]]
name = "new"
from = "pacs"
"""


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.pipelines, "__path__", [*inference.pipelines.__path__, PLUGGED])


def said(tmp_path: Path, rules: str) -> str:
    (tmp_path / "node.toml").write_text(NODE)
    (tmp_path / "rules.toml").write_text(rules)
    try:
        load_config(tmp_path)
    except ConfigFault as fault:
        return str(fault)
    return ""


def test_a_rule_with_its_need_and_a_retrieve_are_read(tmp_path: Path) -> None:
    assert said(tmp_path, RULE + NEED + RETRIEVE) == ""
    config = load_config(tmp_path)
    assert config.rules[0].needs == ("ct",) and config.needs["ct"].from_peers == ("pacs",)
    assert (config.retrieve[0].name, config.retrieve[0].every_minutes, config.retrieve[0].how) == ("new", 10.0, "move")


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (RULE, "there is no [needs.ct]"),
        (RULE.replace('needs = ["ct"]', "") + NEED, "pet_with_ct needs 'ct', a CT series"),
        (RULE.replace("pet_with_ct", "pet_denoising") + NEED, "it reads its source only"),
        (RULE + NEED.replace('"CT"', '"MR"'), "reads a CT series as 'ct'"),
        (RULE.replace('["ct"]', '["ct", "ct"]') + NEED, "twice"),
        (RULE + NEED.replace("pacs", "pax"), "there is no peer 'pax'"),
        (RULE + NEED.replace("pacs", "scanner"), "give it host and port"),
        (RULE + NEED.replace("pacs", "quiet"), 'may not "store"'),
        (RULE + NEED + "when = 'Modalty == 1'", "in need 'ct'"),
        (RULE + NEED + "limit_s = -1.0", "needs.ct.limit_s"),
        (RULE + NEED + "modalities = 1", "unknown key"),
        (RETRIEVE + RETRIEVE, "called 'new' already"),
        (RETRIEVE.replace("pacs", "nobody"), "there is no peer 'nobody'"),
        (RETRIEVE + "every_minutes = 0.0", "retrieve[1].every_minutes"),
        (RETRIEVE + "evry_minutes = 1.0", "did you mean every_minutes"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, rules: str, told: str) -> None:
    assert told in said(tmp_path, rules)


def test_c_get_needs_no_right_to_store(tmp_path: Path) -> None:
    assert said(tmp_path, RULE + NEED.replace("pacs", "quiet") + 'how = "get"') == ""


def test_what_decides_the_choice_is_part_of_the_work_and_what_does_not_is_not() -> None:
    usual = NeedTable(modality="CT")
    assert NeedTable(modality="CT", limit_s=1.0, how="get").chosen_by == usual.chosen_by
    assert NeedTable(modality="CT", of="earlier").chosen_by != usual.chosen_by
    assert NeedTable.model_validate(usual.as_kept) == usual
