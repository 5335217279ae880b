"""The one door to SQL: opens SQLite or PostgreSQL, one writer at a time, and brings the tables up to date."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from storage.errors import DatabaseAway
from storage.schema import deployment

Connection = sa.Connection
"""What `begin` and `read` give, for rooms that hand it on and never look inside."""
NEWEST = "0001"
"""The last of migrations/versions."""
BUSY_S = 30
CONNECT_S, DEAD_S, STUCK_S = 5, 10, 120
"""Waits for a connection; for a machine that is gone; for a transaction whose program stands still."""
_WRITER_LOCK = 0x6469636F6D6E6F64  # "dicomnod": the advisory lock every writer on PostgreSQL holds to its commit
_OUR_SIDE = {
    "connect_timeout": CONNECT_S,
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": DEAD_S * 1000,
}
"""libpq's own: a server that vanished without a word is noticed in DEAD_S seconds, not in the system's two hours."""
_THEIR_SIDE = (
    "tcp_keepalives_idle=4",
    "tcp_keepalives_interval=2",
    "tcp_keepalives_count=3",
    f"tcp_user_timeout={DEAD_S * 1000}",
    f"idle_in_transaction_session_timeout={STUCK_S * 1000}",
    "idle_session_timeout=0",
)
"""The session's own: the locks of a machine that vanished are free in DEAD_S seconds; those of an idle one stay."""


def open_engine(url: str) -> sa.Engine:
    """An engine whose commits survive a power cut: SQLite in a file of mode 0600, or PostgreSQL.

    On SQLite every transaction is BEGIN IMMEDIATE unless its connection has the execution option `reads_only`.
    """
    parsed = sa.make_url(url)
    dialect = parsed.get_backend_name()
    # hide_parameters: a fault's message goes to the log, and parameters may hold what names a patient.
    if dialect == "postgresql":
        return sa.create_engine(
            parsed,
            pool_pre_ping=True,
            pool_timeout=DEAD_S,
            connect_args=_patience(parsed),
            hide_parameters=True,
            json_serializer=_json,
        )
    if dialect != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ValueError(f"{parsed.render_as_string()}: the database must be an SQLite file or PostgreSQL")
    _make_private_file(Path(parsed.database))
    engine = sa.create_engine(
        parsed, connect_args={"timeout": BUSY_S}, hide_parameters=True, json_serializer=_json, pool_pre_ping=False
    )
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _patience(url: sa.URL) -> dict[str, Any]:
    """What a connection is opened with, so that nobody waits for a database that is gone; the URL's own words win."""
    given = url.query.get("options", "")
    ours = {name: value for name, value in _OUR_SIDE.items() if name not in url.query}
    return ours | {
        "options": " ".join(
            [*(f"-c {setting}" for setting in _THEIR_SIDE), given if isinstance(given, str) else " ".join(given)]
        ).strip()
    }


class Database:
    """The open database; every thread and process may write, one at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str) -> Self:
        """The database at `url`; its tables are as they were left until `migrate`."""
        return cls(open_engine(url))

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A connection in a write transaction: the only one until it ends, on SQLite and on PostgreSQL alike."""
        with database_faults(), self.engine.begin() as connection:
            take_writer_lock(connection)
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one consistent moment, holds up no writer and cannot write."""
        options: dict[str, Any] = {"reads_only": True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            database_faults(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    def migrate(self) -> None:
        """Bring the tables to this program's version; two processes may start at once."""
        with self.begin() as connection:
            if _version(connection) != [NEWEST]:
                _upgrade(connection)

    def deployment_uuid(self) -> str:
        """This installation's own name: made once, kept in the database."""
        with self.begin() as connection:
            known: str | None = connection.scalar(sa.select(deployment.c.uuid))
            if known is not None:
                return known
            made = str(uuid.uuid4())
            connection.execute(sa.insert(deployment).values(id=1, uuid=made, created_at=datetime.now(UTC)))
            return made


def _version(connection: sa.Connection) -> Sequence[str]:
    """The migrations that the tables are at, as Alembic wrote them down: none before the first."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return []
    return connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()


def _upgrade(connection: sa.Connection) -> None:
    # Loaded here: the node's other processes find the tables brought up to date, and Alembic takes 0.25 s to load.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def database_faults() -> Iterator[None]:
    """DatabaseAway for a database that is locked, full, unreadable or out of reach."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as fault:
        raise DatabaseAway(f"the database does not answer: {_first_line(fault.orig)}") from fault
    except sa.exc.TimeoutError as fault:  # of the pool: every connection of this process is taken
        raise DatabaseAway(f"no connection to the database was free for {DEAD_S} s") from fault


def _first_line(fault: object) -> str:
    return next(iter(str(fault).strip().splitlines()), type(fault).__name__)


def take_writer_lock(connection: sa.Connection) -> None:
    """PostgreSQL's twin of BEGIN IMMEDIATE: waits for the writer before us, held until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT set_config('lock_timeout', :busy, true), pg_advisory_xact_lock(:key)"),
            {"busy": f"{BUSY_S}s", "key": _WRITER_LOCK},
        )


def _json(value: object) -> str:
    """JSON that both databases read back: NaN and infinity are refused."""
    return json.dumps(value, allow_nan=False)


def _make_private_file(path: Path) -> None:
    """Make the empty database file with mode 0600; SQLite gives its -wal and -shm the same mode."""
    if not path.exists():
        # Made under another name first: closing a file SQLite has open would drop the locks this process holds on it.
        made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            path.hardlink_to(made)
        except FileExistsError:
            pass  # another process made it in this moment
        finally:
            made.unlink()
    path.chmod(0o600)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Durable and shared: WAL, every commit synced, waiting for the writer before us, foreign keys checked."""
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # the change to WAL does not wait for a second process doing the same
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    """Writers take the lock at once; readers get a snapshot and cannot write."""
    reads_only = bool(connection.get_execution_options().get("reads_only"))
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
