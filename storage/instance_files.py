"""Instances as files: whole or not there, durable before anybody hears success, and never under a name a peer chose."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from storage.errors import InstanceConflict, StorageFull
from storage.folder_sync import FolderSync, sync_folder

_DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS})
_BLOCK = 1 << 18


class Kept(StrEnum):
    """What became of an instance that arrived."""

    NEW = "new"
    SAME = "same"


class Part:
    """A half-written file in `incoming`: `write` its bytes; it is gone at the end, so link it to keep it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.part"
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # says to sweep_parts that its writer lives

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, chunk: bytes | memoryview) -> None:
        """Every byte of the chunk is in the file."""
        _write_whole(self._descriptor, chunk)

    def sync(self) -> None:
        """The bytes written so far are durable."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """The part is gone; twice is harmless."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


class Arrival:
    """An instance that is being received: `write` its bytes, then `keep` it; `close` it in any case."""

    def __init__(self, files: InstanceFiles, sop_instance_uid: str, part: Part) -> None:
        self._files, self._sop_instance_uid, self._part = files, sop_instance_uid, part

    def write(self, chunk: bytes | memoryview) -> None:
        """The next bytes. Raises StorageFull when the disk does not take them."""
        with disk_faults(self._sop_instance_uid):
            self._part.write(chunk)

    def written(self) -> BinaryIO:
        """What was written so far, to read."""
        return self._part.path.open("rb")

    def keep(self) -> Kept:
        """Durable when this returns; raises as `keep_arrival` does."""
        return self._files.keep_part(self._sop_instance_uid, self._part)

    def close(self) -> None:
        """What was not kept is gone; twice is harmless."""
        self._part.close()


class InstanceFiles:
    """Folders of instance files under one root.

    arrivals: durable, not yet in the catalogue; instances: in the catalogue; incoming: being written; quarantine.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._arrivals, self._instances = root / "arrivals", root / "instances"
        self._incoming, self._quarantine = root / "incoming", root / "quarantine"
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folders = [self._arrivals, self._instances, self._incoming, self._quarantine]
        for folder in [*folders, *(self._instances / f"{first_byte:02x}" for first_byte in range(256))]:
            folder.mkdir(exist_ok=True, mode=0o700)
            folder.chmod(0o700)
        sync_folder(self._instances)
        sync_folder(root)
        with suppress(PermissionError):  # where we may not look we have not made it either
            sync_folder(root.parent)
        self._arrivals_sync = FolderSync(self._arrivals)
        self._untidy: dict[str, Path] = {}
        """Name among the arrivals -> where the same file is settled."""
        self._left: set[str] = set()
        """Names whose folder could not be synced: they stay until the next start."""

    def open_arrival(self, sop_instance_uid: str) -> Arrival:
        """An instance to be written piece by piece. Raises StorageFull when the disk does not take it."""
        file_name(sop_instance_uid)
        with disk_faults(sop_instance_uid):
            return Arrival(self, sop_instance_uid, Part(self._incoming))

    def keep_part(self, sop_instance_uid: str, part: Part) -> Kept:
        """A written part becomes the instance; as `keep_arrival`."""
        return self._keep(sop_instance_uid, part, self._arrivals / file_name(sop_instance_uid))

    def keep_arrival(self, sop_instance_uid: str, chunks: Iterable[bytes | memoryview]) -> Kept:
        """The received bytes, durable when this returns; SAME when that data set is here already.

        Raises InstanceConflict when the UID has another data set, StorageFull when the disk does not take it;
        then nothing of this call is left.
        """
        with disk_faults(sop_instance_uid), self._written(chunks) as part:
            return self.keep_part(sop_instance_uid, part)

    def keep_derived(self, sop_instance_uid: str, content: bytes) -> str:
        """SHA-256 (hex) of the derived instance's file, durable among the instances; twice is harmless.

        Raises InstanceConflict when the UID has another data set, StorageFull when the disk does not take it.
        """
        with disk_faults(sop_instance_uid), self._written([content]) as part:
            self._keep(sop_instance_uid, part, self._places(sop_instance_uid)[0])
        return self.sha256_of(self.path_of(sop_instance_uid))

    def arrivals(self, most: int | None = None) -> list[Path]:
        """Files that wait to be listed in the catalogue, oldest first; not more than `most`."""
        done = self._untidy.keys() | self._left
        with os.scandir(self._arrivals) as entries:
            names = [entry for entry in entries if entry.name.endswith(".dcm") and entry.name not in done]
            found = [(entry.stat().st_mtime_ns, entry.name) for entry in names]
        return [self._arrivals / name for _, name in sorted(found)[:most]]

    def coming(self) -> list[Path]:
        """Files that are being written; one that is kept is among the arrivals before it is gone from here."""
        with os.scandir(self._incoming) as entries:
            return [self._incoming / entry.name for entry in entries if entry.name.endswith(".part")]

    def settle(self, sop_instance_uid: str) -> Path:
        """Where the instance lies for good, after its catalogue row is committed; twice is harmless.

        Raises InstanceConflict, once, for an arrival that differs from what is there; it then lies in quarantine.
        """
        for fault in self.settle_all([sop_instance_uid]).values():
            raise fault
        self.tidy()
        return self._places(sop_instance_uid)[0]

    def settle_all(self, sop_instance_uids: Iterable[str]) -> dict[str, InstanceConflict | FileNotFoundError]:
        """Each lies where it lies for good, after its catalogue row is committed; its other name goes at `tidy`.

        Given are those that could not: an arrival that differs from what is there, which then lies in quarantine,
        and one that is nowhere. Raises StorageFull when the disk does not take a name; what was done stays done.
        """
        faults: dict[str, InstanceConflict | FileNotFoundError] = {}
        for uid in sop_instance_uids:
            try:
                self._settle(uid)
            except (InstanceConflict, FileNotFoundError) as fault:
                faults[uid] = fault
            except StorageFull:
                if not faults:
                    raise
                break  # what was found so far must be told; the others wait among the arrivals
        return faults

    def _settle(self, sop_instance_uid: str) -> None:
        settled, arrived = self._places(sop_instance_uid)
        with disk_faults(sop_instance_uid):
            try:
                # Linked now, unlinked later: at no moment is there no file of this name.
                settled.hardlink_to(arrived)
            except FileExistsError:
                if arrived.exists() and not settled.samefile(arrived) and not same_data_set(arrived, settled):
                    # Left by a power cut between link and comparison: its sender never heard success.
                    self.quarantine(arrived, conflict_words(sop_instance_uid))
                    raise InstanceConflict(conflict_words(sop_instance_uid)) from None
            except FileNotFoundError:
                if not settled.exists():
                    raise FileNotFoundError(f"instance {sop_instance_uid} has no file to settle") from None
        self._untidy[arrived.name] = settled

    def tidy(self) -> None:
        """The second names of what is settled are gone; the first are durable before. Twice is harmless.

        Many at once: each folder is synced once for all of them. When that fails nothing is unlinked, neither now nor
        later: the kernel reports a lost write once, so that a second fsync could succeed with the name lost. Such
        files are settled again at the next start.
        """
        untidy, self._untidy = self._untidy, {}
        self._left |= untidy.keys()
        for folder in sorted({settled.parent for settled in untidy.values()}):
            sync_folder(folder)
        for name, settled in untidy.items():
            if settled.exists():  # else it was taken away meanwhile, and came again
                (self._arrivals / name).unlink(missing_ok=True)
        self._left -= untidy.keys()

    @property
    def untidy(self) -> int:
        """How many settled instances still have their name among the arrivals."""
        return len(self._untidy)

    def path_of(self, sop_instance_uid: str) -> Path:
        """The instance's file; FileNotFoundError when there is none."""
        settled, arrived = self._places(sop_instance_uid)
        for path in (settled, arrived, settled):  # it may be settled between two looks
            if path.exists():
                return path
        raise FileNotFoundError(f"no file of instance {sop_instance_uid} is under {self._root}")

    def paths_of(self, sop_instance_uids: Sequence[str]) -> list[Path]:
        """The files of several instances, in their order; as `path_of`."""
        return [self.path_of(uid) for uid in sop_instance_uids]

    def places_of(self, sop_instance_uid: str) -> tuple[Path, Path]:
        """Where the instance lies once it is listed and where until then, whether or not it is there."""
        return self._places(sop_instance_uid)

    def quarantined(self) -> int:
        """How many files lie in quarantine."""
        with os.scandir(self._quarantine) as entries:
            return sum(not entry.name.endswith(".reason.txt") for entry in entries)

    def quarantine(self, path: Path, reason: str) -> Path:
        """Where the file lies now, out of the way, with `<name>.reason.txt` beside it; nothing is ever overwritten."""
        if path.parent != self._arrivals and self._instances not in path.parents:
            raise ValueError(f"{path} is not an instance file of {self._root}")
        with disk_faults(path.name):
            kept, number = self._quarantine / path.name, 1
            while kept.exists() and not kept.samefile(path) and self.sha256_of(kept) != self.sha256_of(path):
                number += 1
                kept = self._quarantine / f"{path.stem}-{number}{path.suffix}"
            note = kept.with_name(f"{kept.name}.reason.txt")
            with self._written([reason.encode("utf-8", "replace") + b"\n"]) as part:
                part.sync()
                part.path.replace(note)
            if not kept.exists():
                kept.hardlink_to(path)
            sync_folder(self._quarantine)
            path.unlink()
            sync_folder(path.parent)
        return kept

    def sweep_parts(self, *, older_than_s: float = 0.0) -> int:
        """How many half-written files of dead writers were removed; a living writer holds a lock on its own.

        older_than_s: while others write, a few seconds, for the moment between a file and its lock.
        """
        removed = 0
        for part in self._incoming.glob("*.part"):
            try:
                if time.time() - part.stat().st_mtime < older_than_s:
                    continue
                descriptor = os.open(part, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
                removed += 1
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
        return removed

    def sha256_of(self, path: Path) -> str:
        """SHA-256 (hex) of the file's bytes."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _keep(self, sop_instance_uid: str, part: Part, final: Path) -> Kept:
        with disk_faults(sop_instance_uid):
            part.sync()
            others = [place for place in self._places(sop_instance_uid) if place != final]
            if any(other.exists() for other in others):
                return self._compare(sop_instance_uid, part.path)
            try:
                final.hardlink_to(part.path)
            except FileExistsError:
                return self._compare(sop_instance_uid, part.path)
            if any(other.exists() and not other.samefile(final) for other in others):
                final.unlink(missing_ok=True)  # the first copy was settled between our look and our link
                return self._compare(sop_instance_uid, part.path)
            self._sync_folder(final.parent)
            return Kept.NEW

    def _sync_folder(self, folder: Path) -> None:
        """The names in the folder are durable; those of arrivals together, for the many who receive at once."""
        if folder == self._arrivals:
            self._arrivals_sync.sync()
        else:
            sync_folder(folder)

    def _compare(self, sop_instance_uid: str, part: Path) -> Kept:
        """SAME, when the first copy is as durable as was promised, or InstanceConflict."""
        known, same = self._wanted_again(sop_instance_uid, part)
        if not same:
            raise InstanceConflict(conflict_words(sop_instance_uid))
        self._sync_folder(known.parent)
        return Kept.SAME

    def _wanted_again(self, sop_instance_uid: str, part: Path) -> tuple[Path, bool]:
        """The first copy, and whether it holds the same data set; if so, retention sees that it is wanted again."""
        for _ in range(3):  # between two looks it may be settled, once
            try:
                known = self.path_of(sop_instance_uid)
                same = same_data_set(part, known)
                if same:
                    os.utime(known)
                    if not known.exists():  # taken away while it was touched: nobody may have seen the touch
                        continue
                return known, same
            except FileNotFoundError:
                continue
        # retention took it in this moment: the sender tries again
        raise StorageFull(f"instance {sop_instance_uid} was being removed; send it again")

    @contextmanager
    def _written(self, chunks: Iterable[bytes | memoryview]) -> Iterator[Part]:
        """A part with these bytes."""
        with Part(self._incoming) as part:
            for chunk in chunks:
                part.write(chunk)
            yield part

    def _places(self, sop_instance_uid: str) -> tuple[Path, Path]:
        name = file_name(sop_instance_uid)
        return self._instances / name[:2] / name, self._arrivals / name


def file_name(sop_instance_uid: str) -> str:
    """The file name of an instance: a UID comes from a peer and is never a path."""
    if not sop_instance_uid:
        raise ValueError("an instance without a SOP Instance UID has no file")
    return hashlib.sha256(sop_instance_uid.encode("utf-8", "surrogatepass")).hexdigest() + ".dcm"


def conflict_words(sop_instance_uid: str) -> str:
    """What is said of an instance that came again with other content."""
    return f"instance {sop_instance_uid} came again with another data set; the first copy is kept"


@contextmanager
def disk_faults(what: str) -> Iterator[None]:
    """StorageFull for a disk that does not take the write."""
    try:
        yield
    except OSError as fault:
        if fault.errno in _DISK_FAULTS:
            raise StorageFull(f"{what}: the disk does not take it: {os.strerror(fault.errno)}; free space") from fault
        raise


def _write_whole(descriptor: int, chunk: bytes | memoryview) -> None:
    """Every byte of the chunk: a disk that fills up takes a part of it without a fault.

    No view of the chunk outlives the call, not even in a traceback: its owner could not release its buffer.
    """
    written = 0
    with memoryview(chunk) as whole, whole.cast("B") as octets:
        while written < len(octets):
            with octets[written:] as rest:
                written += os.write(descriptor, rest)


def same_data_set(one: Path, other: Path) -> bool:
    """Whether two files hold the same data set; their File Meta may name different senders."""
    with one.open("rb") as first, other.open("rb") as second:
        first.seek(data_set_offset(first.read(144), one.stat().st_size))
        second.seek(data_set_offset(second.read(144), other.stat().st_size))
        while True:
            block = first.read(_BLOCK)
            if block != second.read(_BLOCK):
                return False
            if not block:
                return True


def data_set_offset(head: bytes, size_bytes: int) -> int:
    """Where the data set begins (PS3.10 7.1: the File Meta's group length is its first element); 0 when unsaid."""
    if len(head) < 144 or head[128:132] != b"DICM" or head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        return 0
    offset = 144 + int.from_bytes(head[140:144], "little")
    return offset if offset <= size_bytes else 0
