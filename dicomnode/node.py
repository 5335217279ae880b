"""The composition root: builds every room, runs its threads and processes; the only file that knows all rooms."""

from __future__ import annotations

import logging
import queue
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicomnode import gather, route
from dicomnode.config import IN_FORCE, Config, keep_in_force, load_config
from dicomnode.engine import Engine
from dicomnode.errors import ConfigFault
from dicomnode.fast_store import Deadlines
from dicomnode.notify import notify
from dicomnode.processes import Child, Processes
from dicomnode.receive import CONFLICT_STATUS, Receiver
from dicomnode.upkeep import Life, Upkeep
from storage import audit, catalog, deliveries, jobs
from storage.database import Database, open_engine
from storage.errors import DatabaseAway, StaleState
from storage.instance_files import InstanceFiles
from storage.jobs import Event, State
from storage.locks import take_lock

LOG = logging.getLogger(__name__)
DERIVE_QUEUE, SEND_QUEUE = "derive", "send"
SWEEP_S, DISPATCH_S, BATCH_S = 0.25, 0.25, 0.1
RECEIVER_DRAIN_S, CHILD_DRAIN_S = 10.0, 40.0
RELOADABLE = {"quiet_seconds", "pipeline_limit_s", "retry_first_s", "retry_longest_s", "give_up_after_days"}
"""Keys of [node] that take effect at a reload; a change of any other needs a restart and is refused."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept, opened."""

    database: Database
    files: InstanceFiles
    folder: Path

    @classmethod
    def open(cls, config: Config) -> Stores:
        """The database migrated to what this version needs, and the folders of instance files."""
        folder = config.data_folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database.open(config.database_url)
        database.migrate()
        return cls(database, InstanceFiles(folder), folder)

    @staticmethod
    def look(config: Config) -> Database:
        """The database of a node that has run, for reading: nothing is made and nothing migrated."""
        if not config.node.database and not (config.data_folder / "node.sqlite").is_file():
            raise ConfigFault(
                config.folder / "node.toml", "node.data_folder", f"no node has run yet with {config.data_folder}"
            )
        return Database.open(config.database_url)


class Node:
    """The process that holds the port: it receives, gathers, routes and dispatches, and never imports torch."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigFault when another node runs on the same data folder."""
        self._config = config
        self._stores = Stores.open(config)
        name = f"node {socket.gethostname()} {config.data_folder}"
        self._lock = take_lock(self._stores.database, self._stores.folder / "locks", name)
        if self._lock is None:
            raise ConfigFault(config.folder / "node.toml", "node.data_folder", "another node runs on it; stop it first")
        self._stores.files.sweep_parts()
        self._engine = Engine(open_engine(config.engine_database_url))
        self._engine.register_queue(DERIVE_QUEUE, concurrency_per_executor=1)
        self._lanes: set[str] = set()
        self._open_lanes(config)
        self._arrived = threading.Event()
        self._stop = threading.Event()
        self._reload_asked = threading.Event()
        self._happened: queue.SimpleQueue[tuple[str, str, Mapping[str, Any]]] = queue.SimpleQueue()
        self._pending: list[tuple[str, str, Mapping[str, Any]]] = []
        self._enqueued: set[str] = set()
        self._left: set[str] = set()
        self._looked_at: dict[str, tuple[int, int, int]] = {}
        self._not_routed: set[tuple[str, int, int]] = set()
        self._children = children(config, config.data_folder / IN_FORCE)
        self._processes = Processes(self._children)
        life = Life(self._living, lambda: self._receiver.open_associations, self._threads_live, lambda: self.port)
        self._upkeep = Upkeep(lambda: self._config, self._stores.database, self._stores.files, life)
        node = config.node
        self._receiver = Receiver(
            ae_title=node.ae_title,
            peers=config.peers,
            files=self._stores.files,
            arrived=self._arrived,
            happened=lambda event, peer, details: self._happened.put((event, peer, details)),
            maximum_associations=node.maximum_associations,
            maximum_pdu=node.maximum_pdu,
            idle_s=node.association_idle_s,
            conflict_status=CONFLICT_STATUS[node.conflict_status],
            has_room=self._upkeep.has_room,
            receive_path=node.receive_path,
            maximum_instance_bytes=node.maximum_instance_bytes,
            deadlines=Deadlines(node.pdu_stall_s, node.pdu_limit_s, node.negotiation_s),
        )
        self._threads: list[threading.Thread] = []
        self.port = 0

    def start(self) -> None:
        """The port is open and everything runs. Raises ConfigFault when the port cannot be had."""
        self._upkeep.start()
        host, port = self._config.node.host, self._config.node.port
        try:
            self.port = self._receiver.start(host, port)
        except OSError as fault:
            why = f"cannot listen on {host}:{port} ({fault.strerror}); is another node or program on it?"
            raise ConfigFault(self._config.folder / "node.toml", "node.port", why) from fault
        keep_in_force(self._config)
        self._processes.start()
        self._arrived.set()
        for name, step, every_s, wake in (
            ("sweep", self.sweep, SWEEP_S, self._arrived),
            ("dispatch", self.dispatch, DISPATCH_S, self._stop),
        ):
            thread = threading.Thread(target=self._repeat, args=(name, step, every_s, wake), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        notify("READY=1")

    def _living(self) -> dict[str, bool]:
        """Which of the other processes live."""
        running = self._processes.process_ids()
        return {child.executor_id: child.executor_id in running for child in self._children}

    def _threads_live(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Returns when the node has been asked to stop."""
        self._stop.wait()

    def ask_to_stop(self) -> None:
        """`wait` returns soon; safe in a signal handler."""
        self._stop.set()

    def stop(self) -> None:
        """Drains: no new association, what is received is listed, running jobs end or are left for the next start."""
        notify("STOPPING=1")
        self._stop.set()
        self._receiver.stop(drain_s=RECEIVER_DRAIN_S)
        self._arrived.set()
        for thread in self._threads:
            thread.join(RECEIVER_DRAIN_S)
        try:
            self.sweep()
        except DatabaseAway as fault:  # what arrived lies on disk and is listed at the next start
            LOG.error("node: not everything could be listed before the stop: %s", fault)
        self._processes.stop(drain_s=CHILD_DRAIN_S)
        self._upkeep.stop()
        self._engine.close()
        self._stores.database.close()

    def ask_to_reload(self) -> None:
        """The config is read again at the next sweep; safe in a signal handler."""
        self._reload_asked.set()
        self._arrived.set()

    def reload(self) -> None:
        """The admin's files are read again; a file with a mistake keeps the old config and says why."""
        try:
            new = load_config(self._config.folder)
            refuse_what_needs_a_restart(self._config, new)
        except ConfigFault as fault:
            LOG.error("config not reloaded, the old one stays: %s", fault)
            self._happened.put(("config not reloaded", "", {"reason": str(fault)[:500]}))
            return
        self._config = new
        keep_in_force(new)
        self._receiver.accept_peers(new.peers)
        self._open_lanes(new)
        self._looked_at.clear()
        self._processes.send_signal(signal.SIGHUP)
        LOG.info("config reloaded: %d rules, %d peers", len(new.rules), len(new.peers))
        self._happened.put(("config reloaded", "", {"rules": len(new.rules), "peers": len(new.peers)}))

    def _repeat(self, name: str, step: Callable[[], None], every_s: float, wake: threading.Event) -> None:
        while not self._stop.is_set():
            wake.wait(every_s)
            if wake is self._arrived:
                self._stop.wait(BATCH_S)  # what comes in this time is listed together
                wake.clear()
            try:
                step()
            except Exception:  # a full disk or a database away: said loudly, and tried again
                LOG.exception("node: %s failed and is tried again", name)
                self._stop.wait(1.0)

    def sweep(self) -> None:
        """What arrived is listed; what is whole becomes jobs."""
        if self._reload_asked.is_set():
            self._reload_asked.clear()
            self.reload()
        self._write_happenings()
        now = datetime.now(UTC)
        database, config = self._stores.database, self._config
        names = {peer.ae_title: name for name, peer in config.peers.items()}
        gather.list_arrivals(
            database,
            self._stores.files,
            peer_of=lambda title: names.get(title, title),
            listed=self._upkeep.count_listed,
        )
        with database.read() as connection:
            waiting = catalog.open_series(connection)
        for series in waiting:
            try:
                self._close_when_whole(series, now)
            except DatabaseAway:
                raise
            except Exception as fault:  # one series must not hold up the others
                self._tell_not_routed(series, fault)

    def _tell_not_routed(self, series: catalog.Series, fault: Exception) -> None:
        """Said once for what came of the series; it stays open and is tried again at every sweep."""
        told = (series.series_instance_uid, series.generation, series.instance_count)
        if told not in self._not_routed:
            self._not_routed.add(told)
            LOG.exception("route: series %s cannot be routed and stays open", series.series_instance_uid)
            details = {"series_instance_uid": series.series_instance_uid, "reason": type(fault).__name__}
            self._happened.put(("series not routed", series.peer, details))

    def _close_when_whole(self, series: catalog.Series, now: datetime) -> None:
        config = self._config
        peer = config.peers.get(series.peer)
        quiet_s = config.node.quiet_seconds if peer is None or peer.quiet_seconds is None else peer.quiet_seconds
        age_s = (now - series.last_received_at).total_seconds()
        # Asked when something came, when a reached count has stood long enough, and from the quiet time on.
        phase = (age_s >= gather.ACQUISITION_SETTLE_S) + (age_s >= quiet_s)
        seen = (series.generation, series.instance_count, phase)
        if age_s < quiet_s and self._looked_at.get(series.series_instance_uid) == seen:
            return
        self._looked_at[series.series_instance_uid] = seen
        with self._stores.database.read() as connection:
            instances = catalog.series_instances(connection, series.series_instance_uid)
        headers = [instance.header for instance in instances]
        because = gather.whole_because(series, headers, quiet_seconds=quiet_s, now=now)
        if because is None:
            return
        try:
            made = route.route_series(self._stores.database, series, instances, config=config, because=because, now=now)
        except StaleState:
            return  # an instance came meanwhile: asked again at the next sweep
        self._looked_at.pop(series.series_instance_uid, None)
        LOG.info("route: series %s is whole (%s): %d jobs", series.series_instance_uid, because, len(made))

    def dispatch(self) -> None:
        """What waits is on its queue; what runs too long is ended; processes that died run again."""
        now = datetime.now(UTC)
        with self._stores.database.read() as connection:
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
            self._happened.put(("process restarted", "", {"what": noticed}))

    def _enqueue(self, queue_name: str, run_id: str, job_id: int, destination: str, priority: int) -> None:
        if run_id in self._enqueued:
            return
        self._engine.enqueue(queue_name, run_id, job_id=job_id, destination=destination, priority=priority + 1)
        self._enqueued.add(run_id)

    def _open_lanes(self, config: Config) -> None:
        """Every peer that can be sent to has a lane before anything waits for it."""
        for name, peer in config.peers.items():
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
        for name in sorted(destinations - set(self._config.peers) - self._left):
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
        limit_s = self._config.limit_s(job.pipeline)
        try:
            with self._stores.database.begin() as connection:
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

    def _write_happenings(self) -> None:
        """What the other threads told enters the audit; what cannot be written now is kept for the next sweep."""
        while not self._happened.empty():
            self._pending.append(self._happened.get_nowait())
        while self._pending:
            event, peer, details = self._pending[0]
            try:
                with self._stores.database.begin() as connection:
                    series_uid = str(details.get("series_instance_uid", ""))
                    audit.append(connection, event, series_instance_uid=series_uid, peer=peer, details=details)
            except DatabaseAway:
                raise
            except Exception:  # a row the audit refuses must not hold back the others
                LOG.exception("node: the audit does not take a row of %r", event)
            self._pending.pop(0)


def refuse_what_needs_a_restart(old: Config, new: Config) -> None:
    """Raises ConfigFault naming a key that cannot change while the node runs."""
    for key in sorted(set(type(new.node).model_fields) - RELOADABLE):
        if getattr(old.node, key) != getattr(new.node, key):
            raise ConfigFault("node.toml", f"node.{key}", "cannot change while the node runs; restart it")
    if old.workers != new.workers:
        raise ConfigFault("node.toml", "workers", "cannot change while the node runs; restart it")


def children(config: Config, in_force: Path) -> list[Child]:
    """The processes beside the one with the port: one worker per device, and one that sends."""
    host, folder = socket.gethostname(), ("--config", str(in_force), "--relative-to", str(config.folder))
    workers = [
        Child(f"{host}/work-{index}", ("work", *folder, "--executor", f"{host}/work-{index}", "--device", one.device))
        for index, one in enumerate(config.workers)
    ]
    return [*workers, Child(f"{host}/send", ("send", *folder, "--executor", f"{host}/send"))]
