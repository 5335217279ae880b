"""What the door to SQL promises: durable, one writer at a time, consistent reads, tables brought up to date once."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from storage.database import CONNECT_S, Database, open_engine
from storage.errors import DatabaseAway
from storage.schema import deployment
from tests.builders_database import address
from tests.storage.builders_storage import NOW

MIGRATE = """
import sys
from storage.database import Database
database = Database.open(sys.argv[1])
database.migrate()
print(database.deployment_uuid())
"""
ROOT = Path(__file__).parents[2]


def test_processes_that_start_at_once_migrate_once_and_agree_on_the_deployment(empty_url: str) -> None:
    command = [sys.executable, "-c", MIGRATE, empty_url]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert len(set(answers)) == 1
    database = Database.open(empty_url)
    assert database.deployment_uuid() == answers[0].strip()
    database.close()


def test_migrating_twice_is_harmless(database: Database) -> None:
    name = database.deployment_uuid()
    database.migrate()
    assert database.deployment_uuid() == name


def test_tables_of_another_version_are_not_taken_for_ours(database: Database) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from_tomorrow'")
    with pytest.raises(CommandError, match="from_tomorrow"):
        database.migrate()


def test_a_process_that_finds_the_tables_up_to_date_does_not_load_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/node.sqlite"
    Database.open(url).migrate()
    code = f"{MIGRATE}\nsys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_an_sqlite_file_and_its_companions_are_private(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"node.sqlite": 0o600, "node.sqlite-wal": 0o600, "node.sqlite-shm": 0o600}
    database.close()


def test_a_readable_sqlite_file_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    path.touch(0o644)
    open_engine(f"sqlite:///{path}").dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_sqlite_commits_survive_a_power_cut_and_keys_are_checked(tmp_path: Path) -> None:
    with open_engine(f"sqlite:///{tmp_path}/node.sqlite").connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u@h/d"])
def test_a_database_that_forgets_or_is_unknown_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be an SQLite file or PostgreSQL"):
        open_engine(url)


def test_a_second_writer_waits_for_the_first(database: Database) -> None:
    order: list[str] = []
    second_has_begun = threading.Event()

    def write_second() -> None:
        second_has_begun.set()
        with database.begin():
            order.append("second")

    with database.begin() as connection:
        connection.execute(sa.insert(deployment).values(id=1, uuid="u", created_at=NOW))
        thread = threading.Thread(target=write_second)
        thread.start()
        assert second_has_begun.wait(10)
        thread.join(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_a_reader_sees_one_moment_and_holds_up_no_writer(database: Database) -> None:
    with database.read() as reader:
        before = reader.scalar(sa.select(sa.func.count()).select_from(deployment))
        with database.begin() as writer:
            writer.execute(sa.insert(deployment).values(id=1, uuid="u", created_at=NOW))
        assert reader.scalar(sa.select(sa.func.count()).select_from(deployment)) == before == 0
    with database.read() as reader:
        assert reader.scalar(sa.select(deployment.c.uuid)) == "u"


def test_a_reader_cannot_write_and_the_next_writer_can(database: Database) -> None:
    row = sa.insert(deployment).values(id=1, uuid="u", created_at=NOW)
    with pytest.raises((sa.exc.DBAPIError, DatabaseAway)), database.read() as reader:
        reader.execute(row)
    for _ in range(2):
        with database.begin() as writer:
            writer.execute(row)
            writer.execute(sa.delete(deployment))


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="power cut"), database.begin() as connection:
        connection.execute(sa.insert(deployment).values(id=1, uuid="u", created_at=NOW))
        raise RuntimeError("power cut")
    with database.read() as reader:
        assert reader.scalar(sa.select(deployment.c.uuid)) is None


def test_a_fault_never_quotes_the_values_it_was_about(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError) as raised, database.begin() as connection:
        for _ in range(2):
            connection.execute(sa.insert(deployment).values(id=1, uuid="DOE^JANE", created_at=NOW))
    assert "DOE^JANE" not in str(raised.value)


def test_a_server_that_accepts_and_says_nothing_is_away_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database.open(f"postgresql+psycopg://node@127.0.0.1:{silent.getsockname()[1]}/node")
        began = time.monotonic()
        with pytest.raises(DatabaseAway), database.read():
            pass
        assert time.monotonic() - began < 3 * CONNECT_S
        database.close()


def test_both_sides_of_a_connection_notice_that_the_other_machine_is_gone(postgresql_url: sa.URL) -> None:
    database = Database.open(address(postgresql_url))
    with database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        ours = raw.info.get_parameters()
        asked = connection.exec_driver_sql("SELECT name, reset_val FROM pg_settings WHERE source = 'client'")
        theirs = {row.name: row.reset_val for row in asked}
    database.close()
    assert (ours["connect_timeout"], ours["tcp_user_timeout"], ours["keepalives_idle"]) == ("5", "10000", "4")
    assert {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"} <= set(theirs)
    assert (theirs["idle_in_transaction_session_timeout"], theirs["idle_session_timeout"]) == ("120000", "0")


def test_words_of_the_address_go_before_ours(postgresql_url: sa.URL) -> None:
    url = postgresql_url.update_query_dict({"connect_timeout": "3", "options": "-c work_mem=5MB"})
    with Database.open(address(url)).engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None and raw.info.get_parameters()["connect_timeout"] == "3"
        assert connection.exec_driver_sql("SHOW work_mem").scalar() == "5MB"
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "2min"
