"""The audit as a spool: rows after a durable cursor wait to be sent, with what a message about them must say.

Rows are never changed nor removed and commit in the order of their numbers, so one number says what has left; nothing
is kept twice, and nothing can be recorded without waiting here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from storage.audit import Entry, entry_of
from storage.errors import StaleState
from storage.schema import audit, audit_cursors, audit_head, instances, job_destinations, jobs, series


@dataclass(frozen=True, slots=True)
class Waiting:
    """One row with what the tables know of its study. sop_classes: SOP Class UID -> instances held of the series."""

    entry: Entry
    study_instance_uid: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    destinations: tuple[str, ...] = ()
    """Where the row's job sends what it derives."""
    patient_id: str = ""
    """Empty unless it was asked for."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the sending is behind. oldest_at: when the first row that waits was written; None when none waits."""

    rows: int
    oldest_at: datetime | None


def cursor(connection: sa.Connection, name: str) -> int:
    """The number of the last row that this receiver has; 0 before the first."""
    found = connection.scalar(sa.select(audit_cursors.c.seq).where(audit_cursors.c.name == name))
    return int(found or 0)


def move_cursor(connection: sa.Connection, name: str, *, expected: int, seq: int, now: datetime) -> None:
    """Everything up to `seq` has arrived. Raises StaleState when another sender has moved the cursor meanwhile."""
    values = {"seq": seq, "moved_at": now}
    moved = connection.execute(
        sa.update(audit_cursors).where(audit_cursors.c.name == name, audit_cursors.c.seq == expected).values(values)
    ).rowcount
    if moved:
        return
    if expected or connection.scalar(sa.select(audit_cursors.c.seq).where(audit_cursors.c.name == name)) is not None:
        raise StaleState(f"the audit's cursor {name} no longer stands at {expected}: does another node send it too?")
    connection.execute(sa.insert(audit_cursors).values(name=name, **values))


def lag(connection: sa.Connection, name: str) -> Lag:
    """How much waits for this receiver."""
    sent = cursor(connection, name)
    newest = int(connection.scalar(sa.select(audit_head.c.seq)) or 0)
    oldest_at = connection.scalar(sa.select(audit.c.at).where(audit.c.seq == sent + 1))
    return Lag(max(0, newest - sent), oldest_at)


def rows_after(
    connection: sa.Connection,
    seq: int,
    *,
    limit: int,
    begin: datetime | None = None,
    end: datetime | None = None,
    with_patient: bool = False,
) -> list[Waiting]:
    """The next rows after that number, oldest first. begin, end: only those written from then and before then."""
    wanted = sa.select(audit).where(audit.c.seq > seq)
    if begin is not None:
        wanted = wanted.where(audit.c.at >= begin)
    if end is not None:
        wanted = wanted.where(audit.c.at < end)
    entries = [entry_of(row) for row in connection.execute(wanted.order_by(audit.c.seq).limit(limit))]
    series_uids = {uid_of(entry) for entry in entries} - {""}
    studies = _studies(connection, series_uids)
    classes = _sop_classes(connection, series_uids)
    destinations = _destinations(connection, {entry.job_id for entry in entries if entry.job_id is not None})
    patients = _patients(connection, series_uids) if with_patient else {}
    return [
        Waiting(
            entry=entry,
            study_instance_uid=studies.get(uid_of(entry), ""),
            sop_classes=classes.get(uid_of(entry), {}),
            destinations=destinations.get(entry.job_id or 0, ()),
            patient_id=patients.get(uid_of(entry), ""),
        )
        for entry in entries
    ]


def uid_of(entry: Entry) -> str:
    """The series that a row is about: the derived one where it tells of that."""
    return str(entry.details.get("derived_series_instance_uid") or entry.series_instance_uid)


def _studies(connection: sa.Connection, series_uids: Collection[str]) -> dict[str, str]:
    """Series -> study, by the catalogue or else by the jobs, which remember what is no longer held."""
    found: dict[str, str] = {}
    for table, column in (
        (jobs, jobs.c.series_instance_uid),
        (jobs, jobs.c.derived_series_instance_uid),
        (series, series.c.series_instance_uid),
    ):
        wanted = sa.select(column, table.c.study_instance_uid).where(column.in_(series_uids)).distinct()
        found.update((row[0], row[1]) for row in connection.execute(wanted))
    return found


def _sop_classes(connection: sa.Connection, series_uids: Collection[str]) -> dict[str, dict[str, int]]:
    wanted = (
        sa.select(instances.c.series_instance_uid, instances.c.sop_class_uid, sa.func.count())
        .where(instances.c.series_instance_uid.in_(series_uids))
        .group_by(instances.c.series_instance_uid, instances.c.sop_class_uid)
        .order_by(instances.c.sop_class_uid)
    )
    found: dict[str, dict[str, int]] = {}
    for uid, sop_class, count in connection.execute(wanted):
        found.setdefault(uid, {})[sop_class] = count
    return found


def _destinations(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    wanted = (
        sa.select(job_destinations.c.job_id, job_destinations.c.destination)
        .where(job_destinations.c.job_id.in_(job_ids))
        .order_by(job_destinations.c.job_id, job_destinations.c.position)
    )
    found: dict[int, tuple[str, ...]] = {}
    for job_id, destination in connection.execute(wanted):
        found[job_id] = (*found.get(job_id, ()), destination)
    return found


def _patients(connection: sa.Connection, series_uids: Collection[str]) -> dict[str, str]:
    """Series -> Patient ID, of those that are held."""
    first = (
        sa.select(sa.func.min(instances.c.sop_instance_uid))
        .where(instances.c.series_instance_uid.in_(series_uids))
        .group_by(instances.c.series_instance_uid)
    )
    wanted = sa.select(instances.c.series_instance_uid, instances.c.header).where(
        instances.c.sop_instance_uid.in_(first)
    )
    return {uid: str((header or {}).get("PatientID") or "") for uid, header in connection.execute(wanted)}
