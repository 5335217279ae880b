"""Jobs as they stand, read from their tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage.job_states import State
from storage.schema import instances, job_destinations, job_needs, job_results, job_rules, jobs
from storage.schema import job_sources as sources

OPEN_NEED = "open"
"""State of a need whose series is not here yet."""


@dataclass(frozen=True, slots=True)
class Need:
    """A series that a job needs beside its source, by the name that the pipeline knows it by.

    definition: which series that is and who may have it, as the config says; it must be here within limit_s.
    """

    slot: str
    definition: Mapping[str, Any]
    limit_s: float


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work a rule asks for. priority: 0 stat, 1 routine, 2 low. key: equal keys are the same work.

    handling: what rule and pipeline table decide beside the pipeline's own settings; empty: the usual.
    needs: what must be here before anybody claims it.
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
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stands.

    rule: the first that asked for the work; rules: every one, in the order in which they asked.
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
    rules: tuple[str, ...]


def get_job(connection: sa.Connection, job_id: int) -> Job:
    """The job; LookupError when there is none of that number."""
    found = find_jobs(connection, jobs.c.id == job_id)
    if not found:
        raise LookupError(f"there is no job {job_id}")
    return found[0]


def job_sources(connection: sa.Connection, job_id: int) -> tuple[str, ...]:
    """The SOP Instance UIDs the job reads, in the order they were given."""
    wanted = sa.select(sources.c.sop_instance_uid).where(sources.c.job_id == job_id).order_by(sources.c.position)
    return tuple(connection.scalars(wanted))


def made_series(connection: sa.Connection, job_id: int) -> list[str]:
    """The Series Instance UIDs of everything the job has made: derived images, and what stands beside them."""
    wanted = (
        sa.select(instances.c.series_instance_uid)
        .join(job_results, job_results.c.sop_instance_uid == instances.c.sop_instance_uid)
        .where(job_results.c.job_id == job_id)
        .group_by(instances.c.series_instance_uid)
        .order_by(sa.func.min(job_results.c.position))
    )
    return list(connection.scalars(wanted))


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
    return find_jobs(connection, *conditions, order=(jobs.c.id.desc(),), limit=limit)


def waiting_jobs(connection: sa.Connection, now: datetime) -> list[Job]:
    """Jobs that may be claimed now: the most urgent first, among equals the oldest; none that waits for an input."""
    lacking = sa.select(job_needs.c.job_id).where(job_needs.c.state == OPEN_NEED)
    ready = (jobs.c.not_before.is_(None) | (jobs.c.not_before <= now)) & jobs.c.id.not_in(lacking)
    order = (jobs.c.priority, jobs.c.created_at, jobs.c.id)
    return find_jobs(connection, jobs.c.state == State.WAITING, ready, order=order)


def running_jobs(connection: sa.Connection) -> list[Job]:
    """Jobs that a worker has claimed."""
    return find_jobs(connection, jobs.c.state == State.RUNNING)


def count_jobs_by_state(connection: sa.Connection) -> dict[State, int]:
    """How many jobs stand in each state, zeros included."""
    counted = connection.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)).all()
    return dict.fromkeys(State, 0) | {State(state): number for state, number in counted}


_ROW = tuple(one.name for one in fields(Job) if one.name not in ("destinations", "rules"))


def find_jobs(
    connection: sa.Connection,
    *conditions: sa.ColumnElement[bool],
    order: Sequence[sa.ColumnElement[Any]] = (jobs.c.id,),
    limit: int | None = None,
) -> list[Job]:
    """The jobs that meet the conditions."""
    wanted = sa.select(jobs).where(*conditions).order_by(*order).limit(limit)
    rows = connection.execute(wanted).mappings().all()
    ids = [row["id"] for row in rows]
    destinations = _listed(connection, job_destinations, job_destinations.c.destination, ids)
    rules = _listed(connection, job_rules, job_rules.c.rule, ids)
    return [
        Job(
            **{name: row[name] for name in _ROW if name != "state"},
            state=State(row["state"]),
            destinations=tuple(destinations[row["id"]]),
            rules=tuple(rules[row["id"]]),
        )
        for row in rows
    ]


def _listed(
    connection: sa.Connection, table: sa.Table, column: sa.ColumnElement[str], job_ids: Sequence[int]
) -> dict[int, list[str]]:
    """Job -> its values of the column, in their order."""
    found: dict[int, list[str]] = {job_id: [] for job_id in job_ids}
    for first in range(0, len(job_ids), 500):
        wanted = sa.select(table.c.job_id, column).where(table.c.job_id.in_(job_ids[first : first + 500]))
        for job_id, value in connection.execute(wanted.order_by(table.c.position)):
            found[job_id].append(value)
    return found
