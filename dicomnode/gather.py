"""What arrived enters the catalogue, in the order it came; what cannot be read goes to quarantine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicomnode.errors import HeaderUnreadable
from dicomnode.headers import read_header
from storage import audit, catalog
from storage.catalog import Instance
from storage.database import Database
from storage.errors import InstanceConflict, StorageFull
from storage.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)
BATCH = 200
MOST = 2000


@dataclass(frozen=True, slots=True)
class Listing:
    """What one look found. grown: the series that grew; count: files listed; more: whether others still wait.

    until: everything that came before this moment is listed, save what the disk does not give.
    """

    grown: frozenset[str]
    count: int
    more: bool
    until: datetime


def list_arrivals(
    database: Database,
    files: InstanceFiles,
    *,
    peer_of: Callable[[str], str],
    listed: Callable[[Sequence[Instance]], None] = lambda new: None,
    passed_over: set[Path] | None = None,
    most: int = MOST,
) -> Listing:
    """What arrived enters the catalogue, at most so many, oldest first; what cannot be read goes to quarantine.

    peer_of: calling AE title -> the peer's name; listed: told of those that are new. passed_over: files that the disk
    could not read or move lately; they are left alone, and those of this look are added. An instance is listed first
    and its file settled second, so that a crash between the two is mended by doing both again.
    """
    lately = set() if passed_over is None else passed_over
    until = datetime.now(UTC)
    waiting = [path for path in files.arrivals(most + len(lately) + 1) if path not in lately]
    if len(waiting) > most:
        with suppress(FileNotFoundError):
            until = min(until, _came_at(waiting[most].stat()))
    grown: set[str] = set()
    for first in range(0, min(len(waiting), most), BATCH):
        arrivals = _readable(database, files, waiting[first : min(first + BATCH, most)], peer_of, lately)
        if arrivals:
            grown |= _list(database, arrivals, listed)
            _settle(database, files, arrivals)
    return Listing(frozenset(grown), min(len(waiting), most), len(waiting) > most, until)


def _readable(
    database: Database, files: InstanceFiles, waiting: Sequence[Path], peer_of: Callable[[str], str], lately: set[Path]
) -> list[Instance]:
    """Those of the files that are instances; the others go to quarantine, or are passed over for a while."""
    found = []
    for path in waiting:
        try:
            found.append(_instance(files, path, peer_of))
        except OSError as fault:  # the disk, not the file's content
            LOG.error("gather: %s cannot be read now: %s", path.name, fault)
            lately.add(path)
        except HeaderUnreadable as fault:
            try:
                kept = files.quarantine(path, str(fault))
            except (StorageFull, OSError) as full:
                LOG.error("gather: %s cannot be read, and quarantine does not take it now: %s", path.name, full)
                lately.add(path)
                continue
            LOG.error("gather: %s cannot be read and lies in quarantine: %s", kept.name, fault)
            with database.begin() as connection:
                audit.append(connection, "quarantined", details={"file": kept.name, "reason": str(fault)[:200]})
    return found


def _instance(files: InstanceFiles, path: Path, peer_of: Callable[[str], str]) -> Instance:
    header, facts = read_header(path), path.stat()
    return Instance(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        peer=peer_of(header.source_ae_title),
        received_at=_came_at(facts),
        sha256=files.sha256_of(path),
        size_bytes=facts.st_size,
        header=header.values,
    )


def _came_at(facts: os.stat_result) -> datetime:
    return datetime.fromtimestamp(facts.st_mtime, UTC)


def _list(database: Database, arrivals: Sequence[Instance], listed: Callable[[Sequence[Instance]], None]) -> set[str]:
    """The series that grew: one transaction for all of them."""
    grown: set[str] = set()
    new: set[str] = set()
    with database.begin() as connection:
        for added in catalog.add_instances(connection, arrivals):
            grown.add(added.series_instance_uid)
            new.update(added.sop_instance_uids)
            if added.reopened:
                audit.append(
                    connection,
                    "late instances",
                    series_instance_uid=added.series_instance_uid,
                    details={"generation": added.generation, "instances": added.count},
                )
    listed([arrival for arrival in arrivals if arrival.sop_instance_uid in new])
    return grown


def _settle(database: Database, files: InstanceFiles, arrivals: Sequence[Instance]) -> None:
    by_uid = {arrival.sop_instance_uid: arrival for arrival in arrivals}
    for uid, fault in files.settle_all(list(by_uid)).items():
        LOG.error("gather: %s", fault)
        if isinstance(fault, InstanceConflict):  # left by a power cut: its sender never heard success
            with database.begin() as connection:
                audit.append(
                    connection,
                    "conflict",
                    series_instance_uid=by_uid[uid].series_instance_uid,
                    peer=by_uid[uid].peer,
                    details={"reason": str(fault)[:200]},
                )
