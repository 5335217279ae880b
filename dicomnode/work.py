"""One waiting job to a derived series on our disk; the table of faults."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicomnode.derive import DerivedInstance, JobFacts, derive_series
from dicomnode.errors import NodeFault, SeriesUnusable
from dicomnode.load import load_volume
from dicomnode.uids import NODE_VERSION
from inference.errors import DeviceExhausted, InferenceFault, SourceRefused
from inference.pipeline import Card, Outcome, build_pipeline, run_pipeline
from storage import audit, catalog, deliveries, jobs
from storage.catalog import Instance
from storage.database import Database
from storage.errors import DatabaseAway, StaleState, StorageFault, StorageFull
from storage.instance_files import InstanceFiles
from storage.jobs import Event, Job, State

LOG = logging.getLogger(__name__)
MOST_RETRIES = 12

FAULT_EVENT: Mapping[type[BaseException], Event] = {
    SourceRefused: Event.REFUSE,
    SeriesUnusable: Event.REFUSE,
    DeviceExhausted: Event.RETRY,
    MemoryError: Event.RETRY,
    StorageFull: Event.RETRY,
    DatabaseAway: Event.RETRY,
}
"""The only place where a fault of the work becomes a job's event; what is not named gives up."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a worker needs to do jobs: where things lie and how long a pipeline may take."""

    database: Database
    files: InstanceFiles
    worker: str
    deployment_uuid: str
    content_qualification: str
    crash_attempts: int
    accept_lossy: bool
    limit_s: Callable[[str], float]
    retry_s: Callable[[int], float]


def do_job(job_id: int, workshop: Workshop) -> str:
    """The job's state after its series has been derived, refused, put off or given up; harmless when done already."""
    job = _claim(job_id, workshop)
    if job.state is not State.RUNNING:
        return job.state
    try:
        return _derive(job, workshop)
    except StaleState as fault:  # superseded or ended by its limit while it ran: what was made is not used
        LOG.warning("work: job %s was moved by another: %s", job.id, fault)
        return "stale"
    except Exception as fault:  # the table above decides
        return _settle_fault(job, fault, workshop)


def _claim(job_id: int, workshop: Workshop) -> Job:
    now = datetime.now(UTC)
    with workshop.database.begin() as connection:
        job = jobs.get_job(connection, job_id)
        if job.state not in (State.WAITING, State.RUNNING):
            return job
        if job.state is State.RUNNING and job.crashes + 1 >= workshop.crash_attempts:
            return jobs.move_job(
                connection,
                job_id,
                Event.GIVE_UP,
                expected=State.RUNNING,
                reason_code="worker-crashed",
                reason=f"its worker process died {job.crashes + 1} times while it ran; look at the log, then requeue",
                now=now,
            )
        return jobs.move_job(
            connection,
            job_id,
            Event.CLAIM,
            expected=job.state,
            worker=workshop.worker,
            deadline=now + timedelta(seconds=workshop.limit_s(job.pipeline)),
            now=now,
        )


def _derive(job: Job, workshop: Workshop) -> str:
    """Load, run, derive, keep: the whole of the work, in the order of the river."""
    LOG.info("work: job %s %s on series %s begins", job.id, job.pipeline, job.series_instance_uid)
    with workshop.database.read() as connection:
        source_uids = jobs.job_sources(connection, job.id)
    source, images = load_volume(
        [workshop.files.path_of(uid) for uid in source_uids], accept_lossy=workshop.accept_lossy
    )
    pipeline = build_pipeline(job.pipeline, job.settings)
    outcome = run_pipeline(pipeline, source)
    facts = JobFacts(
        key=job.key,
        created_at=job.created_at,
        deployment_uuid=workshop.deployment_uuid,
        generation=job.generation,
        content_qualification=workshop.content_qualification,
        parameters_sha256=_parameters_sha256(pipeline.card, job, workshop),
    )
    kept = [_keep(made, job, workshop.files) for made in derive_series(outcome, pipeline.card, images, job=facts)]
    return _until_written(lambda: _finish(job, kept, outcome, workshop))


def _parameters_sha256(card: Card, job: Job, workshop: Workshop) -> str:
    """SHA-256 (hex) of all that shapes the bytes beside sources and pipeline.

    The same UIDs must mean the same bytes (DERIVED_SERIES U4): an upgrade, another qualification or another job row
    makes another series.
    """
    shaped_by = [
        card.method,
        dict(card.settings),
        NODE_VERSION,
        workshop.content_qualification,
        job.created_at.isoformat(),
    ]
    return hashlib.sha256(json.dumps(shaped_by, sort_keys=True, default=str).encode()).hexdigest()


def _keep(made: DerivedInstance, job: Job, files: InstanceFiles) -> Instance:
    """The derived instance is durable on our disk; with it the row that the catalogue will hold."""
    return Instance(
        sop_instance_uid=made.sop_instance_uid,
        sop_class_uid=made.sop_class_uid,
        transfer_syntax_uid=made.transfer_syntax_uid,
        series_instance_uid=made.series_instance_uid,
        study_instance_uid=job.study_instance_uid,
        peer="",
        received_at=job.created_at,
        sha256=files.keep_derived(made.sop_instance_uid, made.content),
        size_bytes=len(made.content),
        header={},
    )


def _finish(job: Job, kept: list[Instance], outcome: Outcome, workshop: Workshop) -> str:
    now = datetime.now(UTC)
    with workshop.database.begin() as connection:
        derived_uid = kept[0].series_instance_uid
        catalog.add_derived_series(connection, derived_uid, kept)
        job = jobs.move_job(
            connection,
            job.id,
            Event.FINISH,
            expected=State.RUNNING,
            derived_series_instance_uid=derived_uid,
            now=now,
        )
        audit.append(
            connection,
            "derived",
            series_instance_uid=job.series_instance_uid,
            job_id=job.id,
            details={
                "derived_series_instance_uid": derived_uid,
                "instances": len(kept),
                "measurements": {name: round(float(value), 6) for name, value in outcome.measurements.items()},
                "notes": list(outcome.notes),
            },
        )
        deliveries.plan_deliveries(connection, job.id, [instance.sop_instance_uid for instance in kept], now=now)
    LOG.info("work: job %s derived series %s of %d instances", job.id, derived_uid, len(kept))
    return job.state


def _settle_fault(job: Job, fault: Exception, workshop: Workshop) -> str:
    event = next((move for kind, move in FAULT_EVENT.items() if isinstance(fault, kind)), Event.GIVE_UP)
    if event is Event.RETRY and job.retries >= MOST_RETRIES:
        event = Event.GIVE_UP
    now = datetime.now(UTC)
    named = isinstance(fault, NodeFault | StorageFault | InferenceFault)
    code = getattr(fault, "reason_code", getattr(fault, "rule", type(fault).__name__))
    # An unnamed fault's words may quote a header: only its kind and place go into the record.
    reason = str(fault)[:500] if named else f"{type(fault).__name__} at {_place(fault)}; the log has the trace"
    LOG.log(
        logging.WARNING if named else logging.ERROR,
        "work: job %s %s: %s: %s",
        job.id,
        event,
        code,
        reason,
        exc_info=not named,
    )

    def write() -> str:
        with workshop.database.begin() as connection:
            moved = jobs.move_job(
                connection,
                job.id,
                event,
                expected=State.RUNNING,
                reason_code=code,
                reason=reason,
                not_before=now + timedelta(seconds=workshop.retry_s(job.attempts)) if event is Event.RETRY else None,
                now=now,
            )
        return moved.state

    try:
        return _until_written(write)
    except StaleState:
        return "stale"


def _until_written(write: Callable[[], str]) -> str:
    """What `write` gives, once the database takes it: an outage never throws away what was computed."""
    pause_s = 0.5
    while True:
        try:
            return write()
        except DatabaseAway as fault:
            LOG.error("work: the outcome cannot be written yet, again in %g s: %s", pause_s, fault)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)


def interrupt_jobs(workshop: Workshop) -> list[Job]:
    """Jobs this worker leaves unfinished because it was told to stop: they wait, and no crash is counted."""
    with workshop.database.begin() as connection:
        return [
            jobs.move_job(
                connection,
                job.id,
                Event.INTERRUPT,
                expected=State.RUNNING,
                reason="the node was stopped",
                now=datetime.now(UTC),
            )
            for job in jobs.running_jobs(connection)
            if job.worker == workshop.worker
        ]


def _place(fault: BaseException) -> str:
    frames = traceback.extract_tb(fault.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
