"""The audit answers an administrator: what happened, whether the chain is whole, and as messages in a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicomnode.cli import app
from dicomnode.config import load_config
from dicomnode.stores import Stores
from storage import audit
from storage.database import Database
from tests.builders_audit import SYSLOG, parsed, seq_of

SERIES = "1.2.3.4"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The config folder of a node that has recorded three things."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "node.toml").write_text('[node]\nae_title = "OURS"\ndata_folder = "../var"\n')
    (folder / "rules.toml").write_text("")
    database = Stores.open(load_config(folder)).database
    for number in range(3):
        with database.begin() as connection:
            audit.append(
                connection, "series closed", series_instance_uid=f"{SERIES}.{number}", details={"instances": 2}
            )
    database.close()
    return folder


def run(node: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, words), "--config", str(node)])


def events(node: Path) -> list[str]:
    database = Database.open(load_config(node).database_url)
    with database.read() as connection:
        found = [one.event for one in audit.entries(connection)]
    database.close()
    return found


def test_rows_of_a_series_and_the_chain_are_shown(node: Path) -> None:
    assert [one["event"] for one in json.loads(run(node, f"{SERIES}.1", "--json").stdout)] == ["series closed"]
    assert len(json.loads(run(node, "--json", "--limit", 2).stdout)) == 2
    assert json.loads(run(node, "verify", "--json").stdout)["rows"] == 3


def test_an_export_is_a_file_of_messages_a_line_each_and_a_row_of_the_audit(node: Path, tmp_path: Path) -> None:
    answer = run(node, "export", "--output", tmp_path / "audit.log", "--json")
    assert json.loads(answer.stdout)["rows"] == 3
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600
    lines = (tmp_path / "audit.log").read_bytes().splitlines()
    assert [seq_of(one) for one in lines] == [1, 2, 3]
    found = SYSLOG.fullmatch(lines[0])
    assert found
    assert parsed(found["body"]).find("AuditSourceIdentification").get("AuditSourceID") == "OURS"
    assert events(node)[-1] == "audit exported"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_an_export_holds_the_rows_of_its_time_only(node: Path, tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    now = datetime.now(UTC).astimezone()
    for name, words, rows in (
        ("before", ("--to", f"{now - hour:%Y-%m-%dT%H:%M:%S}"), 0),
        ("around", ("--from", f"{now - hour:%Y-%m-%dT%H:%M}", "--to", f"{now + hour:%Y-%m-%dT%H:%M}"), 3),
        ("after", ("--from", f"{now + hour:%Y-%m-%dT%H:%M}"), 0),
    ):
        answer = run(node, "export", *words, "--output", tmp_path / name, "--json")
        told = events(node).count("audit exported")
        assert json.loads(answer.stdout)["rows"] == rows + (told - 1 if name == "around" else 0)


def test_an_export_never_writes_over_a_file_and_asks_where_to(node: Path, tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text("precious")
    assert "is there already" in str(run(node, "export", "--output", tmp_path / "audit.log").exception)
    assert (tmp_path / "audit.log").read_text() == "precious"
    assert "--output" in str(run(node, "export").exception)
    assert "audit export" in str(run(node, "verify", "--output", tmp_path / "x").exception)
    assert events(node) == ["series closed"] * 3


def test_without_a_word_of_the_administrator_no_patient_is_named(node: Path, tmp_path: Path) -> None:
    run(node, "export", "--output", tmp_path / "audit.log")
    assert b"Patient Number" not in (tmp_path / "audit.log").read_bytes()
