"""Passports as files: one JSON text per derived series, durable before the audit row that speaks of it."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from storage.instance_files import disk_faults, sync_folder


class PassportFiles:
    """The folder `passports` under the root of the data."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "passports"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, series_instance_uid: str, text: str) -> Path:
        """Where the passport lies, durable; a newer one of the same series takes its place as a whole.

        Raises StorageFull when the disk does not take it.
        """
        path = self._path(series_instance_uid)
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

    def read(self, series_instance_uid: str) -> str:
        """The passport's text; FileNotFoundError when the series has none."""
        return self._path(series_instance_uid).read_text(encoding="ascii")

    def _path(self, series_instance_uid: str) -> Path:
        name = hashlib.sha256(series_instance_uid.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / name[:2] / f"{name}.json"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
