"""A crew works where it can see jobs and images, says clearly where it cannot, and keeps its workers alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomnode.config import IN_FORCE, Config, load_config
from dicomnode.crew import Crew, refuse_what_is_not_shared
from dicomnode.errors import ConfigFault
from storage import audit
from storage.database import Database
from tests.builders_database import address, create_database
from tests.builders_store import S3Server
from tests.peers import wait_until

ROOT = Path(__file__).parents[2]


def config_of(folder: Path, more: str = "", database: str = "postgresql+psycopg://node@db/node") -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node.toml").write_text(f'[node]\ndata_folder = "var"\ndatabase = "{database}"\n{more}\n')
    (folder / "rules.toml").write_text("")
    return load_config(folder)


def test_sqlite_is_refused_because_it_is_one_machines_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match="need PostgreSQL"):
        refuse_what_is_not_shared(config_of(tmp_path, database=""), shared_folder=True)


def test_local_files_are_refused_unless_the_folder_is_said_to_be_shared_and_is_the_nodes(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with pytest.raises(ConfigFault, match="--shared-folder"):
        refuse_what_is_not_shared(config, shared_folder=False)
    with pytest.raises(ConfigFault, match="not mounted"):
        refuse_what_is_not_shared(config, shared_folder=True)
    (config.data_folder / IN_FORCE).mkdir(parents=True)
    (config.data_folder / IN_FORCE / "node.toml").write_text("")
    refuse_what_is_not_shared(config, shared_folder=True)


def test_postgresql_and_a_store_are_enough(tmp_path: Path, s3_server: S3Server) -> None:
    refuse_what_is_not_shared(replace(config_of(tmp_path), bucket=s3_server.bucket()), shared_folder=False)


@pytest.fixture
def database_url(postgresql_url: sa.URL) -> str:
    made = address(create_database(postgresql_url, "CREATE DATABASE {name} TEMPLATE template_node"))
    return made.replace(":@", "@")


@pytest.fixture
def crew(tmp_path: Path, database_url: str) -> Iterator[subprocess.Popen[str]]:
    """`dicomnode workers` on a folder that says to be shared."""
    config = config_of(tmp_path / "config", '[[workers]]\ndevice = "cpu"', database_url)
    (config.data_folder / IN_FORCE).mkdir(parents=True)
    (config.data_folder / IN_FORCE / "node.toml").write_text("")
    words = ["workers", "--config", str(tmp_path / "config"), "--shared-folder", "--name", "other"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "dicomnode", *words], stderr=log, text=True, cwd=ROOT)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def children(process_id: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"PPid:\t{process_id}\n" in (entry / "status").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_worker_that_dies_runs_again_the_audit_says_so_and_sigterm_ends_all(
    crew: subprocess.Popen[str], tmp_path: Path, database_url: str
) -> None:
    def log() -> str:
        return (tmp_path / "log").read_text()

    wait_until(lambda: "other/crew-0 listens" in log(), what="the worker listening")
    first = children(crew.pid)
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: log().count("other/crew-0 listens") == 2, what="the worker listening again")
    database = Database.open(database_url)
    with database.read() as connection:
        assert [one.event for one in audit.entries(connection) if "SIGKILL" in str(one.details)] == [
            "process restarted"
        ]
    database.close()
    again = children(crew.pid)
    crew.send_signal(signal.SIGTERM)
    assert crew.wait(60) == 0
    assert not any(Path(f"/proc/{one}/cmdline").exists() for one in (*first, *again))


def test_two_crews_of_one_name_on_one_machine_are_refused(tmp_path: Path, database_url: str) -> None:
    config = config_of(tmp_path / "config", database=database_url)
    first = Crew(config, name="other")
    with pytest.raises(ConfigFault, match="run here already"):
        Crew(config, name="other")
    first.close()
    Crew(config, name="other").close()
