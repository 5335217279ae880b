"""Locks that die with their holder: who holds an executor's lock is alive, whoever gets it knows that it is dead."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from storage.database import Database


@dataclass(slots=True)
class FileLock:
    """A flock on an open file; the kernel lets go of it when the process ends, however it ends."""

    descriptor: int

    def release(self) -> None:
        """Another may have it."""
        os.close(self.descriptor)


@dataclass(slots=True)
class SessionLock:
    """An advisory lock of a PostgreSQL session; the server lets go of it when the session ends."""

    connection: sa.Connection

    def release(self) -> None:
        """Another may have it."""
        self.connection.invalidate()  # ends the session itself: a pooled connection would keep the lock
        self.connection.close()


def take_lock(database: Database, folder: Path, name: str) -> FileLock | SessionLock | None:
    """The lock of that name, or None while another process holds it; never waits.

    On PostgreSQL it is a lock of the database, so that all machines of a site see it; else a file in `folder`.
    """
    digest = hashlib.sha256(name.encode()).digest()
    if database.engine.dialect.name == "postgresql":
        connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        key = int.from_bytes(digest[:8], signed=True)
        if connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
            return SessionLock(connection)
        connection.close()
        return None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{digest.hex()[:32]}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return FileLock(descriptor)
