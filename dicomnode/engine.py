"""The only file that knows DBOS: queues, durable runs, priorities, and who takes over from a dead executor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

from dicomnode.naps import Naps
from dicomnode.takeover import LockTaker, Takeover

if TYPE_CHECKING:
    from sqlalchemy import Engine as SqlEngine

LOG = logging.getLogger(__name__)
NAME = "dicomnode"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0
POLL_S = 2.0
"""How often a queue is looked at without a ring: by whoever is on another machine, or was busy at the ring."""
AT_ONCE = 500
CLAIM_LOOKS = 3
"""So many looks a claimed run may take until a thread does it."""
OVER = ["SUCCESS", "ERROR", "CANCELLED"]
STEPS_VERSION = "1"
"""Changes only when the order of steps changes; DBOS's default, a hash of the code, would strand work at an upgrade."""

Task = Callable[[int, str], str]
"""What an executor carries out: (job id, destination or "") -> what became of it, for the record."""


class Engine:
    """The way in for the process that holds the port: work is put on queues and never run here."""

    def __init__(self, sql: SqlEngine) -> None:
        migrate(sql)
        # A database away is a fault for the caller to try again; else it would stand here until the database is back.
        self._client = DBOSClient(
            system_database_engine=sql, serializer=DBOSPortableJSONSerializer(), retry_connection_errors=False
        )

    def register_queue(self, queue: str, *, concurrency_per_executor: int) -> None:
        """A queue exists, and each executor runs so many of its tasks at once."""
        self._client.register_queue(
            queue, worker_concurrency=concurrency_per_executor, polling_interval_sec=POLL_S, on_conflict="always_update"
        )

    def enqueue(self, queue: str, run_id: str, *, job_id: int, destination: str, priority: int) -> None:
        """The task waits on its queue, the smaller priority first; doing it twice with one `run_id` is harmless."""
        self._client.enqueue(
            {
                "workflow_name": queue_task(queue),
                "queue_name": queue,
                "workflow_id": run_id,
                "priority": priority,
                "app_version": STEPS_VERSION,
            },
            job_id,
            destination,
        )

    def forget_finished(self, before: datetime) -> int:
        """How many runs that ended before that moment were forgotten with all their rows; what is not over stays.

        Asked for again later, such a run would be done again: by then the jobs table says that there is nothing to do.
        """
        forgotten = 0
        while True:
            ended = self._client.list_workflows(
                status=OVER, completed_before=before.isoformat(), limit=AT_ONCE, load_input=False, load_output=False
            )
            if not ended:
                return forgotten
            self._client.delete_workflows([run.workflow_id for run in ended])
            forgotten += len(ended)

    def close(self) -> None:
        """The client's threads and connections end."""
        self._client.destroy()


class Executor:
    """A process that carries out what waits on some queues, under one executor id and its lock."""

    def __init__(
        self,
        sql: SqlEngine,
        *,
        executor_id: str,
        tasks: Mapping[str, Task],
        take_lock: LockTaker,
        ended: Callable[[], None] = lambda: None,
        takeover_s: float = 2.0,
    ) -> None:
        """tasks: queue -> what to do; ended: told whenever one has been done.

        Raises RuntimeError when another live process has this executor id.
        """
        self._takeover = Takeover(take_lock, executor_id, busy=self._busy, resume=self._resume, every_s=takeover_s)
        self._queues, self._naps, self._ended = tuple(tasks), Naps(), ended
        self._executor_id, self._running = executor_id, set[str]()
        self._claimed: dict[str, int] = {}
        """Runs that are ours and that no thread does -> at how many looks it was so."""
        migrate(sql)
        self._dbos = DBOS(
            config={
                "name": NAME,
                "system_database_engine": sql,
                "executor_id": executor_id,
                "application_version": STEPS_VERSION,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "ERROR",
                "enable_otlp": False,
                "use_listen_notify": False,
                "run_migrations": False,
                "notification_listener_polling_interval_sec": 1.0,
                "scheduler_polling_interval_sec": 3600.0,
            }
        )
        for name, task in {queue_task(queue): task for queue, task in tasks.items()}.items():
            _register(name, task, self._running, self._task_ended)

    def start(self) -> None:
        """Work left by an earlier life of this executor id goes on, then the queues are listened to."""
        self._dbos.listen_queues(self._queues)
        DBOS.launch()
        for event in (*self._dbos.background_thread_stop_events, self._dbos._background_jobs_stop_event):
            self._naps.cover(event)
        self._takeover.start()

    def ring(self, queue: str) -> None:
        """Something waits on that queue: it is looked at now."""
        self._naps.ring(queue)

    def stop(self, *, drain_s: int) -> None:
        """Nothing new is begun; what runs has `drain_s` seconds to end, and otherwise goes on at the next start.

        The lock stays until the process ends: a task that did not end in time may still be running.
        """
        self._takeover.stop()
        DBOS.destroy(workflow_completion_timeout_sec=drain_s)

    def _task_ended(self, queue: str) -> None:
        self._naps.ring(queue)
        self._ended()

    def _busy(self) -> set[str]:
        begun = DBOS.list_workflows(status="PENDING", queues_only=False, load_input=False, load_output=False)
        self._begin_claimed({run.workflow_id: run.queue_name for run in begun if run.executor_id == self._executor_id})
        return {run.executor_id for run in begun if run.executor_id}

    def _begin_claimed(self, ours: Mapping[str, str | None]) -> None:
        """What we have claimed waits again when no thread took it up: the database went away in between.

        Nobody else would ever do it, because its executor lives.
        """
        idle = ours.keys() - self._running
        self._claimed = {run_id: self._claimed.get(run_id, 0) + 1 for run_id in idle}
        for run_id in [run_id for run_id, looks in self._claimed.items() if looks >= CLAIM_LOOKS]:
            del self._claimed[run_id]
            if queue := ours[run_id]:
                DBOS.resume_workflow(run_id, queue_name=queue)
                self._naps.ring(queue)
                LOG.warning("engine: %s was claimed and not begun; it waits again", run_id)

    def _resume(self, executor_id: str) -> None:
        """Looked up under its lock: its owner may have come back and gone on meanwhile."""
        for run in DBOS.list_workflows(status="PENDING", executor_id=executor_id):
            if run.queue_name:
                DBOS.resume_workflow(run.workflow_id, queue_name=run.queue_name)
                self._naps.ring(run.queue_name)
                LOG.warning("engine: %s of dead executor %s waits again", run.workflow_id, executor_id)


def migrate(sql: SqlEngine) -> None:
    """DBOS's tables exist in that database; harmless when they do already."""
    DBOS.migrate(sql.url.render_as_string(hide_password=False))


def queue_task(queue: str) -> str:
    """The name under which DBOS knows the task of a queue: its first word ("send" of "send.pacs")."""
    return queue.partition(".")[0]


def _register(name: str, task: Task, running: set[str], ended: Callable[[str], None]) -> None:
    """DBOS knows the task; queues that share a first word share one task, told apart by destination.

    running: holds the id of each run while it is done.
    """

    def step(job_id: int, destination: str) -> str:
        # A task records its own faults. What still rises is a database away: a run that ended in error would never
        # be taken up again, so it is done again until its outcome is written.
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                outcome = task(job_id, destination)
            except Exception:
                LOG.exception("engine: %s of job %s could not record its outcome, again in %g s", name, job_id, pause_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                ended(f"{name}.{destination}" if destination else name)
                return outcome

    def workflow(job_id: int, destination: str) -> str:
        run_id = str(DBOS.workflow_id)
        running.add(run_id)
        try:
            return DBOS.run_step({"name": name}, step, job_id, destination)
        finally:
            running.discard(run_id)

    DBOS.workflow(name=name, max_recovery_attempts=None)(workflow)
