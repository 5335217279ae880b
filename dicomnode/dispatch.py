"""What waits is put on its queue, what runs too long is ended, processes that died run again."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dicomnode.bell import DISPATCH_ROOM, Bell
from dicomnode.config import Config
from dicomnode.engine import Engine
from dicomnode.overdue import end_overdue
from dicomnode.peer import Peer
from dicomnode.processes import Processes
from dicomnode.urgency import FIRST, begin_by
from storage import deliveries, jobs, lanes, promises
from storage.database import Database

LOG = logging.getLogger(__name__)
DERIVE_QUEUE, SEND_QUEUE = "derive", "send"
ROUTINE = 1
STRANDED = timedelta(hours=1)
"""After so long nobody is at work any more on a report that was to be told over the association that asked for it."""

Tell = Callable[[str, str, Mapping[str, Any]], None]
"""Told of what the audit must know: (event, peer, details)."""


class Dispatcher:
    """One call looks once; it keeps what is on the queues already. `wake` is set when there is something to do."""

    def __init__(
        self, config: Callable[[], Config], database: Database, engine: Engine, processes: Processes, tell: Tell
    ) -> None:
        """config: the one in force, asked each time."""
        self._config, self._database, self._engine = config, database, engine
        self._processes, self._tell = processes, tell
        self._engine.register_queue(DERIVE_QUEUE, concurrency_per_executor=1)
        self._bell = Bell(config().data_folder)
        self._lanes: dict[str, int] = {}
        self._peers: dict[str, Peer] = {}
        self._changed: set[str] = set()
        self._enqueued: set[str] = set()
        self._left: set[str] = set()
        self.wake = threading.Event()
        self.open_lanes()

    def listen(self) -> None:
        """What ends in another process, or is requeued by a command, sets `wake`."""
        self._bell.listen(DISPATCH_ROOM, "node", self.wake.set)

    def __call__(self) -> None:
        """What waits is on its queue; what runs too long is ended; processes that died run again."""
        now = datetime.now(UTC)
        self._probe_changed(now)
        with self._database.read() as connection:
            waiting = jobs.waiting_jobs(connection, now)
            due = deliveries.due_deliveries(connection, now)
            running = jobs.running_jobs(connection)
            known = lanes.all_lanes(connection)
            asked = promises.due_promises(connection, now)
        wanted, rung = set(), set()
        for job in (*waiting, *running):
            # The same id while the same run goes on: an interrupted or crashed one is the engine's to resume. Running
            # ones are named too, in case the engine's own file was lost: what it knows already changes nothing.
            run_id = f"{job.id}.{job.key[:12]}.{job.round}.{job.retries}"
            wanted.add(run_id)
            if self._enqueue(
                DERIVE_QUEUE, run_id, job.id, "", begin_by(job.priority, job.not_before or job.created_at)
            ):
                rung.add(DERIVE_QUEUE)
        for one in due:
            lane = self._lane(one.destination)
            # With each break the ids are others: what was dequeued while the lane was broken had its run.
            breaks = known[one.destination].breaks if one.destination in known else 0
            run_id = f"{lane}.{one.job_id}.{one.round}.{one.attempts}.{breaks}.{one.asks}"
            wanted.add(run_id)
            if self._enqueue(lane, run_id, one.job_id, one.destination, begin_by(one.priority, one.since)):
                rung.add(lane)
        broken = {name: lane for name, lane in known.items() if lane.broken}
        for name, broken_lane in broken.items():
            if broken_lane.next_probe_at is None or broken_lane.next_probe_at > now:
                continue
            run_id = f"{self._lane(name)}.probe.{broken_lane.breaks}.{broken_lane.failures}"
            wanted.add(run_id)
            if self._enqueue(self._lane(name), run_id, lanes.PROBE, name, FIRST):
                rung.add(self._lane(name))
        for promise in asked:  # the report on what a peer wants kept has its turn in the lane to that peer
            if (peer := self._peers.get(promise.peer)) is not None and not peer.reachable:
                self._end_stranded(promise, now)
                continue  # it is told over its own association, or not at all
            lane = self._lane(promise.peer)
            run_id = f"{lane}.promise.{promise.id}.{promise.attempts}"
            wanted.add(run_id)
            if self._enqueue(lane, run_id, -promise.id, promise.peer, begin_by(ROUTINE, promise.asked_at)):
                rung.add(lane)
        self._enqueued &= wanted
        for queue in rung:
            self._bell.ring(queue)
        self._tell_left({one.destination for one in due} | {promise.peer for promise in asked} | set(broken))
        for job in running:
            end_overdue(job, now, config=self._config(), database=self._database, processes=self._processes)
        for noticed in self._processes.tend():
            LOG.warning("node: %s", noticed)
            self._tell("process restarted", "", {"what": noticed})

    def _end_stranded(self, promise: promises.Promise, now: datetime) -> None:
        """A request that was to be told over an association that has ended, or whose node was killed, does not wait."""
        if now - promise.asked_at > STRANDED:
            LOG.error("commitment: %s was not told what we keep: its association is gone", promise.peer)
            why = "the association over which it was to be told is gone, and it has no host and port to be called at"
            with self._database.begin() as connection:
                promises.abandon_promise(connection, promise, reason=why)

    def _enqueue(self, queue_name: str, run_id: str, job_id: int, destination: str, priority: int) -> bool:
        """Whether it was not on the queue already, as far as this process knows."""
        if run_id in self._enqueued:
            return False
        self._engine.enqueue(queue_name, run_id, job_id=job_id, destination=destination, priority=priority)
        self._enqueued.add(run_id)
        return True

    def open_lanes(self) -> None:
        """Every peer that can be sent to has a lane before anything waits for it; asked again at each reload.

        A peer that changed is probed at once where its lane is broken: that may be what it was mended by.
        """
        peers = dict(self._config().peers)
        self._changed |= {name for name, peer in self._peers.items() if peers.get(name) != peer}
        self._peers = peers
        for name, peer in peers.items():
            if peer.reachable:
                self._lane(name)

    def _probe_changed(self, now: datetime) -> None:
        if changed := set(self._changed):
            with self._database.begin() as connection:
                lanes.probe_at_once(connection, changed, now)
            self._changed -= changed

    def _lane(self, destination: str) -> str:
        """The queue of that destination, as many deliveries at a time as it takes associations."""
        lane, peer = f"{SEND_QUEUE}.{destination}", self._peers.get(destination)
        associations = 1 if peer is None else peer.associations
        if self._lanes.get(lane) != associations:
            self._engine.register_queue(lane, concurrency_per_executor=associations)
            self._lanes[lane] = associations
        return lane

    def _tell_left(self, destinations: set[str]) -> None:
        """What left the config while something was on its way there: the sender must hear of its lane.

        So the delivery is put off with its reason and abandoned in time, not forgotten.
        """
        for name in sorted(destinations - set(self._config().peers) - self._left):
            LOG.warning("node: deliveries wait for %s, which is no longer in node.toml", name)
            self._left.add(name)
            self._processes.send_signal(signal.SIGHUP)
