"""Copies of stored instances on this machine's own disk: bounded, the least recently used goes first."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.instance_files import disk_faults

LOG = logging.getLogger(__name__)
LONGEST_MARK = 64
LOOKS_PER_LIMIT = 20
"""The folder is looked through once for so many parts of the limit; between two looks it may grow by one part."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy on this disk. mark: the store's own name for the bytes (ETag); "": it can never be asked again."""

    path: Path
    mark: str


class FileCache:
    """The folder of copies; all processes of this machine share it.

    What was used within `in_use_s` seconds is never removed, also when the limit is exceeded by it: a job that has
    asked for its files must find them when it opens them.
    """

    def __init__(self, folder: Path, *, limit_bytes: int, in_use_s: float) -> None:
        self._folder, self._limit_bytes, self._in_use_s = folder, limit_bytes, in_use_s
        for place in [folder, *(folder / f"{first_byte:02x}" for first_byte in range(256))]:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.chmod(0o700)
        self._counting = threading.Lock()
        self._unseen_bytes = limit_bytes  # so that the first addition looks

    def find(self, name: str) -> Copy | None:
        """The newest copy of that name; it is not in use yet and may go at any moment."""
        found: list[tuple[int, str]] = []
        with os.scandir(self._folder / name[:2]) as entries:
            for entry in entries:
                if entry.name.startswith(f"{name}.") and entry.name.endswith(".dcm"):
                    try:
                        found.append((entry.stat().st_ctime_ns, entry.name))
                    except FileNotFoundError:
                        continue
        if not found:
            return None
        newest = max(found)[1]
        return Copy(self._folder / name[:2] / newest, _mark_of(newest))

    def use(self, copy: Copy) -> bool:
        """Whether the copy is there; it then stays for the next `in_use_s` seconds."""
        try:
            with _locked(copy.path, fcntl.LOCK_SH) as descriptor:
                os.utime(descriptor)
                return copy.path.exists()
        except FileNotFoundError:
            return False

    def keep(self, name: str, mark: str | None, content: bytes | memoryview) -> Copy:
        """The bytes as a copy in use; other copies of that name are gone. Raises StorageFull."""
        part = self._folder / f"{uuid.uuid4().hex}.part"
        with disk_faults(name):
            try:
                descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fdatasync(file.fileno())  # a copy that a power cut emptied would be taken for the instance
                kept = self._put_in(name, mark, part)
            finally:
                part.unlink(missing_ok=True)
        self._count(len(content))
        return kept

    def adopt(self, name: str, mark: str | None, path: Path) -> Copy:
        """A durable file as a copy that is not in use: the first to go when room is needed. The file itself stays."""
        with disk_faults(name):
            known = self.find(name)
            size_bytes = path.stat().st_size
            try:
                kept = self._put_in(name, mark, path)
            except OSError as fault:
                if fault.errno != errno.EXDEV:
                    raise
                return self.keep(name, mark, path.read_bytes())  # the cache has a disk of its own
            if known is None or known.path != kept.path:
                before = time.time() - self._in_use_s
                with contextlib.suppress(FileNotFoundError):  # another was in need of its room already
                    os.utime(kept.path, (before, before))
        self._count(size_bytes)
        return kept

    def drop(self, name: str) -> None:
        """No copy of that name is here."""
        for path in (self._folder / name[:2]).glob(f"{name}.*.dcm"):
            path.unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """How much the copies take."""
        return sum(size for _, size, _ in self._copies())

    def _put_in(self, name: str, mark: str | None, path: Path) -> Copy:
        usable = mark is not None and 0 < len(mark.encode()) <= LONGEST_MARK
        tag = f"e{mark.encode().hex()}" if usable and mark is not None else f"u{uuid.uuid4().hex}"
        final = self._folder / name[:2] / f"{name}.{tag}.dcm"
        kept = Copy(final, _mark_of(final.name))
        while True:
            try:
                final.hardlink_to(path)
                break
            except FileExistsError:
                if self.use(kept):
                    break  # else it was removed in this moment
        for other in final.parent.glob(f"{name}.*.dcm"):
            if other != final:
                other.unlink(missing_ok=True)
        return kept

    def _count(self, size_bytes: int) -> None:
        with self._counting:
            self._unseen_bytes += size_bytes
            if self._unseen_bytes * LOOKS_PER_LIMIT < self._limit_bytes:
                return
            self._unseen_bytes = 0
            self._make_room()

    def _make_room(self) -> None:
        """Below the limit by the part that may come until the next look, as far as nothing in use must go."""
        copies = sorted(self._copies())
        taken = sum(size for _, size, _ in copies)
        allowed = self._limit_bytes - self._limit_bytes // LOOKS_PER_LIMIT
        for _, size, path in copies:
            if taken <= allowed:
                return
            if self._remove(path):
                taken -= size
        if taken > self._limit_bytes:
            LOG.warning(
                "cache: %.1f GB were used within %.0f s, more than cache_gb of node.toml allows",
                taken / 1e9,
                self._in_use_s,
            )

    def _remove(self, path: Path) -> bool:
        try:
            with _locked(path, fcntl.LOCK_EX) as descriptor:
                if time.time() - os.fstat(descriptor).st_mtime < self._in_use_s:
                    return False
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def _copies(self) -> Iterator[tuple[int, int, Path]]:
        """Last use in ns, size in bytes and place of every copy."""
        for folder in self._folder.iterdir():
            if not folder.is_dir():
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        facts = entry.stat()
                    except FileNotFoundError:
                        continue
                    yield facts.st_mtime_ns, facts.st_size, Path(entry.path)

    def sweep_parts(self) -> None:
        """What a dead process left half-written an hour ago is gone."""
        for part in self._folder.glob("*.part"):
            try:
                if time.time() - part.stat().st_mtime > 3600:
                    part.unlink()
            except FileNotFoundError:
                continue


def _mark_of(file_name: str) -> str:
    tag = file_name.rsplit(".", 2)[1]
    return bytes.fromhex(tag[1:]).decode() if tag.startswith("e") else ""


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    """The file, open and locked: who touches it and who removes it never do so at the same moment.

    Raises BlockingIOError for an exclusive lock that another holds.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind if kind == fcntl.LOCK_SH else kind | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)
