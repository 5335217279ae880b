"""Commands read the database of a node as it is, and print what a script can read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicomnode.cli_options import opened_database, print_json
from dicomnode.config import load_config
from dicomnode.errors import ConfigFault
from storage import audit
from storage.database import Database


def config(folder: Path) -> Path:
    (folder / "node.toml").write_text('[node]\ndata_folder = "var"\n')
    (folder / "rules.toml").write_text("")
    return folder


def test_where_no_node_has_run_nothing_is_made_and_it_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault), opened_database(config(tmp_path)):
        pass
    assert not (tmp_path / "var").exists()


def test_the_database_of_a_node_that_has_run_can_be_read(tmp_path: Path) -> None:
    folder = config(tmp_path)
    (folder / "var").mkdir()
    made = Database.open(load_config(folder).database_url)
    made.migrate()
    made.close()
    with opened_database(folder) as database, database.read() as connection:
        assert audit.verify(connection) == 0


def test_moments_are_printed_as_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-01-02 00:00:00+00:00"}
