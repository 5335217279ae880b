"""What a monitor asks of the tables: counts and moments, by indexes and in small portions, holding nobody up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from storage.job_states import State
from storage.schema import audit, instances, job_sources, jobs


@dataclass(frozen=True, slots=True)
class Happened:
    """One row of the audit as a monitor counts it. status: of a refused instance; instances: of a removed series."""

    seq: int
    at: datetime
    event: str
    peer: str
    job_id: int | None
    status: str
    instances: int


@dataclass(frozen=True, slots=True)
class JobMoments:
    """When what a job reads was complete here, when it was last begun and when its series was derived.

    None where it is not known.
    """

    pipeline: str
    received_at: datetime | None
    routed_at: datetime | None
    started_at: datetime | None
    derived_at: datetime | None


def last_seq(connection: sa.Connection) -> int:
    """The number of the audit's newest row; 0 while there is none."""
    return int(connection.scalar(sa.select(sa.func.max(audit.c.seq))) or 0)


def happened_since(connection: sa.Connection, seq: int, events: Sequence[str], *, limit: int) -> list[Happened]:
    """The next rows of these events after that number, oldest first; at most `limit`."""
    wanted = sa.select(audit.c.seq, audit.c.at, audit.c.event, audit.c.peer, audit.c.job_id, audit.c.details).where(
        audit.c.seq > seq, audit.c.event.in_(events)
    )
    found = []
    for row in connection.execute(wanted.order_by(audit.c.seq).limit(limit)):
        details = json.loads(row.details)
        number = details.get("instances", 0)
        found.append(
            Happened(
                seq=row.seq,
                at=row.at,
                event=row.event,
                peer=row.peer,
                job_id=row.job_id,
                status=str(details.get("status", "")),
                instances=number if isinstance(number, int) else 0,
            )
        )
    return found


def job_moments(connection: sa.Connection, job_id: int) -> JobMoments:
    """The moments of one job; its last source instance counts, or the last one derived for it in a chain."""
    job = connection.execute(
        sa.select(jobs.c.pipeline, jobs.c.created_at, jobs.c.started_at).where(jobs.c.id == job_id)
    ).one_or_none()
    received_at = connection.scalar(
        sa.select(sa.func.max(instances.c.received_at))
        .join(job_sources, job_sources.c.sop_instance_uid == instances.c.sop_instance_uid)
        .where(job_sources.c.job_id == job_id)
    )
    derived_at = connection.scalar(
        sa.select(sa.func.max(audit.c.at)).where(audit.c.job_id == job_id, audit.c.event == f"job {State.DERIVED}")
    )
    if job is None:
        return JobMoments("", received_at, None, None, derived_at)
    return JobMoments(job.pipeline, received_at, job.created_at, job.started_at, derived_at)


def oldest_waiting(connection: sa.Connection) -> datetime | None:
    """When the job that waits longest was made; None when none waits."""
    found: datetime | None = connection.scalar(
        sa.select(sa.func.min(jobs.c.created_at)).where(jobs.c.state == State.WAITING)
    )
    return found
