"""How what is done with leaves an object store, without taking what comes again in the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from storage import catalog
from storage.catalog import CHUNK
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.job_rows import find_jobs
from storage.object_files import ObjectFiles
from storage.retention import DONE_WITH, Remover
from storage.schema import jobs as job_table


class ObjectRemover(Remover):
    """As on a disk: a note, then the rows, then the objects, then the note.

    An object cannot be set aside as a file can. So it goes within a write transaction, in which the catalogue does not
    list it and no job of its family is to be done: whoever lists or derives it anew does so before, and it stays, or
    after, and puts it anew. The store has a few seconds for it, once; else the note stays for the next sweep.
    """

    def __init__(self, database: Database, files: ObjectFiles, folder: Path) -> None:
        super().__init__(database, files, folder)
        self._objects = files

    def _finish(self, path: Path, noted: dict[str, Any]) -> None:
        uids = [str(one[0]) for one in noted["instances"]]
        for first in range(0, len(uids), CHUNK):
            with self._database.begin() as connection:
                if _is_wanted(connection, [str(noted["series_instance_uid"]), *noted.get("members", [])]):
                    return  # once that job is over its series is listed, or is gone through again
                chunk = uids[first : first + CHUNK]
                listed = catalog.known_instances(connection, chunk)
                self._objects.remove([uid for uid in chunk if uid not in listed])
        self._drop_note(path)

    def _modified_ns(self, sop_instance_uid: str) -> int | None:
        """That of an arrival: the store is not asked for each instance."""
        try:
            return self._files.places_of(sop_instance_uid)[1].stat().st_mtime_ns
        except FileNotFoundError:
            return None


def open_remover(database: Database, files: InstanceFiles, folder: Path) -> Remover:
    """The remover for where the instances lie."""
    return (
        ObjectRemover(database, files, folder) if isinstance(files, ObjectFiles) else Remover(database, files, folder)
    )


def _is_wanted(connection: sa.Connection, series_instance_uids: Sequence[str]) -> bool:
    """Whether a job on one of these series is not over."""
    ours = job_table.c.series_instance_uid.in_(list(series_instance_uids))
    return bool(find_jobs(connection, ours & job_table.c.state.not_in(DONE_WITH)))
