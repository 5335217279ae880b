"""What the node does beside the river: makes room, says how it stands to monitors, and to systemd that it lives."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from dicomnode.audit_export import AuditExport
from dicomnode.config import Config
from dicomnode.errors import ConfigFault
from dicomnode.notify import notify, watchdog_s
from dicomnode.settings import RetentionSettings
from storage import commitments, lanes, promises
from storage.catalog import Instance
from storage.database import Connection, Database
from storage.disk_room import free_bytes
from storage.errors import DatabaseAway, StorageFull
from storage.instance_files import InstanceFiles
from storage.object_retention import open_remover
from storage.retention import Family, plan_removals

if TYPE_CHECKING:
    from dicomnode.health import Monitor
    from dicomnode.metrics import Metrics

LOG = logging.getLogger(__name__)
KEEP_RUNS, FORGET_EVERY_S = timedelta(days=7), 3600.0
"""The engine forgets a finished run after so long; the jobs and the audit remember it."""
AT_ONCE = 500
"""Families that one sweep removes; what is left goes at the next."""
PROBE_S = 2.0


@dataclass(frozen=True, slots=True)
class Life:
    """What the node knows of its own parts; each is answered at once."""

    processes: Callable[[], Mapping[str, bool]]
    associations: Callable[[], int]
    threads: Callable[[], bool]
    """Whether every thread of the river lives."""
    port: Callable[[], int]
    """Where the node listens; 0 while it does not."""


def families_to_go(connection: Connection, settings: RetentionSettings, *, free: int) -> list[tuple[Family, str]]:
    """What the next sweep removes, oldest first, and why."""
    planned = plan_removals(
        connection,
        keep=None if settings.keep_days is None else timedelta(days=settings.keep_days),
        make_room_bytes=settings.make_room_gb * 1e9,
        free_bytes=free,
        now=datetime.now(UTC),
        promised=settings.promised,
    )
    return list(islice(planned, AT_ONCE))


class Upkeep:
    """Threads of their own: none of them ever holds up the river."""

    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        files: InstanceFiles,
        life: Life,
        *,
        forget_runs: Callable[[datetime], int] = lambda before: 0,
    ) -> None:
        """config: the one in force, asked each time; forget_runs: the engine's, of runs that ended before a moment."""
        self._forget_runs = forget_runs
        self._config, self._database, self._files, self._life = config, database, files, life
        self._folder = config().data_folder
        self._remover = open_remover(database, files, self._folder)
        self._stop = threading.Event()
        self._audit_export = AuditExport(config, database, stopping=self._stop.is_set)
        self._threads: list[threading.Thread] = []
        self._metrics: Metrics | None = None
        self._monitor: Monitor | None = None

    def start(self) -> None:
        """Monitors are answered and room is made. Raises ConfigFault when the port for monitors cannot be had."""
        if self._config().node.http_port:
            self._open_monitor()
        self._run("retention", self.sweep, lambda: self._config().retention.every_s)
        self._run("engine rows", self._forget, lambda: FORGET_EVERY_S)
        self._run("commitment", self.forget_commitments, lambda: FORGET_EVERY_S)
        self._run("audit export", self._audit_export, lambda: self._audit_export.pause_s)
        if (pause_s := watchdog_s()) is not None:
            self._run("watchdog", self._tell_alive, lambda: pause_s)

    def stop(self) -> None:
        """What is being removed is removed whole; monitors hear nothing any more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)
        if self._monitor is not None:
            self._monitor.stop()

    def has_room(self) -> bool:
        """Whether more may be received: asked for each new association; False rejects it for the time being."""
        try:
            return free_bytes(self._folder) >= self._config().retention.low_watermark_gb * 1e9
        except OSError as fault:
            LOG.error("node: the room on the disk cannot be asked for: %s", fault.strerror)
            return False

    def count_listed(self, instances: Sequence[Instance]) -> None:
        """These instances were received and are in the catalogue."""
        if self._metrics is not None:
            self._metrics.count_listed(instances)

    def sweep(self) -> int:
        """How many families were removed; none without `[retention]`."""
        if finished := self._remover.finish():
            LOG.warning("retention: %d removals that were broken off are finished", finished)
        settings = self._config().retention
        if settings.keep_days is None and not settings.make_room_gb:
            return 0
        with self._database.read() as connection:
            planned = families_to_go(connection, settings, free=free_bytes(self._folder))
        removed = 0
        for family, because in planned:
            if self._stop.is_set():
                break
            if self._remover.remove(family, because=because, now=datetime.now(UTC)):
                removed += 1
                LOG.info(
                    "retention: series %s and %d derived from it removed: %s",
                    family.series_instance_uid,
                    len(family.members) - 1,
                    because,
                )
        if (free := free_bytes(self._folder)) < settings.make_room_gb * 1e9 and len(planned) < AT_ONCE:
            LOG.warning(
                "retention: only %.1f GB are free and nothing more may go; see failed, refused jobs", free / 1e9
            )
        return removed

    def _open_monitor(self) -> None:
        # Imported here: a node that nobody watches does without their memory.
        from dicomnode.health import Answer, Monitor, alive_answer, ready_answer
        from dicomnode.metrics import CONTENT_TYPE, Metrics, Standing

        metrics = Metrics(
            self._database,
            Standing(
                processes=self._life.processes,
                associations=self._life.associations,
                free_bytes=lambda: free_bytes(self._folder),
                watermark_bytes=lambda: self._config().retention.low_watermark_gb * 1e9,
                quarantined=self._files.quarantined,
                audit_export=self._audit_export,
            ),
        )
        metrics.begin()
        node = self._config().node
        checks = {
            "port": lambda: answers_at(node.host, self._life.port()),
            "database": self._database_answers,
            "disk": self.has_room,
            "processes": lambda: all(self._life.processes().values()),
            "threads": self._life.threads,
        }
        try:
            self._monitor = Monitor(
                node.http_host,
                node.http_port,
                {
                    "/healthz": lambda: alive_answer(self._life.threads),
                    "/readyz": lambda: ready_answer(checks, remarks=self._remarks),
                    "/metrics": lambda: Answer(200, CONTENT_TYPE, metrics.text()),
                },
            )
        except OSError as fault:
            why = f"cannot listen on {node.http_host}:{node.http_port} ({fault.strerror})"
            raise ConfigFault(self._config().folder / "node.toml", "node.http_port", why) from fault
        self._metrics = metrics
        self._monitor.start()

    def _database_answers(self) -> bool:
        try:
            with self._database.read():
                return True
        except DatabaseAway:
            return False

    def _remarks(self) -> list[str]:
        """A line for each broken lane: a PACS that is away does not make this node unready, but is worth a word.

        So is a receiver of the audit that is away.
        """
        away = self._audit_export.reason
        with self._database.read() as connection:
            broken = [one for one in lanes.lane_states(connection) if one.broken_since is not None]
        return [
            f"lane to {one.destination} broken since {one.broken_since:%Y-%m-%d %H:%M:%S} UTC, {one.waiting} wait, "
            f"next probe {one.next_try_at or one.broken_since:%H:%M:%S} UTC: {one.reason}"
            for one in broken
        ] + ([f"audit export waits for {self._audit_export.failing_s:.0f} s: {away}"] if away else [])

    def _forget(self) -> None:
        if forgotten := self._forget_runs(datetime.now(UTC) - KEEP_RUNS):
            LOG.info("engine: %d runs that ended %d days ago are forgotten", forgotten, KEEP_RUNS.days)

    def forget_commitments(self) -> int:
        """How many requests for storage commitment that are over, of peers and of ours, were forgotten."""
        before = datetime.now(UTC) - timedelta(days=self._config().retention.commitment_days)
        with self._database.begin() as connection:
            forgotten = commitments.forget_commitments(connection, asked_before=before)
        while not self._stop.is_set():
            with self._database.begin() as connection:  # some at a time: each may name 20,000 instances
                some = promises.forget_promises(connection, asked_before=before)
            forgotten += some
            if not some:
                break
        if forgotten:
            LOG.info("retention: %d requests for storage commitment are forgotten", forgotten)
        return forgotten

    def _tell_alive(self) -> None:
        if self._life.threads():
            notify("WATCHDOG=1")

    def _run(self, name: str, step: Callable[[], object], pause_s: Callable[[], float]) -> None:
        thread = threading.Thread(target=self._repeat, args=(name, step, pause_s), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _repeat(self, name: str, step: Callable[[], object], pause_s: Callable[[], float]) -> None:
        while not self._stop.is_set():
            try:
                step()
            except (DatabaseAway, StorageFull) as fault:
                LOG.error("%s: not possible now, tried again: %s", name, fault)
            except Exception:  # said loudly, and tried again
                LOG.exception("%s: failed and is tried again", name)
            self._stop.wait(pause_s())


def answers_at(host: str, port: int) -> bool:
    """Whether somebody listens there, asked as a load balancer does: connect and hang up."""
    if not port:
        return False
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    try:
        with socket.create_connection((everywhere.get(host, host), port), timeout=PROBE_S):
            return True
    except OSError:
        return False
