"""Instances in an object store: what arrives is durable here first, and leaves this disk once the store has it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

from storage.errors import InstanceConflict, ObjectUnfit, StorageFull, StoreAway
from storage.file_cache import Copy, FileCache
from storage.instance_files import (
    InstanceFiles,
    Kept,
    Part,
    conflict_words,
    data_set_offset,
    file_name,
    same_data_set,
)
from storage.object_store import ObjectStore
from storage.passport_files import PassportFiles, passport_name

T = TypeVar("T")
LOG = logging.getLogger(__name__)
AT_ONCE = 8
"""Requests of one call that are under way together."""


class ObjectFiles(InstanceFiles):
    """Arrivals, quarantine and what is being written lie under the root; instances lie in the store.

    A copy of what was put or fetched stays in the cache. It is asked about each time (one short request): an instance
    may have been removed and received anew since.
    """

    def __init__(self, root: Path, store: ObjectStore, cache: FileCache) -> None:
        super().__init__(root)
        self._store, self._cache = store, cache

    def keep_part(self, sop_instance_uid: str, part: Part) -> Kept:
        """As on a disk, with one difference: the store is asked about other content only when a copy is here.

        What differs from a first copy that is not here is found at `settle`; it then lies in quarantine.
        """
        known = self._cache.find(file_name(sop_instance_uid))
        if known is not None and self._is_other(part.path, known.path) and self._is_current(sop_instance_uid, known):
            raise InstanceConflict(conflict_words(sop_instance_uid))
        return super().keep_part(sop_instance_uid, part)

    def keep_derived(self, sop_instance_uid: str, content: bytes) -> str:
        """SHA-256 (hex) of the derived instance's file, durable in the store; twice is harmless.

        Raises InstanceConflict when the UID has another data set, StorageFull or StoreAway when it cannot be kept.
        """
        name = file_name(sop_instance_uid)
        before = self._places(sop_instance_uid)[0]  # from before there was a store: it is read first as long as it lies
        with suppress(FileNotFoundError):
            if not _same(before.read_bytes(), content):
                raise InstanceConflict(conflict_words(sop_instance_uid))
        made, mark = self._store.create(_key(name), content)
        if made:
            self._cache.keep(name, mark, content)
            return hashlib.sha256(content).hexdigest()
        stored = self._fetched(sop_instance_uid).read_bytes()
        if not _same(stored, content):
            raise InstanceConflict(conflict_words(sop_instance_uid))
        return hashlib.sha256(stored).hexdigest()

    def settle(self, sop_instance_uid: str) -> Path:
        """A copy of the instance that the store now has; raises as `settle_all` does or tells."""
        for fault in self.settle_all([sop_instance_uid]).values():
            raise fault
        return self.path_of(sop_instance_uid)

    def settle_all(self, sop_instance_uids: Iterable[str]) -> dict[str, InstanceConflict | FileNotFoundError]:
        """Each is in the store and no longer among the arrivals; several at once, and twice is harmless.

        Given are those that could not: an arrival that differs from what is there, which then lies in quarantine.
        Raises StoreAway while the store does not take them: their arrivals stay.
        """
        away: list[StorageFull] = []
        there: list[str] = []

        def put(sop_instance_uid: str) -> None:
            if not away:  # nobody waits for an answer that another has not got
                try:
                    if not self._put(sop_instance_uid):
                        there.append(sop_instance_uid)
                except StorageFull as fault:
                    away.append(fault)

        _together(put, list(sop_instance_uids))
        if away:
            raise away[0]
        faults: dict[str, InstanceConflict | FileNotFoundError] = {}
        for uid in there:
            try:
                self._compare_arrival(uid)
            except InstanceConflict as fault:
                faults[uid] = fault
            except ObjectUnfit as fault:  # of this one only: its arrival stays
                LOG.error("store: an arrival that is in the store already cannot be compared: %s", fault)
            except StorageFull as fault:  # what was found so far must be told; the others wait among the arrivals
                LOG.error("store: arrivals that are in the store already are compared later: %s", fault)
                break
        return faults

    def _put(self, sop_instance_uid: str) -> bool:
        """Whether the arrival is in the store and gone from here; False when the store has one of that UID."""
        name, arrived = file_name(sop_instance_uid), self._places(sop_instance_uid)[1]
        try:
            content = arrived.read_bytes()
        except FileNotFoundError:  # settled by an earlier call
            return True
        made, mark = self._store.create(_key(name), content)
        if made:
            self._cache.adopt(name, mark, arrived)
            arrived.unlink(missing_ok=True)
        return made

    def _compare_arrival(self, sop_instance_uid: str) -> None:
        arrived = self._places(sop_instance_uid)[1]
        if not same_data_set(arrived, self._fetched(sop_instance_uid)):
            self.quarantine(arrived, conflict_words(sop_instance_uid))
            raise InstanceConflict(conflict_words(sop_instance_uid))
        arrived.unlink(missing_ok=True)

    def path_of(self, sop_instance_uid: str) -> Path:
        """The instance's file on this machine. Raises ObjectUnfit when the store does not have it, or not yet."""
        try:
            return super().path_of(sop_instance_uid)  # an arrival, or what was kept before there was a store
        except FileNotFoundError:
            return self._fetched(sop_instance_uid)

    def paths_of(self, sop_instance_uids: Sequence[str]) -> list[Path]:
        """Several at once: each costs a way to the store and back. They stay while a job uses them.

        Raises StoreAway for one that waits among the arrivals: it would leave them under the job's hands.
        """
        return _together(self._lasting_path, sop_instance_uids)

    def _lasting_path(self, sop_instance_uid: str) -> Path:
        before = self._places(sop_instance_uid)[0]
        return before if before.exists() else self._fetched(sop_instance_uid)

    def upload(self, name: str) -> bool:
        """Whether a file of `instances`, from before there was a store, now lies in the store and no longer here."""
        path = self._instances / name[:2] / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return False
        made, _ = self._store.create(_key(name), content)
        if not made:
            found = self._store.fetch(_key(name))
            if found is None or not _same(found.content, content):
                raise InstanceConflict(f"{path} and the object of its name hold other data sets; both are kept")
        path.unlink(missing_ok=True)
        return True

    def left_here(self) -> list[str]:
        """Names of the files of `instances`, from before there was a store."""
        return [path.name for path in sorted(self._instances.glob("??/*.dcm"))]

    def remove(self, sop_instance_uids: Sequence[str]) -> None:
        """No file of these is in the store, nor as copy on this machine; arrivals are not touched. One short try."""
        names = [file_name(uid) for uid in sop_instance_uids]
        self._store.remove([_key(name) for name in names])
        for uid, name in zip(sop_instance_uids, names, strict=True):
            self._cache.drop(name)
            self._places(uid)[0].unlink(missing_ok=True)

    def _fetched(self, sop_instance_uid: str) -> Path:
        """A copy in use, as the store has the instance now."""
        name = file_name(sop_instance_uid)
        known = self._cache.find(name)
        if known is not None and not (known.mark and self._cache.use(known)):
            known = None
        try:
            found = self._store.fetch(_key(name), unless=known.mark if known else "")
            if found is None and known is not None and not self._cache.use(known):
                found, known = self._store.fetch(_key(name)), None  # removed by hand between two looks
        except FileNotFoundError:
            if self._places(sop_instance_uid)[1].exists():
                why = f"instance {sop_instance_uid} waits here until the object store takes it"
                raise StoreAway(why) from None
            raise ObjectUnfit(
                f"instance {sop_instance_uid} is not in the object store, or not yet: the machine that received it "
                "puts it there"
            ) from None
        if found is None:
            if known is None:
                raise ObjectUnfit(f"the object store says that instance {sop_instance_uid} did not change; unasked")
            return known.path
        return self._cache.keep(name, found.mark, found.content).path

    def _is_other(self, part: Path, copy: Path) -> bool:
        try:
            return not same_data_set(part, copy)
        except FileNotFoundError:
            return False

    def _is_current(self, sop_instance_uid: str, known: Copy) -> bool:
        """Whether the store still has what this copy says. A store that is away: no, reception waits for nobody."""
        try:
            return bool(known.mark) and self._store.fetch(_key(file_name(sop_instance_uid)), unless=known.mark) is None
        except (FileNotFoundError, StorageFull):
            return False


class ObjectPassports(PassportFiles):
    """Passports beside the instances in the store, under `passports/`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def keep(self, series_instance_uid: str, sha256: str, text: str) -> Path:
        """As on a disk; gives its key in the store. Raises StoreAway."""
        key = _passport_key(series_instance_uid, sha256)
        self._store.replace(key, text.encode("ascii"))
        return Path(key)

    def read(self, series_instance_uid: str, sha256: str) -> str:
        """The passport's text; FileNotFoundError when the series has none of this content."""
        found = self._store.fetch(_passport_key(series_instance_uid, sha256))
        if found is None:
            raise ObjectUnfit("the object store says that a passport did not change; it was not asked")
        return found.content.decode("ascii")


def _same(one: bytes, other: bytes) -> bool:
    """Whether two files hold the same data set."""
    first, second = (data[data_set_offset(data[:144], len(data)) :] for data in (one, other))
    return first == second


def _key(name: str) -> str:
    return str(PurePosixPath("instances", name[:2], name))


def _passport_key(series_instance_uid: str, sha256: str) -> str:
    name = passport_name(series_instance_uid, sha256)
    return str(PurePosixPath("passports", name[:2], name))


def _together(do: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """What each gives, in their order; the first fault rises when those under way have ended."""
    if len(names) < 2:
        return [do(name) for name in names]
    with ThreadPoolExecutor(min(AT_ONCE, len(names)), thread_name_prefix="store") as threads:
        return list(threads.map(do, names))
