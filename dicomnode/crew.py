"""The root of a machine that only computes: its workers share the node's jobs, over PostgreSQL and a common store."""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

from dicomnode.config import IN_FORCE, Config, keep_in_force, load_config
from dicomnode.errors import ConfigFault
from dicomnode.notify import notify, watchdog_s
from dicomnode.overdue import end_overdue
from dicomnode.processes import Child, Processes
from dicomnode.stores import Stores
from storage import audit, jobs
from storage.errors import DatabaseAway
from storage.locks import take_file_lock

LOG = logging.getLogger(__name__)
TEND_S, DRAIN_S = 0.5, 40.0


class Crew:
    """The workers of `[[workers]]` on this machine: started, watched, started again, ended. Sending is the node's."""

    def __init__(self, config: Config, *, name: str) -> None:
        """name: this machine's among all that share the jobs. Raises ConfigFault when a crew of that name runs here."""
        self._config, self._name = config, name
        self._stores = Stores.open(config)
        self._folder = config.data_folder / "crews" / hashlib.sha256(name.encode()).hexdigest()[:16]
        self._lock = take_file_lock(self._stores.folder / "locks", f"crew {name}")
        if self._lock is None:
            raise ConfigFault(config.folder / "node.toml", "workers", f"workers called {name} run here already")
        keep_in_force(replace(config, data_folder=self._folder))
        folder = ("--config", str(self._folder / IN_FORCE), "--relative-to", str(config.folder))
        children = []
        for index, one in enumerate(config.workers):
            executor = f"{name}/crew-{index}"
            children.append(Child(executor, ("work", *folder, "--executor", executor, "--device", one.device)))
        self._processes = Processes(children)
        self._stop, self._reload_asked = threading.Event(), threading.Event()
        self._away = False

    def run(self) -> None:
        """Works until it is asked to stop, then drains: what runs has its time to end, or goes on elsewhere."""
        self._processes.start()
        notify("READY=1")
        LOG.info("crew: %s works with %d processes", self._name, len(self._config.workers))
        alive_at = 0.0
        while not self._stop.wait(TEND_S):
            if self._reload_asked.is_set():
                self._reload_asked.clear()
                self._reload()
            self.tend()
            if (pause_s := watchdog_s()) is not None and time.monotonic() >= alive_at:
                notify("WATCHDOG=1")
                alive_at = time.monotonic() + pause_s
        notify("STOPPING=1")
        self._processes.stop(drain_s=DRAIN_S)
        self.close()

    def close(self) -> None:
        """Another crew may have the name."""
        self._stores.database.close()
        if self._lock is not None:
            self._lock.release()

    def ask_to_stop(self) -> None:
        """`run` returns soon; safe in a signal handler."""
        self._stop.set()

    def ask_to_reload(self) -> None:
        """The config is read again soon; safe in a signal handler."""
        self._reload_asked.set()

    def tend(self) -> None:
        """What runs over its limit is ended, who died runs again; without the database the workers still live."""
        try:
            self._end_overdue()
        except DatabaseAway as fault:
            if not self._away:
                LOG.error("crew: limits cannot be watched while the database is away: %s", fault)
            self._away = True
        else:
            self._away = False
        for what in self._processes.tend():
            LOG.warning("crew: %s", what)
            try:
                with self._stores.database.begin() as connection:
                    audit.append(connection, "process restarted", details={"what": what})
            except DatabaseAway as fault:
                LOG.error("crew: the audit does not hear that %s: %s", what, fault)

    def _end_overdue(self) -> None:
        now = datetime.now(UTC)
        with self._stores.database.read() as connection:
            running = jobs.running_jobs(connection)
        for job in running:
            end_overdue(job, now, config=self._config, database=self._stores.database, processes=self._processes)

    def _reload(self) -> None:
        try:
            new = load_config(self._config.folder, relative_to=self._config.folder)
            if (new.workers, new.store, new.data_folder, new.node.database) != (
                self._config.workers,
                self._config.store,
                self._config.data_folder,
                self._config.node.database,
            ):
                raise ConfigFault("node.toml", "workers", "workers, store and database change at a restart only")
        except ConfigFault as fault:
            LOG.error("config not reloaded, the old one stays: %s", fault)
            return
        self._config = new
        keep_in_force(replace(new, data_folder=self._folder))
        self._processes.send_signal(signal.SIGHUP)
        LOG.info("config reloaded")


def refuse_what_is_not_shared(config: Config, *, shared_folder: bool) -> None:
    """Raises ConfigFault where a worker on another machine could not see the jobs or the images.

    shared_folder: data_folder is the node's own, on a file system that both machines have.
    """
    file = config.folder / "node.toml"
    if not config.workers:
        raise ConfigFault(file, "workers", "there are none: write a [[workers]] table for each process of this machine")
    if not config.node.database:
        reason = "SQLite is one machine's own; workers on other machines need PostgreSQL, the same as the node's"
        raise ConfigFault(file, "node.database", reason)
    if config.bucket is not None:
        return
    if not shared_folder:
        reason = (
            "instances lie in data_folder, where another machine does not see them: name an object store, or say "
            "--shared-folder when data_folder is the node's own, on a shared file system"
        )
        raise ConfigFault(file, "store.url", reason)
    if not (config.data_folder / IN_FORCE / "node.toml").is_file():
        reason = f"no node has run on {config.data_folder}: this is not the node's own folder, or it is not mounted"
        raise ConfigFault(file, "node.data_folder", reason)
