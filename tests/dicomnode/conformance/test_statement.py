"""The statement that is committed is what the code says now, and holds every part that PS3.2 wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.conformance.statement import FILE, HOW, is_stale, statement
from tests.builders_routed import config_of

ROOT = Path(__file__).parents[3]


def test_the_committed_statement_is_current() -> None:
    assert not is_stale(ROOT), f"run {HOW}"


def test_another_text_is_stale_and_so_is_none(tmp_path: Path) -> None:
    assert is_stale(tmp_path)
    (tmp_path / FILE).write_text(statement() + "more\n", encoding="utf-8")
    assert is_stale(tmp_path)
    (tmp_path / FILE).write_text(statement(), encoding="utf-8")
    assert not is_stale(tmp_path)


@pytest.mark.parametrize(
    "part",
    ["Overview", "Introduction", "Networking", "AE specification", "Association policies", "Association initiation",
     "Association acceptance", "Created objects", "Coded terminology", "Character sets", "Security", "Configuration"],
)  # fmt: skip
def test_every_part_is_there(part: str) -> None:
    assert any(line.startswith("#") and part in line for line in statement().splitlines())


def test_the_same_code_gives_the_same_statement_and_no_place_of_this_machine() -> None:
    text = statement()
    assert text == statement() and str(ROOT) not in text


def test_a_node_states_its_title_its_peers_and_what_they_may(tmp_path: Path) -> None:
    text = statement(config_of(tmp_path))
    assert text.startswith("# DICOM conformance statement of DICOMNODE\n")
    assert "| scanner | SCANNER | only calls | store | no | anywhere |" in text
    assert "| pacs | PACS | 127.0.0.1:104 | nothing | no | anywhere |" in text
