"""Locks that die with their holder: who holds an executor's lock is alive, whoever gets it knows that it is dead."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from storage.database import Database, database_faults


@dataclass(slots=True)
class FileLock:
    """A flock on an open file; the kernel lets go of it when the process ends, however it ends."""

    descriptor: int

    def release(self) -> None:
        """Another may have it."""
        os.close(self.descriptor)

    def lost(self) -> bool:
        """Never: the kernel takes it from nobody who lives."""
        return False


@dataclass(slots=True)
class SessionLock:
    """An advisory lock of a PostgreSQL session; the server lets go of it when the session ends."""

    connection: sa.Connection
    ended: bool = False

    def release(self) -> None:
        """Another may have it."""
        try:
            self.connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")  # now, not when the server sees us gone
        except sa.exc.SQLAlchemyError:
            self.ended = True
        self.connection.invalidate()  # ends the session itself: a pooled connection would keep the lock
        self.connection.close()

    def lost(self) -> bool:
        """Whether the session has ended, by the server or the net between: another may have the lock by now.

        Its holder asks every few seconds; asking also shows the server that we live. Not for two threads at once.
        """
        if not self.ended:
            try:
                self.connection.exec_driver_sql("SELECT 1")
            except sa.exc.SQLAlchemyError:
                self.ended = True  # never asked again: SQLAlchemy would open a new session, without the lock
        return self.ended


def take_lock(database: Database, folder: Path, name: str) -> FileLock | SessionLock | None:
    """The lock of that name, or None while another process holds it; never waits. Raises DatabaseAway.

    On PostgreSQL it is a lock of the database, so that all machines of a site see it; else a file in `folder`.
    """
    if database.engine.dialect.name != "postgresql":
        return take_file_lock(folder, name)
    with database_faults():
        connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            key = int.from_bytes(_digest(name)[:8], signed=True)
            had = connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
        except BaseException:
            connection.invalidate()  # it may have been given all the same: the session ends with it
            connection.close()
            raise
    if had:
        return SessionLock(connection)
    connection.close()
    return None


def take_file_lock(folder: Path, name: str) -> FileLock | None:
    """The lock of that name in a folder, or None while another process holds it: what is about the folder itself."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{_digest(name).hex()[:32]}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return FileLock(descriptor)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
