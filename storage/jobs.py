"""Jobs: what is to be done with a series and how far it is; a job moves only by `move_job`, along TRANSITIONS."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage import audit, ledger, needs
from storage.errors import IllegalTransition, StaleState
from storage.job_rows import (
    Job,
    NewJob,
    count_jobs_by_state,
    find_jobs,
    get_job,
    job_sources,
    list_jobs,
    made_series,
    running_jobs,
    waiting_jobs,
)
from storage.job_states import OVER, TRANSITIONS, Event, State
from storage.schema import job_destinations, job_rules, jobs
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
    "made_series",
    "move_job",
    "running_jobs",
    "supersede_jobs",
    "waiting_jobs",
]


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
    needs.add(connection, job_id, new.needs, now=new.created_at)
    connection.execute(sa.insert(job_rules).values(job_id=job_id, rule=new.rule, position=0))
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
            **({"needs": [need.slot for need in new.needs]} if new.needs else {}),
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
        needs.reopen(connection, job_id, now=now)
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
    found = find_jobs(
        connection,
        jobs.c.series_instance_uid == series_instance_uid,
        jobs.c.generation < older_than_generation,
        jobs.c.superseded_by_generation.is_(None),
    )
    changed: list[Job] = []
    for job in found:
        if job.key in except_keys:
            continue
        for derived_uid in made_series(connection, job.id):
            changed += supersede_jobs(
                connection,
                derived_uid,
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


_SHARED = tuple(
    one.name
    for one in fields(NewJob)
    if one.name not in ("settings", "handling", "source_sop_instance_uids", "destinations", "needs")
)


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
    if new.rule not in job.rules:
        connection.execute(sa.insert(job_rules).values(job_id=job.id, rule=new.rule, position=len(job.rules)))
    if change:
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(change))
    if change or joining or new.rule not in job.rules:
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


def _audit(connection: sa.Connection, job: Job, event: str, details: Mapping[str, Any]) -> None:
    audit.append(connection, event, series_instance_uid=job.series_instance_uid, job_id=job.id, details=details)


def _sources_sha256(sop_instance_uids: Iterable[str]) -> str:
    """SHA-256 (hex) over the sorted UIDs, one a line."""
    return hashlib.sha256("\n".join(sorted(sop_instance_uids)).encode("utf-8")).hexdigest()
