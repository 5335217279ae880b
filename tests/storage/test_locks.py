"""A lock tells the living from the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import DatabaseAway
from storage.locks import take_file_lock, take_lock
from tests.builders_database import address

HOLDER = """
import sys, time
from pathlib import Path
from storage.database import Database
from storage.locks import take_lock
folder = Path(sys.argv[1])
assert take_lock(Database.open(f"sqlite:///{folder}/node.sqlite"), folder / "locks", "worker")
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_had_once_and_again_after_release(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    first = take_lock(database, tmp_path / "locks", "worker")
    assert first is not None
    assert take_lock(database, tmp_path / "locks", "worker") is None
    assert take_lock(database, tmp_path / "locks", "another") is not None
    first.release()
    assert take_lock(database, tmp_path / "locks", "worker") is not None


def test_a_killed_holder_loses_its_lock(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert take_lock(database, tmp_path / "locks", "worker") is None
        holder.kill()
        holder.wait()
    assert take_lock(database, tmp_path / "locks", "worker") is not None


@pytest.fixture
def postgresql(postgresql_url: sa.URL) -> Database:
    return Database.open(address(postgresql_url.set(database="postgres")))


def end_every_session(postgresql_url: sa.URL) -> None:
    """As a restart of the server does, or an administrator."""
    engine = sa.create_engine(postgresql_url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = 'postgres'"
        )
    engine.dispose()


def test_on_postgresql_a_lock_is_had_once_over_all_machines_and_again_after_release(
    postgresql: Database, tmp_path: Path
) -> None:
    first = take_lock(postgresql, tmp_path / "here", "worker")
    assert first is not None and not first.lost()
    assert take_lock(postgresql, tmp_path / "there", "worker") is None
    first.release()
    again = take_lock(postgresql, tmp_path / "there", "worker")
    assert again is not None
    again.release()


def test_a_lock_whose_session_was_ended_is_lost_for_good_and_another_may_have_it(
    postgresql: Database, postgresql_url: sa.URL, tmp_path: Path
) -> None:
    lock = take_lock(postgresql, tmp_path, "another worker")
    assert lock is not None and not lock.lost()
    end_every_session(postgresql_url)
    other = take_lock(postgresql, tmp_path, "another worker")
    assert other is not None
    assert lock.lost() and lock.lost()
    assert not other.lost()
    other.release()


def test_a_lock_that_nobody_can_be_asked_for_is_a_database_away(tmp_path: Path) -> None:
    database = Database.open("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseAway):
        take_lock(database, tmp_path, "worker")


def test_the_lock_of_a_folder_needs_no_database(tmp_path: Path) -> None:
    first = take_file_lock(tmp_path, "node")
    assert first is not None and not first.lost()
    assert take_file_lock(tmp_path, "node") is None
    first.release()
