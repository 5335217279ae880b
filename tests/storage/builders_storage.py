"""Made-up instances and jobs, sane by default."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from storage import deliveries, jobs
from storage.catalog import Instance
from storage.jobs import Event, Job, NewJob, State

NOW = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
SERIES, STUDY = "1.2.3.4", "1.2.3"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def instance(
    number: int, *, series: str = SERIES, at: datetime = NOW, header: Mapping[str, Any] | None = None, **more: Any
) -> Instance:
    facts: dict[str, Any] = {
        "sop_instance_uid": f"{series}.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "series_instance_uid": series,
        "study_instance_uid": STUDY,
        "peer": "scanner",
        "received_at": at,
        "sha256": f"{number:064x}",
        "size_bytes": 526_000,
        "header": header if header is not None else {"Modality": "CT", "InstanceNumber": number},
    }
    return Instance(**facts | more)


def new_job(key: str = "a" * 64, **more: Any) -> NewJob:
    facts: dict[str, Any] = {
        "key": key,
        "series_instance_uid": SERIES,
        "study_instance_uid": STUDY,
        "generation": 1,
        "rule": "CT with metal",
        "pipeline": "ct_metal_artifact_reduction",
        "pipeline_version": "1.0.0",
        "settings": {"method": "nmar"},
        "source_sop_instance_uids": (f"{SERIES}.2", f"{SERIES}.1", f"{SERIES}.3"),
        "priority": 1,
        "destinations": ("pacs",),
        "created_at": NOW,
    }
    return NewJob(**facts | more)


PATHS: Mapping[State, tuple[Event, ...]] = {
    State.WAITING: (),
    State.RUNNING: (Event.CLAIM,),
    State.DERIVED: (Event.CLAIM, Event.FINISH),
    State.SENDING: (Event.CLAIM, Event.FINISH, Event.CLAIM),
    State.DELIVERED: (Event.CLAIM, Event.FINISH, Event.CLAIM, Event.FINISH),
    State.REFUSED: (Event.CLAIM, Event.REFUSE),
    State.FAILED: (Event.CLAIM, Event.FINISH, Event.CLAIM, Event.GIVE_UP),
    State.SUPERSEDED: (Event.CLAIM, Event.FINISH, Event.SUPERSEDE),
}
"""A way to every state; past DERIVED the job has a derived series."""


def job_in(connection: sa.Connection, state: State, **more: Any) -> Job:
    """A new job that has come to the state by its legal way."""
    job, _ = jobs.add_job(connection, new_job(**more))
    for event in PATHS[state]:
        made = f"9.8.{job.id}" if (job.state, event) == (State.RUNNING, Event.FINISH) else None
        job = jobs.move_job(connection, job.id, event, expected=job.state, derived_series_instance_uid=made, now=NOW)
    return job


def planned_job(connection: sa.Connection, *, instances: int = 3, **more: Any) -> Job:
    """A derived job of so many instances whose deliveries are planned."""
    job = job_in(connection, State.DERIVED, **more)
    deliveries.plan_deliveries(connection, job.id, made_uids(job, instances), now=NOW)
    return jobs.get_job(connection, job.id)


def made_uids(job: Job, instances: int = 3) -> list[str]:
    return [f"9.8.{job.id}.{number}" for number in range(instances, 0, -1)]
