"""The same river on PostgreSQL: one line in node.toml, and the same promises."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders_database import address, create_database
from tests.builders_dicom import write_ct_series
from tests.peers import Orthanc, RunningNode, storescu

pytestmark = pytest.mark.peer


@pytest.fixture
def database_url(postgresql_url: sa.URL) -> str:
    """An empty database, as node.toml names it: without a password."""
    made = address(create_database(postgresql_url, "CREATE DATABASE {name}"))
    return made.replace(":@", "@")


def test_the_river_runs_on_postgresql_and_survives_the_death_of_its_processes(
    database_url: str, pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port, database=database_url).start()
    for number in range(4):
        files = write_ct_series(tmp_path / str(number), slices=6, rows=256, columns=256)
        assert storescu(node.port, files).returncode == 0
    os.kill(node.processes()["work"], signal.SIGKILL)
    node.kill()
    node.start()
    jobs = node.wait_for_jobs({"delivered"}, count=4)
    held = pacs.series()
    assert {job["derived_series_instance_uid"] for job in jobs} == set(held)
    assert all(len(one["instances"]) == 6 for one in held.values())
    verified = node.command("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    assert not (node.folder / "var" / "node.sqlite").exists()
