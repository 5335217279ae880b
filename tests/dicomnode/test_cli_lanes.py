"""An administrator sees which destination is broken and why, and has it asked at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.bell import DISPATCH_ROOM, Bell
from dicomnode.cli import app
from dicomnode.config import load_config
from dicomnode.errors import NodeFault
from storage import lanes
from storage.database import Database
from tests.storage.builders_storage import planned_job

NOW = datetime.now(UTC)
RUNNER = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config folder of a node that has run."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "node.toml").write_text('[node]\ndata_folder = "../var"\n')
    (tmp_path / "config" / "rules.toml").write_text("")
    (tmp_path / "var").mkdir()
    return tmp_path / "config"


@pytest.fixture
def kept(config: Path) -> Iterator[Database]:
    """Its database."""
    database = Database.open(load_config(config).database_url)
    database.migrate()
    yield database
    database.close()


def shown(config: Path, *arguments: str) -> str:
    answer = RUNNER.invoke(app, ["lanes", "--config", str(config), *arguments], catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.stdout


def test_a_broken_lane_is_shown_with_its_reason_and_what_waits(config: Path, kept: Database) -> None:
    assert "nothing waits" in shown(config)
    with kept.begin() as connection:
        planned_job(connection, created_at=NOW)
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=NOW + timedelta(hours=1), now=NOW)
    (lane,) = json.loads(shown(config, "--json"))
    assert (lane["destination"], lane["broken"], lane["waiting"], lane["reason"]) == ("pacs", True, 1, "no answer")
    table = shown(config)
    assert "broken" in table and "no answer" in table


def test_a_probe_asked_for_is_due_at_once_and_a_running_node_is_woken(config: Path, kept: Database) -> None:
    woken = threading.Event()
    Bell(config.parent / "var").listen(DISPATCH_ROOM, "node", woken.set)
    with kept.begin() as connection:
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=NOW + timedelta(hours=1), now=NOW)
    shown(config, "--probe", "pacs")
    with kept.read() as connection:
        probe_at = lanes.get_lane(connection, "pacs").next_probe_at
    assert probe_at is not None and probe_at <= datetime.now(UTC)
    assert woken.wait(10)


def test_a_probe_of_a_lane_that_is_whole_is_refused_in_words(config: Path, kept: Database) -> None:
    with pytest.raises(NodeFault, match="the lane to pacs is not broken"):
        shown(config, "--probe", "pacs")
