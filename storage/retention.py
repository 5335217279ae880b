"""What may leave our disk because it is done with, oldest first, and how it leaves without losing what comes again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from storage import audit, catalog, deliveries, jobs, needs, promises, query_rows
from storage.catalog import CHUNK, Origin, SeriesState
from storage.database import Database
from storage.errors import StaleState
from storage.folder_sync import sync_folder
from storage.instance_files import InstanceFiles, disk_faults
from storage.job_rows import find_jobs
from storage.jobs import State
from storage.ledger import DeliveryState
from storage.schema import audit as audit_rows
from storage.schema import instances as instance_rows
from storage.schema import jobs as job_table
from storage.schema import series as series_rows

LOG = logging.getLogger(__name__)
LEAST_AGE = timedelta(hours=1)
Promised = Literal["keep", "remove"]
DONE_WITH = (State.DELIVERED, State.SUPERSEDED)
"""A job in any other state may still need what it reads or has made: also a failed or refused one, to be requeued."""


@dataclass(frozen=True, slots=True)
class Member:
    """One series of a family. made_by: the job that derived it; None: it was received."""

    series_instance_uid: str
    generation: int
    instance_count: int
    made_by: int | None


@dataclass(frozen=True, slots=True)
class Family:
    """A received series and everything derived from it: they go together or not at all.

    delivered: whether a job of it was delivered; done_at: when the last thing happened to it; promised: whether a peer
    was told that we keep any of it, or is to be told.
    """

    members: tuple[Member, ...]
    size_bytes: int
    delivered: bool
    done_at: datetime
    promised: bool

    @property
    def series_instance_uid(self) -> str:
        """The received series'."""
        return self.members[0].series_instance_uid

    @property
    def instance_count(self) -> int:
        """Instances of all its series."""
        return sum(member.instance_count for member in self.members)


def removable_families(
    connection: sa.Connection, *, delivered_before: datetime | None, unruled_before: datetime | None
) -> Iterator[Family]:
    """Families that nothing needs any more, oldest first, as the one moment of this connection shows them.

    delivered_before: those with a delivered job, when all was over before then; unruled_before: those no rule wanted.
    None: none of that kind. Waiting, running, undelivered, failed or refused work keeps its whole family.
    """
    moments = [moment for moment in (delivered_before, unruled_before) if moment is not None]
    if not moments:
        return
    needed = sa.select(job_table.c.series_instance_uid).where(job_table.c.state.not_in(DONE_WITH))
    wanted = (
        sa.select(series_rows.c.series_instance_uid)
        .where(
            series_rows.c.origin == Origin.RECEIVED,
            series_rows.c.state == SeriesState.CLOSED,
            series_rows.c.last_received_at < max(moments),
            series_rows.c.series_instance_uid.not_in(needed),
        )
        .order_by(series_rows.c.last_received_at, series_rows.c.series_instance_uid)
    )
    for series_instance_uid in connection.scalars(wanted).all():
        family = family_of(connection, series_instance_uid)
        before = delivered_before if family is not None and family.delivered else unruled_before
        if family is not None and before is not None and family.done_at < before:
            yield family


def family_of(connection: sa.Connection, series_instance_uid: str) -> Family | None:
    """The received series with everything derived from it, when nothing of it is needed any more; None otherwise."""
    if needs.is_needed(connection, series_instance_uid):
        return None
    members: dict[str, int | None] = {series_instance_uid: None}
    moments: list[datetime] = []
    delivered = False
    waiting = [series_instance_uid]
    while waiting:
        for job in find_jobs(connection, job_table.c.series_instance_uid == waiting.pop()):
            unsent = [one for one in deliveries.job_deliveries(connection, job.id) if one.state != DeliveryState.DONE]
            if job.state not in DONE_WITH or (unsent and job.state is State.DELIVERED):
                return None
            delivered = delivered or job.state is State.DELIVERED
            moments.append(job.finished_at or job.created_at)
            for made in _made(connection, job.id):
                if made not in members:
                    members[made] = job.id
                    waiting.append(made)
    listed: list[Member] = []
    size_bytes = 0
    for uid, made_by in members.items():
        try:
            series = catalog.get_series(connection, uid)
        except LookupError:
            if uid == series_instance_uid:
                return None
            continue  # an earlier result of its job that was never listed
        if series.state is not SeriesState.CLOSED or (series.origin is Origin.DERIVED) != (made_by is not None):
            return None
        moments.append(series.last_received_at)
        listed.append(Member(uid, series.generation, series.instance_count, made_by))
        size_bytes += _size_bytes(connection, uid)
    promised = promises.is_promised(connection, [member.series_instance_uid for member in listed])
    return Family(tuple(listed), size_bytes, delivered, max(moments), promised)


def _made(connection: sa.Connection, job_id: int) -> list[str]:
    """Every series the job ever made, also by a run whose result a later run replaced: the audit remembers."""
    found = jobs.made_series(connection, job_id)
    wanted = sa.select(audit_rows.c.details).where(audit_rows.c.job_id == job_id, audit_rows.c.event == "derived")
    for text in connection.scalars(wanted):
        details = json.loads(text)
        found += [str(details["derived_series_instance_uid"]), *map(str, details.get("beside", {}))]
    return list(dict.fromkeys(found))


def _size_bytes(connection: sa.Connection, series_instance_uid: str) -> int:
    total = sa.select(sa.func.sum(instance_rows.c.size_bytes))
    return int(connection.scalar(total.where(instance_rows.c.series_instance_uid == series_instance_uid)) or 0)


def plan_removals(
    connection: sa.Connection,
    *,
    keep: timedelta | None,
    make_room_bytes: float,
    free_bytes: int,
    now: datetime,
    promised: Promised = "keep",
) -> Iterator[tuple[Family, str]]:
    """What is to go now, oldest first, and why: what is older than `keep`, then what makes room.

    promised: whether that may go of which a peer was told, by storage commitment, that we keep it.

    Room is made of delivered families only, and of none that changed within LEAST_AGE: more of it may be on its way.
    """
    before = None if keep is None else now - keep
    planned: set[str] = set()
    for family in removable_families(connection, delivered_before=before, unruled_before=before):
        if family.promised and promised == "keep":
            continue
        planned.add(family.series_instance_uid)
        free_bytes += family.size_bytes
        yield family, f"done with since {family.done_at:%Y-%m-%d}"
    if free_bytes >= make_room_bytes:
        return
    for family in removable_families(connection, delivered_before=now - LEAST_AGE, unruled_before=None):
        if family.series_instance_uid not in planned and not (family.promised and promised == "keep"):
            yield family, f"delivered, and less than {make_room_bytes / 1e9:g} GB were free"
            free_bytes += family.size_bytes
            if free_bytes >= make_room_bytes:
                return


class Remover:
    """Takes families from catalogue and disk; what it has begun lies in the folder `removing` until it is done."""

    def __init__(self, database: Database, files: InstanceFiles, folder: Path) -> None:
        self._database, self._files = database, files
        self._notes = folder / "removing"
        self._notes.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove(self, family: Family, *, because: str, now: datetime) -> bool:
        """Whether the family is gone; it stays when it is needed again, or when any of it came again within LEAST_AGE.

        Order: a durable note of the files, then the rows with the audit's `removed` in one transaction, then the
        files, then the note. A crash leaves the note, and `finish` goes on from it.
        """
        noted = self._note_of(family)
        lately = (now - LEAST_AGE).timestamp() * 1e9
        if any(modified_ns is not None and modified_ns >= lately for _, modified_ns, _ in noted["instances"]):
            return False
        path = self._keep_note(family.series_instance_uid, noted)
        try:
            with self._database.begin() as connection:
                now_here = family_of(connection, family.series_instance_uid)
                if now_here != family:
                    raise StaleState(f"series {family.series_instance_uid} is needed again or has grown")
                for member in family.members:
                    _forget(connection, member, because)
        except StaleState:
            self._drop_note(path)
            return False
        self._finish(path, noted)
        return True

    def finish(self) -> int:
        """How many removals that a crash broke off were brought to their end; call it before anything is removed."""
        paths = sorted(self._notes.glob("*.json"))
        for path in paths:
            self._finish(path, json.loads(path.read_text(encoding="utf-8")))
        for part in self._notes.glob("*.part"):
            part.unlink(missing_ok=True)
        return len(paths)

    def _finish(self, path: Path, noted: dict[str, Any]) -> None:
        """The noted files that the catalogue no longer lists are gone; one that came again meanwhile is kept."""
        entries: list[Sequence[Any]] = noted["instances"]
        with self._database.read() as connection:
            listed = set()
            for first in range(0, len(entries), CHUNK):
                listed |= catalog.known_instances(connection, [str(one[0]) for one in entries[first : first + CHUNK]])
        with disk_faults(path.name):
            for uid, modified_ns, received in entries:
                if uid not in listed:
                    self._take_out(uid, modified_ns, received=received)
                else:  # left by a crash, and listed anew since
                    (self._notes / self._files.places_of(uid)[0].name).unlink(missing_ok=True)
        self._drop_note(path)

    def _take_out(self, sop_instance_uid: str, modified_ns: int | None, *, received: bool) -> None:
        """The file is gone; one that was acknowledged once more since it was noted lies among the arrivals again.

        A receiver that finds the same instance here touches the file before it answers success. So: the file is moved
        away first, and whoever looks for it now finds none; then its time tells whether somebody was answered before.
        """
        settled, arrived = self._files.places_of(sop_instance_uid)
        aside = self._notes / settled.name
        try:
            if not aside.exists():  # else left by a crash in the lines below
                settled.rename(aside)
        except FileNotFoundError:
            return
        if aside.stat().st_mtime_ns != modified_ns:
            again = arrived if received else settled
            try:
                again.hardlink_to(aside)
            except FileExistsError:
                LOG.warning("retention: instance %s came again while it was removed", sop_instance_uid)
            sync_folder(again.parent)
        aside.unlink()

    def _note_of(self, family: Family) -> dict[str, Any]:
        with self._database.read() as connection:
            entries = [
                (uid, self._modified_ns(uid), member.made_by is None)
                for member in family.members
                for uid in catalog.instance_uids(connection, member.series_instance_uid)
            ]
        members = [member.series_instance_uid for member in family.members]
        return {"series_instance_uid": family.series_instance_uid, "members": members, "instances": entries}

    def _modified_ns(self, sop_instance_uid: str) -> int | None:
        try:
            return self._files.path_of(sop_instance_uid).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _keep_note(self, series_instance_uid: str, noted: dict[str, Any]) -> Path:
        name = hashlib.sha256(series_instance_uid.encode("utf-8", "surrogatepass")).hexdigest()
        path, part = self._notes / f"{name}.json", self._notes / f"{uuid.uuid4().hex}.part"
        with disk_faults(path.name):
            descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(noted, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(self._notes)
        return path

    def _drop_note(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        sync_folder(self._notes)


def _forget(connection: sa.Connection, member: Member, because: str) -> None:
    """The series' rows go and the audit says so, in one transaction; jobs, ledger and passports stay."""
    ours = instance_rows.c.series_instance_uid == member.series_instance_uid
    size_bytes = _size_bytes(connection, member.series_instance_uid)
    of_series = series_rows.c.series_instance_uid == member.series_instance_uid
    study = connection.scalar(sa.select(series_rows.c.study_instance_uid).where(of_series)) or ""
    removed = connection.execute(sa.delete(instance_rows).where(ours)).rowcount
    query_rows.forget_series(connection, member.series_instance_uid)
    connection.execute(sa.delete(series_rows).where(of_series))
    left = connection.scalar(sa.select(sa.func.count()).where(series_rows.c.study_instance_uid == study))
    audit.append(
        connection,
        "removed",
        series_instance_uid=member.series_instance_uid,
        job_id=member.made_by,
        details={
            "instances": removed,
            "bytes": size_bytes,
            "generation": member.generation,
            "because": because,
            "study_instance_uid": study,
            "last_of_study": not left,
        },
    )
