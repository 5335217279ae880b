"""Jobs: what is to be done with a series and how far it is; a job moves only by `move_job`, along TRANSITIONS."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage import audit, ledger
from storage.errors import IllegalTransition, StaleState
from storage.job_states import OVER, TRANSITIONS, Event, State
from storage.schema import job_destinations, jobs
from storage.schema import job_sources as sources

__all__ = [
    "TRANSITIONS",
    "Event",
    "Job",
    "NewJob",
    "State",
    "add_job",
    "count_jobs_by_state",
    "get_job",
    "job_sources",
    "list_jobs",
    "move_job",
    "running_jobs",
    "supersede_jobs",
    "waiting_jobs",
]


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work a rule asks for. priority: 0 stat, 1 routine, 2 low. key: equal keys are the same work.

    handling: what rule and pipeline table decide beside the pipeline's own settings; empty: the usual.
    """

    key: str
    series_instance_uid: str
    study_instance_uid: str
    generation: int
    rule: str
    pipeline: str
    pipeline_version: str
    settings: Mapping[str, Any]
    source_sop_instance_uids: tuple[str, ...]
    priority: int
    destinations: tuple[str, ...]
    created_at: datetime
    handling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stands.

    In this round, attempts: claims; crashes: claims of a job whose worker died with it; retries: runs that ended to
    be tried again. round: how often somebody gave the job another try.
    """

    id: int
    key: str
    series_instance_uid: str
    study_instance_uid: str
    generation: int
    rule: str
    pipeline: str
    pipeline_version: str
    settings: Mapping[str, Any]
    handling: Mapping[str, Any]
    source_sop_instance_uids_sha256: str
    priority: int
    state: State
    attempts: int
    crashes: int
    retries: int
    round: int
    worker: str
    deadline: datetime | None
    not_before: datetime | None
    reason_code: str
    reason: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    derived_series_instance_uid: str
    superseded_by_generation: int | None
    destinations: tuple[str, ...]


def add_job(connection: sa.Connection, new: NewJob) -> tuple[Job, bool]:
    """The job of this work, and whether it is new.

    The same key is the same job: destinations join (a derived series goes to them too), the more urgent priority
    and the newer generation stay, and a superseded job waits again, because it is wanted after all.
    """
    known_id = connection.scalar(sa.select(jobs.c.id).where(jobs.c.key == new.key))
    if known_id is not None:
        return _join_job(connection, get_job(connection, known_id), new), False
    row = {name: getattr(new, name) for name in _SHARED} | {
        "settings": dict(new.settings),
        "handling": dict(new.handling),
        "source_sop_instance_uids_sha256": _sources_sha256(new.source_sop_instance_uids),
        "state": State.WAITING,
        "attempts": 0,
        "crashes": 0,
        "retries": 0,
        "round": 0,
        "worker": "",
        "reason_code": "",
        "reason": "",
        "derived_series_instance_uid": "",
    }
    job_id = connection.execute(sa.insert(jobs).values(row).returning(jobs.c.id)).scalar_one()
    listed = [
        {"job_id": job_id, "sop_instance_uid": uid, "position": position}
        for position, uid in enumerate(new.source_sop_instance_uids)
    ]
    if listed:
        connection.execute(sa.insert(sources), listed)
    _add_destinations(connection, job_id, new.destinations)
    job = get_job(connection, job_id)
    _audit(
        connection,
        job,
        "job waiting",
        {
            "key": job.key,
            "rule": job.rule,
            "pipeline": job.pipeline,
            "pipeline_version": job.pipeline_version,
            "settings": dict(job.settings),
            **({"handling": dict(job.handling)} if job.handling else {}),
            "sources": len(listed),
            "source_sop_instance_uids_sha256": job.source_sop_instance_uids_sha256,
            "destinations": job.destinations,
            "priority": job.priority,
            "generation": job.generation,
        },
    )
    return job, True


def move_job(
    connection: sa.Connection,
    job_id: int,
    event: Event,
    *,
    expected: State,
    reason_code: str = "",
    reason: str = "",
    worker: str | None = None,
    deadline: datetime | None = None,
    not_before: datetime | None = None,
    derived_series_instance_uid: str | None = None,
    now: datetime,
) -> Job:
    """The job after the event, with its audit row in the same transaction; the only writer of a job's state.

    Raises StaleState when the job is not in `expected` (any more), IllegalTransition when the event cannot
    happen there.
    """
    target = TRANSITIONS.get((expected, event))
    if target is None:
        raise IllegalTransition(f"job {job_id}: {event} cannot happen to a job that is {expected}")
    derived_uid = derived_series_instance_uid or ""
    if event not in (Event.REQUEUE, Event.REVIVE) and (expected, event) != (State.RUNNING, Event.FINISH):
        derived_uid = get_job(connection, job_id).derived_series_instance_uid
    if target is State.DERIVED and not derived_uid:
        raise IllegalTransition(f"job {job_id}: {event} needs a derived series, and there is none")
    change: dict[str, Any] = {
        "state": target,
        "reason_code": reason_code,
        "reason": reason,
        "deadline": deadline,
        "not_before": not_before,
        "derived_series_instance_uid": derived_uid,
        "finished_at": now if target in OVER else None,
    }
    if worker is not None:
        change["worker"] = worker
    if target is State.RUNNING:
        change |= {"attempts": jobs.c.attempts + 1, "started_at": now}
    if (expected, event) == (State.RUNNING, Event.CLAIM):
        change["crashes"] = jobs.c.crashes + 1
    if event is Event.RETRY:
        change["retries"] = jobs.c.retries + 1
    if event in (Event.REQUEUE, Event.RESEND, Event.REVIVE):
        change["round"] = jobs.c.round + 1
    if event in (Event.REQUEUE, Event.REVIVE):
        change |= {"attempts": 0, "crashes": 0, "retries": 0}
    if event is Event.REVIVE:
        change["superseded_by_generation"] = None
    moved = connection.execute(
        sa.update(jobs).where(jobs.c.id == job_id, jobs.c.state == expected).values(change)
    ).rowcount
    if moved != 1:
        raise StaleState(f"job {job_id} is no longer {expected} but {get_job(connection, job_id).state}")
    job = get_job(connection, job_id)
    _audit(
        connection,
        job,
        f"job {target}",
        {
            "event": event,
            "from": expected,
            "attempts": job.attempts,
            "round": job.round,
            "worker": job.worker,
            "reason_code": reason_code,
            "reason": job.reason,
            "derived_series_instance_uid": derived_uid,
        },
    )
    return job


def supersede_jobs(
    connection: sa.Connection,
    series_instance_uid: str,
    *,
    older_than_generation: int,
    except_keys: Collection[str] = (),
    now: datetime,
) -> list[Job]:
    """Jobs of older generations of the series, superseded; a delivered one stays delivered and is marked.

    With them the jobs that follow them: those whose source is what they derived.
    """
    found = _jobs(
        connection,
        jobs.c.series_instance_uid == series_instance_uid,
        jobs.c.generation < older_than_generation,
        jobs.c.superseded_by_generation.is_(None),
    )
    changed: list[Job] = []
    for job in found:
        if job.key in except_keys:
            continue
        if job.derived_series_instance_uid:
            changed += supersede_jobs(
                connection,
                job.derived_series_instance_uid,
                older_than_generation=older_than_generation,
                except_keys=except_keys,
                now=now,
            )
        mark = sa.update(jobs).where(jobs.c.id == job.id).values(superseded_by_generation=older_than_generation)
        connection.execute(mark)
        why = f"generation {older_than_generation} of the series replaces generation {job.generation}"
        if (job.state, Event.SUPERSEDE) in TRANSITIONS:
            changed.append(
                move_job(
                    connection,
                    job.id,
                    Event.SUPERSEDE,
                    expected=job.state,
                    reason_code="superseded",
                    reason=why,
                    now=now,
                )
            )
        else:
            _audit(connection, job, "job superseded, delivery stands", {"state": job.state, "reason": why})
            changed.append(get_job(connection, job.id))
    return changed


def get_job(connection: sa.Connection, job_id: int) -> Job:
    """The job; LookupError when there is none of that number."""
    found = _jobs(connection, jobs.c.id == job_id)
    if not found:
        raise LookupError(f"there is no job {job_id}")
    return found[0]


def job_sources(connection: sa.Connection, job_id: int) -> tuple[str, ...]:
    """The SOP Instance UIDs the job reads, in the order they were given."""
    wanted = sa.select(sources.c.sop_instance_uid).where(sources.c.job_id == job_id).order_by(sources.c.position)
    return tuple(connection.scalars(wanted))


def list_jobs(
    connection: sa.Connection,
    states: Collection[State] | None = None,
    series_instance_uid: str | None = None,
    limit: int | None = None,
) -> list[Job]:
    """Jobs, newest first."""
    conditions: list[sa.ColumnElement[bool]] = []
    if states is not None:
        conditions.append(jobs.c.state.in_(states))
    if series_instance_uid is not None:
        conditions.append(jobs.c.series_instance_uid == series_instance_uid)
    return _jobs(connection, *conditions, order=(jobs.c.id.desc(),), limit=limit)


def waiting_jobs(connection: sa.Connection, now: datetime) -> list[Job]:
    """Jobs that may be claimed now: the most urgent first, among equals the oldest."""
    ready = jobs.c.not_before.is_(None) | (jobs.c.not_before <= now)
    order = (jobs.c.priority, jobs.c.created_at, jobs.c.id)
    return _jobs(connection, jobs.c.state == State.WAITING, ready, order=order)


def running_jobs(connection: sa.Connection) -> list[Job]:
    """Jobs that a worker has claimed."""
    return _jobs(connection, jobs.c.state == State.RUNNING)


def count_jobs_by_state(connection: sa.Connection) -> dict[State, int]:
    """How many jobs stand in each state, zeros included."""
    counted = connection.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)).all()
    return dict.fromkeys(State, 0) | {State(state): number for state, number in counted}


_SHARED = tuple(
    one.name
    for one in fields(NewJob)
    if one.name not in ("settings", "handling", "source_sop_instance_uids", "destinations")
)
_ROW = tuple(one.name for one in fields(Job) if one.name != "destinations")


def _join_job(connection: sa.Connection, job: Job, new: NewJob) -> Job:
    """The known job after the same work was asked for again."""
    joining = tuple(name for name in dict.fromkeys(new.destinations) if name not in job.destinations)
    change: dict[str, Any] = {}
    if new.priority < job.priority:
        change["priority"] = new.priority
    if new.generation > job.generation:
        change |= {"generation": new.generation, "superseded_by_generation": None}
    if joining:
        _add_destinations(connection, job.id, joining, after=len(job.destinations))
    if change:
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(change))
    if change or joining:
        details = {
            "rule": new.rule,
            "joining": joining,
            "priority": min(new.priority, job.priority),
            "generation": max(new.generation, job.generation),
        }
        _audit(connection, job, "job joined", details)
    if job.derived_series_instance_uid and joining:
        ledger.open_deliveries(connection, job.id, now=new.created_at)
    if job.state is State.SUPERSEDED and new.generation >= (job.superseded_by_generation or 0):
        move_job(connection, job.id, Event.REVIVE, expected=job.state, reason="wanted again", now=new.created_at)
    elif job.state in (State.DELIVERED, State.FAILED) and job.derived_series_instance_uid and joining:
        move_job(
            connection, job.id, Event.RESEND, expected=job.state, reason="a destination joined", now=new.created_at
        )
    return get_job(connection, job.id)


def _add_destinations(connection: sa.Connection, job_id: int, names: Iterable[str], *, after: int = 0) -> None:
    rows = [
        {"job_id": job_id, "destination": name, "position": after + position}
        for position, name in enumerate(dict.fromkeys(names))
    ]
    if rows:
        connection.execute(sa.insert(job_destinations), rows)


def _jobs(
    connection: sa.Connection,
    *conditions: sa.ColumnElement[bool],
    order: Sequence[sa.ColumnElement[Any]] = (jobs.c.id,),
    limit: int | None = None,
) -> list[Job]:
    wanted = sa.select(jobs).where(*conditions).order_by(*order).limit(limit)
    rows = connection.execute(wanted).mappings().all()
    destinations: dict[int, list[str]] = {row["id"]: [] for row in rows}
    ids = list(destinations)
    for first in range(0, len(ids), 500):
        listed = sa.select(job_destinations).where(job_destinations.c.job_id.in_(ids[first : first + 500]))
        for one in connection.execute(listed.order_by(job_destinations.c.position)):
            destinations[one.job_id].append(one.destination)
    return [
        Job(
            **{name: row[name] for name in _ROW if name != "state"},
            state=State(row["state"]),
            destinations=tuple(destinations[row["id"]]),
        )
        for row in rows
    ]


def _audit(connection: sa.Connection, job: Job, event: str, details: Mapping[str, Any]) -> None:
    audit.append(connection, event, series_instance_uid=job.series_instance_uid, job_id=job.id, details=details)


def _sources_sha256(sop_instance_uids: Iterable[str]) -> str:
    """SHA-256 (hex) over the sorted UIDs, one a line."""
    return hashlib.sha256("\n".join(sorted(sop_instance_uids)).encode("utf-8")).hexdigest()
