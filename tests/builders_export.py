"""What tests of the export arrange with: a node that has received series, with their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom import dcmread

from dicomnode.headers import header_values
from storage import catalog
from storage.catalog import Instance
from storage.database import Database
from storage.instance_files import InstanceFiles

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Holding:
    """A database and the files of what is in its catalogue."""

    database: Database
    files: InstanceFiles

    def receive(self, paths: Sequence[Path]) -> list[Instance]:
        """The instances of these files are stored and listed."""
        made = []
        for path in paths:
            dataset = dcmread(path, stop_before_pixels=True)
            uid = str(dataset.SOPInstanceUID)
            self.files.keep_arrival(uid, [path.read_bytes()])
            stored = self.files.settle(uid)
            made.append(
                Instance(
                    uid,
                    str(dataset.SOPClassUID),
                    str(dataset.file_meta.TransferSyntaxUID),
                    str(dataset.SeriesInstanceUID),
                    str(dataset.StudyInstanceUID),
                    "scanner",
                    NOW,
                    self.files.sha256_of(stored),
                    stored.stat().st_size,
                    header_values(dataset),
                )
            )
        with self.database.begin() as connection:
            catalog.add_instances(connection, made)
        return made
