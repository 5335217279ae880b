"""The node's figures for Prometheus: read from tables and disk when asked, named without a word of any patient."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dicomnode.audit_export import AuditExport
from storage import figures, jobs, lanes
from storage.catalog import Instance
from storage.database import Connection, Database
from storage.errors import DatabaseAway
from storage.figures import Happened

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KEEP_S = 2.0
"""Figures are read at most so often, however many ask."""
PORTION = 2000
"""Rows of the audit that one reading counts; what is left is counted at the next."""
SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
JOB_EVENTS = {f"job {state}": str(state) for state in jobs.State}
DELIVERY_EVENTS = {f"delivery {outcome}": outcome for outcome in ("done", "rejected", "abandoned")}
INSTANCE_EVENTS = ("instance refused", "conflict", "store refused")
OTHER_EVENTS = (
    "association refused",
    "audit export away",
    "commitment failed",
    "commitment given",
    "commitment not told",
    "commitment overdue",
    "commitment refused",
    "commitment reported",
    "lane broken",
    "lane mended",
    "process restarted",
    "quarantined",
    "removed",
    "series not routed",
)
EVENTS = (*JOB_EVENTS, *DELIVERY_EVENTS, *INSTANCE_EVENTS, *OTHER_EVENTS)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the node says of itself, each asked at every reading; all of it must be answered at once."""

    processes: Callable[[], Mapping[str, bool]]
    """Name of each process beside the one with the port -> whether it lives."""
    associations: Callable[[], int]
    free_bytes: Callable[[], int]
    watermark_bytes: Callable[[], float]
    quarantined: Callable[[], int]
    audit_export: AuditExport | None = None


class Metrics:
    """Counters since this process began, and how things stand now."""

    def __init__(self, database: Database, standing: Standing) -> None:
        self._database = database
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._text, self._read_at = b"", float("-inf")
        self._seq: int | None = None
        # Else a moment of birth stands beside every counter: twice the lines, and nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self._registry)
        self._registry.register(_Now(database, standing))
        self._instances = self._counter("received_instances", "Instances that were listed, by peer.", "peer")
        self._bytes = self._counter("received_bytes", "Bytes of the instances that were listed, by peer.", "peer")
        self._refused = self._counter(
            "refused_instances", "Instances that were answered with another status than success.", "peer", "status"
        )
        self._jobs = self._counter("jobs_moved", "Jobs that came to a state.", "state")
        self._deliveries = self._counter("deliveries_ended", "Deliveries that ended, by outcome.", "peer", "outcome")
        self._removed = self._counter("removed_instances", "Instances that retention removed.")
        self._others = self._counter("happenings", "Other rows of the audit that an operator may look at.", "event")
        self._took = Histogram(
            "dicomnode_job_seconds",
            "Seconds from the last received instance to the derived series, and from there to the last destination; "
            "within the first, from the job to its last begin (waited), and from there on (ran).",
            ("step", "pipeline"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._sent = Histogram(
            "dicomnode_delivery_seconds",
            "Seconds from the derived series to the end of its delivery, by peer.",
            ("peer",),
            buckets=SECONDS,
            registry=self._registry,
        )

    def count_listed(self, instances: Sequence[Instance]) -> None:
        """These instances were received and entered the catalogue."""
        for instance in instances:
            self._instances.labels(instance.peer).inc()
            self._bytes.labels(instance.peer).inc(instance.size_bytes)

    def text(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4; a database away leaves out what only it knows."""
        with self._lock:
            if time.monotonic() - self._read_at >= KEEP_S:
                with suppress(DatabaseAway):  # counted once it is back; dicomnode_database_up says so
                    self._count_happened()
                self._text = generate_latest(self._registry)
                self._read_at = time.monotonic()
            return self._text

    def begin(self) -> None:
        """From now on it is counted: what the audit holds already happened before this process."""
        with self._database.read() as connection:
            self._seq = figures.last_seq(connection)

    def _count_happened(self) -> None:
        if self._seq is None:
            self.begin()
            return
        with self._database.read() as connection:
            happened = figures.happened_since(connection, self._seq, EVENTS, limit=PORTION)
            took = [seconds for one in happened for seconds in _seconds_of(one, connection)]
            sent = [seconds for one in happened for seconds in _delivery_seconds(one, connection)]
        for one in happened:
            self._count(one)
        for step, pipeline, seconds in took:
            self._took.labels(step, pipeline).observe(seconds)
        for peer, seconds in sent:
            self._sent.labels(peer).observe(seconds)
        if happened:
            self._seq = happened[-1].seq

    def _count(self, one: Happened) -> None:
        if one.event in JOB_EVENTS:
            self._jobs.labels(JOB_EVENTS[one.event]).inc()
        elif one.event in DELIVERY_EVENTS:
            self._deliveries.labels(one.peer, DELIVERY_EVENTS[one.event]).inc()
        elif one.event in INSTANCE_EVENTS:
            self._refused.labels(one.peer, one.status or one.event).inc()
        elif one.event == "removed":
            self._removed.inc(one.instances)
        else:
            self._others.labels(one.event).inc()

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"dicomnode_{name}", meaning, labels, registry=self._registry)


def _seconds_of(one: Happened, connection: Connection) -> Iterator[tuple[str, str, float]]:
    """How long the job took to where it came: step, pipeline, seconds; nothing where a moment is not known."""
    if one.job_id is None or one.event not in ("job derived", "job delivered"):
        return
    moments = figures.job_moments(connection, one.job_id)
    if one.event == "job derived":
        if moments.routed_at is not None and moments.started_at is not None:
            yield "waited", moments.pipeline, max(0.0, (moments.started_at - moments.routed_at).total_seconds())
        begun = (("received_to_derived", moments.received_at), ("ran", moments.started_at))
    else:
        begun = (("derived_to_delivered", moments.derived_at), ("received_to_delivered", moments.received_at))
    for step, since in begun:
        if since is not None and since <= one.at:
            yield step, moments.pipeline, (one.at - since).total_seconds()


def _delivery_seconds(one: Happened, connection: Connection) -> Iterator[tuple[str, float]]:
    """How long a delivery that is done took, and to which peer."""
    if one.job_id is None or one.event != "delivery done":
        return
    since = figures.job_moments(connection, one.job_id).derived_at
    if since is not None and since <= one.at:
        yield one.peer, (one.at - since).total_seconds()


class _Now(Collector):
    """How things stand at the moment of asking."""

    def __init__(self, database: Database, standing: Standing) -> None:
        self._database, self._standing = database, standing

    def collect(self) -> Iterator[Metric]:
        """Every figure that is no counter."""
        asked, free, watermark = self._standing, self._standing.free_bytes(), self._standing.watermark_bytes()
        yield _gauge("associations_open", "Associations that are open now.", asked.associations())
        yield _gauge("disk_free_bytes", "Free room on the disk of the data folder.", free)
        yield _gauge("disk_watermark_bytes", "Below so much room new associations are rejected.", watermark)
        yield _gauge("receiving", "1 while there is room to receive.", free >= watermark)
        yield _gauge("quarantined_files", "Received files whose header cannot be read.", asked.quarantined())
        alive = GaugeMetricFamily("dicomnode_process_up", "1 for each process that lives.", labels=["process"])
        for name, lives in asked.processes().items():
            alive.add_metric([name], float(lives))
        yield alive
        try:
            found = [*self._of_tables(), *self._of_audit_export()]
        except DatabaseAway:
            found = []
        yield _gauge("database_up", "1 while the database answers.", bool(found))
        yield from found

    def _of_audit_export(self) -> Iterator[Metric]:
        """How far the messages are behind the audit; nothing where none are sent."""
        export = self._standing.audit_export
        if export is not None and (lag := export.lag()) is not None:
            age_s = _age_s(lag.oldest_at, datetime.now(UTC))
            yield _gauge("audit_export_waiting_rows", "Rows of the audit that the receiver does not have.", lag.rows)
            yield _gauge("audit_export_lag_seconds", "Age of the oldest of them; 0: none waits.", age_s)
            yield _gauge("audit_export_failing_seconds", "How long the receiver has taken nothing.", export.failing_s)

    def _of_tables(self) -> Iterator[Metric]:
        with self._database.read() as connection:
            states = jobs.count_jobs_by_state(connection)
            served = lanes.lane_states(connection)
            oldest = figures.oldest_waiting(connection)
        now = datetime.now(UTC)
        counted = GaugeMetricFamily("dicomnode_jobs", "Jobs by state.", labels=["state"])
        for state, number in states.items():
            counted.add_metric([state], number)
        yield counted
        yield _gauge("oldest_waiting_seconds", "Age of the oldest waiting job; 0: none waits.", _age_s(oldest, now))
        sent = GaugeMetricFamily("dicomnode_deliveries", "Deliveries that are not done.", labels=["peer", "state"])
        failing = GaugeMetricFamily("dicomnode_lane_failing_seconds", "How long a peer has failed.", labels=["peer"])
        broken = GaugeMetricFamily("dicomnode_lane_broken", "1: nothing is sent there but probes.", labels=["peer"])
        probe = GaugeMetricFamily(
            "dicomnode_lane_next_probe_seconds", "Until the next probe of a broken lane.", labels=["peer"]
        )
        for lane in served:
            broken.add_metric([lane.destination], float(lane.broken_since is not None))
            if lane.broken_since is not None and lane.next_try_at is not None:
                probe.add_metric([lane.destination], max(0.0, (lane.next_try_at - now).total_seconds()))
            for name in ("waiting", "committing", "rejected", "abandoned"):
                sent.add_metric([lane.destination, name], getattr(lane, name))
            failing.add_metric([lane.destination], _age_s(lane.failing_since, now))
        yield from (sent, failing, broken, probe)


def _age_s(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dicomnode_{name}", meaning, value=float(value))
