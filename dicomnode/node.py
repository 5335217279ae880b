"""The composition root: builds every room, runs its threads and processes; the only file that knows all rooms."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dicomnode.config import IN_FORCE, Config, keep_in_force, load_config
from dicomnode.dispatch import Dispatcher
from dicomnode.engine import Engine
from dicomnode.errors import ConfigFault
from dicomnode.fetch import Fetch
from dicomnode.notify import notify
from dicomnode.processes import Child, Processes
from dicomnode.reception import Reception
from dicomnode.stores import Stores
from dicomnode.sweep import Sweep
from dicomnode.uids import NODE_VERSION
from dicomnode.upkeep import Life, Upkeep
from storage.database import open_engine
from storage.errors import DatabaseAway, StorageFull
from storage.locks import take_file_lock

LOG = logging.getLogger(__name__)
SWEEP_S, DISPATCH_S, TEND_S, FETCH_S, BATCH_S = 0.25, 1.0, 0.25, 1.0, 0.1
THREAD_END_S, CHILD_DRAIN_S = 10.0, 40.0
PARTS_S = 6.0
"""So long after the death of a receiver the files that it had half written are removed."""
SWEEP_NICE, WORK_NICE = 2, 10
"""When cores are short, receiving goes before listing and listing before computing: a scanner waits for nobody.

Listing stands back a little only: with 5, on a machine that other programs kept busy, five times as much waited for it.
"""
RELOADABLE = {"quiet_seconds", "pipeline_limit_s", "retry_first_s", "retry_longest_s", "give_up_after_days"}
"""Keys of [node] that take effect at a reload; a change of any other needs a restart and is refused."""


class Node:
    """The process that holds everything together: others receive, derive and send; it lists, routes and dispatches."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigFault when another node runs on the same data folder."""
        self._config = config
        self._stores = Stores.open(config)
        self._lock = take_file_lock(self._stores.folder / "locks", "node")
        if self._lock is None:
            raise ConfigFault(config.folder / "node.toml", "node.data_folder", "another node runs on it; stop it first")
        self._stores.files.sweep_parts()
        self._engine = Engine(open_engine(config.engine_database_url))
        self._arrived = threading.Event()
        self._stop = threading.Event()
        self._reload_asked = threading.Event()
        self._children = children(config, config.data_folder / IN_FORCE)
        self._processes = Processes(self._children)
        life = Life(self._living, lambda: self._reception.open_associations, self._threads_live, lambda: self.port)
        self._upkeep = Upkeep(
            lambda: self._config,
            self._stores.database,
            self._stores.files,
            life,
            forget_runs=self._engine.forget_finished,
        )
        self._sweep = Sweep(
            lambda: self._config,
            self._stores,
            listed=self._upkeep.count_listed,
            routed=lambda: self._dispatch.wake.set(),
        )
        self._dispatch = Dispatcher(
            lambda: self._config, self._stores.database, self._engine, self._processes, self._sweep.tell
        )
        self._reception = Reception(config, tell=self._sweep.tell, arrived=self._arrived)
        self._fetch = Fetch(
            lambda: self._config, self._stores, tell=self._sweep.tell, filled=lambda: self._dispatch.wake.set()
        )
        self._parts_at = time.monotonic() + PARTS_S
        self._threads: list[threading.Thread] = []
        self.port = 0

    def start(self) -> None:
        """An association is answered and everything runs. Raises ConfigFault when a port cannot be had."""
        self.port = self._reception.open()  # first: nothing else begins when it is taken
        self._upkeep.start()
        keep_in_force(self._config)
        self._reception.start()
        self._processes.start()
        self._reception.wait_until_answering()
        self._dispatch.listen()
        self._arrived.set()
        for name, step, every_s, wake in (
            ("sweep", self._sweep_once, SWEEP_S, self._arrived),
            ("dispatch", self._dispatch, DISPATCH_S, self._dispatch.wake),
            ("fetch", self._fetch, FETCH_S, threading.Event()),
            ("receivers", self._tend_receivers, TEND_S, self._reception.ended),
        ):
            thread = threading.Thread(target=self._repeat, args=(name, step, every_s, wake), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._sweep.tell("node started", "", {"version": NODE_VERSION, "rules": len(self._config.rules)})
        notify("READY=1")

    def _living(self) -> dict[str, bool]:
        """Which of the other processes live; those that receive, when they answer."""
        running = self._processes.process_ids()
        others = {child.executor_id: child.executor_id in running for child in self._children}
        return {**self._reception.living(), **others}

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
        self._reception.stop()
        self._arrived.set()
        self._dispatch.wake.set()
        for thread in self._threads:
            thread.join(THREAD_END_S)
        self._sweep.tell("node stopped", "", {"version": NODE_VERSION})
        ends_at = time.monotonic() + THREAD_END_S
        try:
            if any(thread.name == "sweep" and thread.is_alive() for thread in self._threads):
                raise TimeoutError("a sweep still runs")  # two at once could take away names that are not durable yet
            while self._sweep() and time.monotonic() < ends_at:
                pass  # a long backlog is listed in portions
            self._sweep.tidy()
        except (DatabaseAway, StorageFull, OSError) as fault:  # it lies on disk and is listed at the next start
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
        self._dispatch.open_lanes()
        self._sweep.look_again()
        self._reception.send_signal(signal.SIGHUP)
        self._processes.send_signal(signal.SIGHUP)
        LOG.info("config reloaded: %d rules, %d peers", len(new.rules), len(new.peers))
        self._sweep.tell("config reloaded", "", {"rules": len(new.rules), "peers": len(new.peers)})

    def _repeat(self, name: str, step: Callable[[], None], every_s: float, wake: threading.Event) -> None:
        if name == "sweep":  # Linux: of this thread and those it starts
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + SWEEP_NICE)
        while not self._stop.is_set():
            wake.wait(every_s)
            if wake is self._dispatch.wake:
                wake.clear()
            if wake is self._arrived:
                self._stop.wait(BATCH_S)  # what comes in this time is listed together
                wake.clear()
            try:
                step()
            except DatabaseAway as fault:  # said in a line, and tried again until it is back
                LOG.error("node: %s waits: %s", name, fault)
                self._stop.wait(1.0)
            except Exception:  # a full disk, say: said loudly, and tried again
                LOG.exception("node: %s failed and is tried again", name)
                self._stop.wait(1.0)

    def _tend_receivers(self) -> None:
        """On a thread of its own: a database that is away must not keep a receiver from starting again."""
        if self._reception.tend():
            self._parts_at = time.monotonic() + PARTS_S
        if time.monotonic() >= self._parts_at:
            self._parts_at = float("inf")
            self._stores.files.sweep_parts(older_than_s=PARTS_S / 2)

    def _sweep_once(self) -> None:
        if self._reload_asked.is_set():
            self._reload_asked.clear()
            self.reload()
        if self._sweep():
            self._arrived.set()  # more waits than one sweep lists


def refuse_what_needs_a_restart(old: Config, new: Config) -> None:
    """Raises ConfigFault naming a key that cannot change while the node runs."""
    for key in sorted(set(type(new.node).model_fields) - RELOADABLE):
        if getattr(old.node, key) != getattr(new.node, key):
            raise ConfigFault("node.toml", f"node.{key}", "cannot change while the node runs; restart it")
    for table in ("workers", "tls", "store"):
        if getattr(old, table) != getattr(new, table):
            raise ConfigFault("node.toml", table, "cannot change while the node runs; restart it")


def children(config: Config, in_force: Path) -> list[Child]:
    """The processes beside those that receive: one worker per device, and one that sends."""
    host, folder = socket.gethostname(), ("--config", str(in_force), "--relative-to", str(config.folder))
    workers = []
    for index, one in enumerate(config.workers):
        name = f"{host}/work-{index}"
        words = ("work", *folder, "--executor", name, "--device", one.device)
        workers.append(Child(name, words, nice=WORK_NICE))
    return [*workers, Child(f"{host}/send", ("send", *folder, "--executor", f"{host}/send"))]
