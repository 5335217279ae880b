"""Another try for a job that failed or was refused: derived again, or only sent where it is missing."""

from __future__ import annotations

from datetime import UTC, datetime

from dicomnode.errors import NotRequeued
from storage import deliveries, jobs, lanes
from storage.database import Database
from storage.jobs import Event, Job, State


def requeue_job(database: Database, job_id: int) -> Job:
    """The job, waiting again or on its way again; where a lane is broken, its probe is due at once.

    Raises NotRequeued for a job that is neither failed nor refused.
    """
    now = datetime.now(UTC)
    with database.begin() as connection:
        try:
            job = jobs.get_job(connection, job_id)
        except LookupError as fault:
            raise NotRequeued(str(fault)) from fault
        if job.state not in (State.FAILED, State.REFUSED):
            raise NotRequeued(f"job {job_id} is {job.state}; only failed and refused jobs can be requeued")
        lanes.probe_at_once(connection, job.destinations, now)
        if job.state is State.FAILED and job.derived_series_instance_uid:
            deliveries.resend(connection, job_id, now=now)
            return jobs.move_job(connection, job_id, Event.RESEND, expected=State.FAILED, now=now)
        return jobs.move_job(connection, job_id, Event.REQUEUE, expected=job.state, now=now)
