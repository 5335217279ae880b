"""The composition root: builds every room, runs its threads and processes; the only file that knows all rooms."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from dicomnode.config import IN_FORCE, Config, keep_in_force, load_config
from dicomnode.dispatch import Dispatcher
from dicomnode.engine import Engine
from dicomnode.errors import ConfigFault
from dicomnode.fast_store import Deadlines
from dicomnode.notify import notify
from dicomnode.processes import Child, Processes
from dicomnode.receive import CONFLICT_STATUS, Receiver
from dicomnode.stores import Stores
from dicomnode.sweep import Sweep
from dicomnode.upkeep import Life, Upkeep
from storage.database import open_engine
from storage.errors import DatabaseAway
from storage.locks import take_lock

LOG = logging.getLogger(__name__)
SWEEP_S, DISPATCH_S, BATCH_S = 0.25, 0.25, 0.1
RECEIVER_DRAIN_S, CHILD_DRAIN_S = 10.0, 40.0
RELOADABLE = {"quiet_seconds", "pipeline_limit_s", "retry_first_s", "retry_longest_s", "give_up_after_days"}
"""Keys of [node] that take effect at a reload; a change of any other needs a restart and is refused."""


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
        self._arrived = threading.Event()
        self._stop = threading.Event()
        self._reload_asked = threading.Event()
        self._children = children(config, config.data_folder / IN_FORCE)
        self._processes = Processes(self._children)
        life = Life(self._living, lambda: self._receiver.open_associations, self._threads_live, lambda: self.port)
        self._upkeep = Upkeep(lambda: self._config, self._stores.database, self._stores.files, life)
        node = config.node
        self._sweep = Sweep(lambda: self._config, self._stores, listed=self._upkeep.count_listed)
        self._dispatch = Dispatcher(
            lambda: self._config, self._stores.database, self._engine, self._processes, self._sweep.tell
        )
        self._receiver = Receiver(
            ae_title=node.ae_title,
            peers=config.peers,
            files=self._stores.files,
            arrived=self._arrived,
            happened=self._sweep.tell,
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
            ("sweep", self._sweep_once, SWEEP_S, self._arrived),
            ("dispatch", self._dispatch, DISPATCH_S, self._stop),
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
            self._sweep()
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
            self._sweep.tell("config not reloaded", "", {"reason": str(fault)[:500]})
            return
        self._config = new
        keep_in_force(new)
        self._receiver.accept_peers(new.peers)
        self._dispatch.open_lanes()
        self._sweep.look_again()
        self._processes.send_signal(signal.SIGHUP)
        LOG.info("config reloaded: %d rules, %d peers", len(new.rules), len(new.peers))
        self._sweep.tell("config reloaded", "", {"rules": len(new.rules), "peers": len(new.peers)})

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

    def _sweep_once(self) -> None:
        if self._reload_asked.is_set():
            self._reload_asked.clear()
            self.reload()
        self._sweep()


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
