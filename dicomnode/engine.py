"""The only file that knows DBOS: queues, durable runs, priorities, and who takes over from a dead executor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

if TYPE_CHECKING:
    from sqlalchemy import Engine as SqlEngine

LOG = logging.getLogger(__name__)
NAME = "dicomnode"
PREDECESSOR_S = 8.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STEPS_VERSION = "1"
"""Changes only when the order of steps changes; DBOS's default, a hash of the code, would strand work at an upgrade."""

Task = Callable[[int, str], str]
"""What an executor carries out: (job id, destination or "") -> what became of it, for the record."""


class Lock(Protocol):
    """A lock that dies with its holder."""

    def release(self) -> None:
        """Let another have it."""


LockTaker = Callable[[str], Lock | None]
"""The lock of that executor id, or None while its executor lives."""


class Engine:
    """The way in for the process that holds the port: work is put on queues and never run here."""

    def __init__(self, sql: SqlEngine) -> None:
        migrate(sql)
        self._client = DBOSClient(system_database_engine=sql, serializer=DBOSPortableJSONSerializer())

    def register_queue(self, queue: str, *, concurrency_per_executor: int) -> None:
        """A queue exists, and each executor runs so many of its tasks at once."""
        self._client.register_queue(
            queue, worker_concurrency=concurrency_per_executor, polling_interval_sec=0.2, on_conflict="always_update"
        )

    def enqueue(self, queue: str, run_id: str, *, job_id: int, destination: str, priority: int) -> None:
        """The task waits on its queue; doing it twice with one `run_id` is harmless."""
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
        takeover_s: float = 2.0,
    ) -> None:
        """tasks: queue -> what to do. Raises RuntimeError when another live process has this executor id."""
        lock = _wait_for_lock(take_lock, executor_id)
        self._lock, self._take_lock, self._executor_id = lock, take_lock, executor_id
        self._queues, self._takeover_s = tuple(tasks), takeover_s
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
                "run_migrations": False,
                "notification_listener_polling_interval_sec": 1.0,
                "scheduler_polling_interval_sec": 3600.0,
            }
        )
        for name, task in {queue_task(queue): task for queue, task in tasks.items()}.items():
            _register(name, task)
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch_for_the_dead, name="takeover", daemon=True)

    def start(self) -> None:
        """Work left by an earlier life of this executor id goes on, then the queues are listened to."""
        self._dbos.listen_queues(self._queues)
        DBOS.launch()
        self._watcher.start()

    def stop(self, *, drain_s: int) -> None:
        """Nothing new is begun; what runs has `drain_s` seconds to end, and otherwise goes on at the next start.

        The lock stays until the process ends: a task that did not end in time may still be running.
        """
        self._stop.set()
        DBOS.destroy(workflow_completion_timeout_sec=drain_s)

    def _watch_for_the_dead(self) -> None:
        while not self._stop.wait(self._takeover_s):
            try:
                self._take_over()
            except Exception:  # a database away for a while: the looking must not end with it
                LOG.exception("engine: looking for dead executors failed and is tried again")

    def _take_over(self) -> None:
        pending = DBOS.list_workflows(status="PENDING", queues_only=False, load_input=False, load_output=False)
        for executor_id in {run.executor_id for run in pending if run.executor_id} - {self._executor_id}:
            lock = self._take_lock(executor_id)
            if lock is None:
                continue  # alive
            try:
                # Looked up again under the lock: its owner may have come back and gone on meanwhile.
                left = [run for run in DBOS.list_workflows(status="PENDING", executor_id=executor_id) if run.queue_name]
                for run in left:
                    DBOS.resume_workflow(run.workflow_id, queue_name=run.queue_name)
                    LOG.warning("engine: %s of dead executor %s waits again", run.workflow_id, executor_id)
            finally:
                lock.release()


def _wait_for_lock(take_lock: LockTaker, executor_id: str) -> Lock:
    """The executor's lock; a predecessor that is just ending is waited for."""
    deadline = time.monotonic() + PREDECESSOR_S
    while (lock := take_lock(executor_id)) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"another process already runs as {executor_id}; is a second node on this data folder?")
        time.sleep(0.1)
    return lock


def migrate(sql: SqlEngine) -> None:
    """DBOS's tables exist in that database; harmless when they do already."""
    DBOS.migrate(sql.url.render_as_string(hide_password=False))


def queue_task(queue: str) -> str:
    """The name under which DBOS knows the task of a queue: its first word ("send" of "send.pacs")."""
    return queue.partition(".")[0]


def _register(name: str, task: Task) -> None:
    """DBOS knows the task; queues that share a first word share one task, told apart by destination."""

    def step(job_id: int, destination: str) -> str:
        # A task records its own faults. What still rises is a database away: a run that ended in error would never
        # be taken up again, so it is done again until its outcome is written.
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return task(job_id, destination)
            except Exception:
                LOG.exception("engine: %s of job %s could not record its outcome, again in %g s", name, job_id, pause_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def workflow(job_id: int, destination: str) -> str:
        return DBOS.run_step({"name": name}, step, job_id, destination)

    DBOS.workflow(name=name, max_recovery_attempts=None)(workflow)


def priorities() -> Sequence[str]:
    """The words of a rule's priority, most urgent first; a queue takes smaller numbers first."""
    return ("stat", "routine", "low")
