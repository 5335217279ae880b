"""A pipeline that runs longer than its limit is ended by whoever has started its process: node or crew."""

from __future__ import annotations

import logging
from datetime import datetime

from dicomnode.config import Config
from dicomnode.processes import Processes
from storage import jobs
from storage.database import Database
from storage.errors import StaleState
from storage.jobs import Event, State

LOG = logging.getLogger(__name__)


def end_overdue(job: jobs.Job, now: datetime, *, config: Config, database: Database, processes: Processes) -> bool:
    """Whether the job was given up and its worker ended: a hung kernel hears nothing else.

    Only a worker of these processes, and only a claim of its present life: an older one is resumed with a new deadline.
    """
    began = processes.began_at(job.worker)
    if job.deadline is None or job.deadline >= now or began is None:
        return False
    if job.started_at is None or job.started_at < began:
        return False
    limit_s = config.limit_s(job.pipeline)
    try:
        with database.begin() as connection:
            jobs.move_job(
                connection,
                job.id,
                Event.GIVE_UP,
                expected=State.RUNNING,
                reason_code="time-limit",
                reason=f"{job.pipeline} ran longer than its limit of {limit_s:g} s; raise limit_s or look why",
                now=now,
            )
    except StaleState:
        return False  # it ended just now
    if processes.kill(job.worker):
        LOG.error("node: job %s ran over its limit; %s was ended", job.id, job.worker)
    return True
