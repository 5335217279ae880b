"""What jobs need beside their sources: open until a series is chosen, and then the instances that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from storage import audit
from storage.catalog import Series, get_series
from storage.job_rows import OPEN_NEED, Need
from storage.job_states import State
from storage.name_keys import text_key
from storage.schema import job_inputs, job_needs, jobs, study_keys
from storage.schema import series as series_rows


class NeedState(StrEnum):
    """Whether the series is known that fills it."""

    OPEN = OPEN_NEED
    FILLED = "filled"


@dataclass(frozen=True, slots=True)
class OpenNeed:
    """A series that a waiting job lacks. tries: how often peers were asked; next_try_at: not before then again."""

    job_id: int
    slot: str
    definition: Mapping[str, Any]
    series_instance_uid: str
    """The job's source."""
    study_instance_uid: str
    tries: int
    next_try_at: datetime | None
    give_up_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Input:
    """What fills a need: the series that was chosen, with its study, and its instances as they were then."""

    slot: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]


def add(connection: sa.Connection, job_id: int, wanted: Sequence[Need], *, now: datetime) -> None:
    """The needs of a new job, all open."""
    rows = [
        {
            "job_id": job_id,
            "slot": need.slot,
            "position": position,
            "definition": {**need.definition, "limit_s": need.limit_s},
            "state": NeedState.OPEN,
            "series_instance_uid": "",
            "tries": 0,
            "next_try_at": None,
            "give_up_at": now + timedelta(seconds=need.limit_s),
            "reason": "",
        }
        for position, need in enumerate(wanted)
    ]
    if rows:
        connection.execute(sa.insert(job_needs), rows)


def reopen(connection: sa.Connection, job_id: int, *, now: datetime) -> None:
    """Everything that the job needs is looked for anew, with its whole time limit."""
    connection.execute(sa.delete(job_inputs).where(job_inputs.c.job_id == job_id))
    for row in connection.execute(sa.select(job_needs).where(job_needs.c.job_id == job_id)).mappings().all():
        change = {
            "state": NeedState.OPEN,
            "series_instance_uid": "",
            "tries": 0,
            "next_try_at": None,
            "give_up_at": now + timedelta(seconds=float(row["definition"]["limit_s"])),
            "reason": "",
        }
        ours = (job_needs.c.job_id == job_id) & (job_needs.c.slot == row["slot"])
        connection.execute(sa.update(job_needs).where(ours).values(change))


def open_needs(connection: sa.Connection) -> list[OpenNeed]:
    """What waiting jobs lack, the most urgent job first."""
    wanted = (
        sa.select(job_needs, jobs.c.series_instance_uid.label("source"), jobs.c.study_instance_uid)
        .join(jobs, jobs.c.id == job_needs.c.job_id)
        .where(job_needs.c.state == NeedState.OPEN, jobs.c.state == State.WAITING)
        .order_by(jobs.c.priority, jobs.c.created_at, jobs.c.id, job_needs.c.position)
    )
    return [
        OpenNeed(
            job_id=row["job_id"],
            slot=row["slot"],
            definition=row["definition"],
            series_instance_uid=row["source"],
            study_instance_uid=row["study_instance_uid"],
            tries=row["tries"],
            next_try_at=row["next_try_at"],
            give_up_at=row["give_up_at"],
            reason=row["reason"],
        )
        for row in connection.execute(wanted).mappings()
    ]


def note(connection: sa.Connection, need: OpenNeed, reason: str, *, tries: int, next_try_at: datetime | None) -> None:
    """Why the need is still open; `dicomnode jobs` shows it as the reason of the waiting job."""
    ours = (job_needs.c.job_id == need.job_id) & (job_needs.c.slot == need.slot)
    is_open = job_needs.c.state == NeedState.OPEN
    change = {"reason": reason, "tries": tries, "next_try_at": next_try_at}
    connection.execute(sa.update(job_needs).where(ours, is_open).values(change))
    lacking = sa.select(job_needs.c.slot, job_needs.c.reason).where(job_needs.c.job_id == need.job_id, is_open)
    told = "; ".join(
        f"waits for {slot}: {why}" if why else f"waits for {slot}" for slot, why in connection.execute(lacking)
    )
    waits = (jobs.c.id == need.job_id) & (jobs.c.state == State.WAITING)
    connection.execute(sa.update(jobs).where(waits).values(reason=told))


def fill(
    connection: sa.Connection, need: OpenNeed, chosen: Series, sop_instance_uids: Sequence[str], *, why: str
) -> bool:
    """Whether the need is filled with that series now, with its audit row; not when the job waits for it no more."""
    ours = (job_needs.c.job_id == need.job_id) & (job_needs.c.slot == need.slot)
    waits = job_needs.c.job_id.in_(sa.select(jobs.c.id).where(jobs.c.state == State.WAITING))
    change = {"state": NeedState.FILLED, "series_instance_uid": chosen.series_instance_uid, "reason": ""}
    wanted = sa.update(job_needs).where(ours, waits, job_needs.c.state == NeedState.OPEN).values(change)
    if connection.execute(wanted).rowcount != 1:
        return False
    rows = [
        {"job_id": need.job_id, "slot": need.slot, "sop_instance_uid": uid, "position": position}
        for position, uid in enumerate(sop_instance_uids)
    ]
    connection.execute(sa.insert(job_inputs), rows)
    still = sa.select(sa.func.count()).where(job_needs.c.job_id == need.job_id, job_needs.c.state == NeedState.OPEN)
    if not connection.scalar(still):
        connection.execute(sa.update(jobs).where(jobs.c.id == need.job_id).values(reason=""))
    audit.append(
        connection,
        "input chosen",
        series_instance_uid=need.series_instance_uid,
        job_id=need.job_id,
        peer=chosen.peer,
        details={
            "slot": need.slot,
            "input_series_instance_uid": chosen.series_instance_uid,
            "input_study_instance_uid": chosen.study_instance_uid,
            "instances": len(rows),
            "because": why,
        },
    )
    return True


def inputs_of(connection: sa.Connection, job_id: int) -> tuple[Input, ...]:
    """What the job reads beside its source."""
    wanted = (
        sa.select(job_needs.c.slot, series_rows.c.study_instance_uid, job_needs.c.series_instance_uid)
        .outerjoin(series_rows, series_rows.c.series_instance_uid == job_needs.c.series_instance_uid)
        .where(job_needs.c.job_id == job_id)
    )
    found = []
    for slot, study_uid, series_instance_uid in connection.execute(wanted.order_by(job_needs.c.position)).all():
        ours = (job_inputs.c.job_id == job_id) & (job_inputs.c.slot == slot)
        uids = connection.scalars(sa.select(job_inputs.c.sop_instance_uid).where(ours).order_by(job_inputs.c.position))
        found.append(Input(slot, study_uid or "", series_instance_uid, tuple(uids)))
    return tuple(found)


def series_of_patient(connection: sa.Connection, patient_id: str) -> list[Series]:
    """The series of every study under that Patient ID; whose they are must be asked of their headers."""
    studies = sa.select(study_keys.c.study_instance_uid).where(study_keys.c.patient_id == text_key(patient_id))
    wanted = sa.select(series_rows.c.series_instance_uid).where(series_rows.c.study_instance_uid.in_(studies))
    return [get_series(connection, uid) for uid in connection.scalars(wanted).all()]


def is_needed(connection: sa.Connection, series_instance_uid: str) -> bool:
    """Whether a job reads the series beside its source, and may read it again: it is not done with."""
    over = (State.DELIVERED, State.SUPERSEDED)
    wanted = sa.select(job_needs.c.job_id).join(jobs, jobs.c.id == job_needs.c.job_id)
    ours = job_needs.c.series_instance_uid == series_instance_uid
    return connection.scalar(wanted.where(ours, jobs.c.state.not_in(over)).limit(1)) is not None


def catalogue_mark(connection: sa.Connection) -> tuple[int, datetime | None]:
    """Changes whenever a series is closed: only then a need that was looked at can be filled."""
    marks = sa.select(sa.func.count(), sa.func.max(series_rows.c.closed_at)).where(series_rows.c.closed_at.is_not(None))
    count, latest = connection.execute(marks).one()
    return int(count), latest
