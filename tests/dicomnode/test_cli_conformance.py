"""The statement is printed, or written where it belongs, for the product or for one node."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.conformance.statement import FILE, statement
from tests.builders_routed import write_config


def shown(*arguments: str) -> str:
    answer = CliRunner().invoke(app, ["conformance", *arguments], catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.stdout


def test_the_statement_of_the_product_is_printed_whatever_config_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMNODE_CONFIG", "/nowhere")
    assert shown() == statement()


def test_a_nodes_statement_holds_its_own_values(tmp_path: Path) -> None:
    text = shown("--config", str(write_config(tmp_path)))
    assert "| scanner | SCANNER |" in text and "| key | default | here |" in text


def test_it_is_written_to_the_file_that_a_test_holds_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FILE in shown("--write")
    assert (tmp_path / FILE).read_text(encoding="utf-8") == statement()
