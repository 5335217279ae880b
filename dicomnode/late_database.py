"""The database for a receiving process: opened at the first request that asks for it, never for a C-STORE."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.database import Connection, Database


class LateDatabase:
    """A database that may be away: every use raises DatabaseAway then, and the next one tries anew."""

    def __init__(self, url: Callable[[], str]) -> None:
        """url: asked once, when the database is first needed; the node has brought its tables up to date."""
        self._url = url
        self._database: Database | None = None
        self._lock = threading.Lock()

    def open(self) -> Database:
        """The database; the same one for all threads."""
        # Imported here: a receiver that never answers a query does without SQLAlchemy (25 MB, 0.3 s).
        from storage.database import Database

        with self._lock:
            if self._database is None:
                self._database = Database.open(self._url())
            return self._database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As Database.read: one consistent moment, no writer is held up."""
        with self.open().read() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As Database.begin: a write transaction of a few lines."""
        with self.open().begin() as connection:
            yield connection

    def close(self) -> None:
        """Every connection is given back; the next use opens it anew."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None
