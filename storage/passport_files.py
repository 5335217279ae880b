"""Passports as files: one JSON text per derived series, durable before the audit row that speaks of it."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from storage.folder_sync import sync_folder
from storage.instance_files import disk_faults


class PassportFiles:
    """The folder `passports` under the root of the data."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "passports"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, series_instance_uid: str, sha256: str, text: str) -> Path:
        """Where the passport lies, durable; one with another content of the same series lies beside it.

        sha256: of the body, as the audit's row has it, so that a run that came to nothing harms no earlier passport.

        Raises StorageFull when the disk does not take it.
        """
        path = self._path(series_instance_uid, sha256)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        with disk_faults(series_instance_uid):
            path.parent.mkdir(exist_ok=True, mode=0o700)
            try:
                with open(part, "x", encoding="ascii", opener=_private) as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            sync_folder(path.parent)
            sync_folder(self._folder)
        return path

    def read(self, series_instance_uid: str, sha256: str) -> str:
        """The passport's text; FileNotFoundError when the series has none of this content."""
        return self._path(series_instance_uid, sha256).read_text(encoding="ascii")

    def _path(self, series_instance_uid: str, sha256: str) -> Path:
        name = passport_name(series_instance_uid, sha256)
        return self._folder / name[:2] / name


def passport_name(series_instance_uid: str, sha256: str) -> str:
    """The file name of a passport; a UID is never a path."""
    return hashlib.sha256(f"{series_instance_uid} {sha256}".encode("utf-8", "surrogatepass")).hexdigest() + ".json"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
