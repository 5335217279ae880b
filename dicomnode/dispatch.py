"""What waits is put on its queue, what runs too long is ended, processes that died run again."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from dicomnode.config import Config
from dicomnode.engine import Engine
from dicomnode.processes import Processes
from storage import deliveries, jobs
from storage.database import Database
from storage.errors import StaleState
from storage.jobs import Event, State

LOG = logging.getLogger(__name__)
DERIVE_QUEUE, SEND_QUEUE = "derive", "send"

Tell = Callable[[str, str, Mapping[str, Any]], None]
"""Told of what the audit must know: (event, peer, details)."""


class Dispatcher:
    """One call looks once; it keeps what is on the queues already."""

    def __init__(
        self, config: Callable[[], Config], database: Database, engine: Engine, processes: Processes, tell: Tell
    ) -> None:
        """config: the one in force, asked each time."""
        self._config, self._database, self._engine = config, database, engine
        self._processes, self._tell = processes, tell
        self._engine.register_queue(DERIVE_QUEUE, concurrency_per_executor=1)
        self._lanes: set[str] = set()
        self._enqueued: set[str] = set()
        self._left: set[str] = set()
        self.open_lanes()

    def __call__(self) -> None:
        """What waits is on its queue; what runs too long is ended; processes that died run again."""
        now = datetime.now(UTC)
        with self._database.read() as connection:
            waiting = jobs.waiting_jobs(connection, now)
            due = deliveries.due_deliveries(connection, now)
            running = jobs.running_jobs(connection)
        wanted = set()
        for job in (*waiting, *running):
            # The same id while the same run goes on: an interrupted or crashed one is the engine's to resume. Running
            # ones are named too, in case the engine's own file was lost: what it knows already changes nothing.
            run_id = f"{job.id}.{job.key[:12]}.{job.round}.{job.retries}"
            self._enqueue(DERIVE_QUEUE, run_id, job.id, "", job.priority)
            wanted.add(run_id)
        for delivery in due:
            lane = self._lane(delivery.destination)
            run_id = f"{lane}.{delivery.job_id}.{delivery.round}.{delivery.attempts}"
            self._enqueue(lane, run_id, delivery.job_id, delivery.destination, delivery.priority)
            wanted.add(run_id)
        self._enqueued &= wanted
        self._tell_left({delivery.destination for delivery in due})
        for job in running:
            self._end_overdue(job, now)
        for noticed in self._processes.tend():
            LOG.warning("node: %s", noticed)
            self._tell("process restarted", "", {"what": noticed})

    def _enqueue(self, queue_name: str, run_id: str, job_id: int, destination: str, priority: int) -> None:
        if run_id in self._enqueued:
            return
        self._engine.enqueue(queue_name, run_id, job_id=job_id, destination=destination, priority=priority + 1)
        self._enqueued.add(run_id)

    def open_lanes(self) -> None:
        """Every peer that can be sent to has a lane before anything waits for it."""
        for name, peer in self._config().peers.items():
            if peer.reachable:
                self._lane(name)

    def _lane(self, destination: str) -> str:
        """The queue of that destination, one delivery at a time."""
        lane = f"{SEND_QUEUE}.{destination}"
        if lane not in self._lanes:
            self._engine.register_queue(lane, concurrency_per_executor=1)
            self._lanes.add(lane)
        return lane

    def _tell_left(self, destinations: set[str]) -> None:
        """What left the config while something was on its way there: the sender must hear of its lane.

        So the delivery is put off with its reason and abandoned in time, not forgotten.
        """
        for name in sorted(destinations - set(self._config().peers) - self._left):
            LOG.warning("node: deliveries wait for %s, which is no longer in node.toml", name)
            self._left.add(name)
            self._processes.send_signal(signal.SIGHUP)

    def _end_overdue(self, job: jobs.Job, now: datetime) -> None:
        """A pipeline that runs longer than its limit is ended with its process: a hung kernel hears nothing else.

        Only a claim of the worker's present life counts: an older one is resumed with a new deadline.
        """
        began = self._processes.began_at(job.worker)
        if job.deadline is None or job.deadline >= now or began is None:
            return
        if job.started_at is None or job.started_at < began:
            return
        limit_s = self._config().limit_s(job.pipeline)
        try:
            with self._database.begin() as connection:
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
            return  # it ended just now
        if self._processes.kill(job.worker):
            LOG.error("node: job %s ran over its limit; %s was ended", job.id, job.worker)
