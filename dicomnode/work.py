"""One waiting job to a derived series on our disk; the table of faults."""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicomnode.errors import NodeFault, SeriesUnusable
from dicomnode.follow import Following, add_following
from dicomnode.handling import Handling
from dicomnode.passport import body_sha256, build_passport, passport_text
from dicomnode.produce import Produced, Product, produce, with_parameters
from dicomnode.provenance import JobFacts
from dicomnode.settings import NodeSettings
from inference.errors import DeviceExhausted, InferenceFault, SourceRefused
from inference.pipeline import Card, Pipeline, build_pipeline
from storage import audit, catalog, deliveries, jobs, needs
from storage.catalog import Instance
from storage.database import Connection, Database
from storage.errors import DatabaseAway, InstanceConflict, StaleState, StorageFault, StorageFull, StoreAway
from storage.instance_files import InstanceFiles
from storage.jobs import Event, Job, State
from storage.passport_files import PassportFiles

LOG = logging.getLogger(__name__)
MOST_RETRIES = 12
MOST_OTHER_RESULTS = 3
OTHER_RESULT = 1_000_000
"""Added to the generation where the same work gave another result: far from those that late instances make."""

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
    passports: PassportFiles
    worker: str
    deployment_uuid: str
    node: NodeSettings
    limit_s: Callable[[str], float]
    retry_s: Callable[[int], float]
    following: Callable[[Job, Sequence[Instance]], Following]
    """What the rules ask for that follow the job's own, once its images are derived."""


def do_job(job_id: int, workshop: Workshop) -> str:
    """The job's state after its series has been derived, refused, put off or given up; harmless when done already."""
    job = _claim(job_id, workshop)
    if job.state is not State.RUNNING:
        return job.state
    try:
        return _derive(job, workshop)
    except StaleState as fault:  # superseded or ended by its limit while it ran: what was made is not used
        if _was_interrupted(job, workshop):
            raise  # this process was told to stop: were its run over now, nobody would begin another
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
        if job.state is State.RUNNING and job.crashes + 1 >= workshop.node.crash_attempts:
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


def _was_interrupted(job: Job, workshop: Workshop) -> bool:
    """Whether the job waits for the very run that we are: of the next round or retry it has another."""
    with workshop.database.read() as connection:
        now = jobs.get_job(connection, job.id)
    return now.state is State.WAITING and (now.round, now.retries) == (job.round, job.retries)


def _derive(job: Job, workshop: Workshop) -> str:
    """The job's sources through its pipeline to derived series on our disk."""
    LOG.info("work: job %s %s on series %s begins", job.id, job.pipeline, job.series_instance_uid)
    with workshop.database.read() as connection:
        source_uids = jobs.job_sources(connection, job.id)
        read_beside = needs.inputs_of(connection, job.id)
    pipeline = build_pipeline(job.pipeline, job.settings)
    node = workshop.node
    facts = JobFacts(
        key=job.key,
        created_at=job.created_at,
        deployment_uuid=workshop.deployment_uuid,
        generation=job.generation,
        content_qualification=node.content_qualification,
        station_name=node.station_name,
        udi=node.unique_device_identifier,
        equipment_purpose=node.equipment_purpose,
        declared_character_set=Handling.from_json(job.handling).character_set,
        ct_pixels=node.ct_pixels,
        inputs=tuple(
            (one.slot, one.study_instance_uid, one.series_instance_uid, _sha256_of(one.sop_instance_uids))
            for one in read_beside
        ),
    )
    facts = with_parameters(facts, pipeline.card)
    files = workshop.files.paths_of(source_uids)
    inputs = {one.slot: workshop.files.paths_of(one.sop_instance_uids) for one in read_beside}
    produced = _produced(job, pipeline, files, inputs, facts, workshop)

    passports: dict[str, str] = {}

    def write() -> str:
        if not passports:  # those of an earlier try stand: only the transaction is tried again
            passports.update(_with_passports(job, produced, pipeline.card, workshop))
        return _finish(job, produced, passports, workshop)

    return _until_written(write)


def _sha256_of(sop_instance_uids: Sequence[str]) -> str:
    """SHA-256 (hex) over the sorted UIDs, one a line."""
    return hashlib.sha256("\n".join(sorted(sop_instance_uids)).encode()).hexdigest()


def _produced(
    job: Job,
    pipeline: Pipeline,
    files: Sequence[Path],
    inputs: Mapping[str, Sequence[Path]],
    facts: JobFacts,
    workshop: Workshop,
) -> Produced:
    """What the job derived.

    One UID means one content (DERIVED_SERIES U4): where an earlier run left other bytes under the same UIDs, the
    generation is raised and another series is made; what was there stays.
    """
    for _ in range(MOST_OTHER_RESULTS):
        try:
            made = produce(
                job,
                pipeline,
                files,
                facts=facts,
                accept_lossy=workshop.node.accept_lossy,
                keep=lambda one: workshop.files.keep_derived(one.sop_instance_uid, one.content),
                inputs=inputs,
            )
        except InstanceConflict as fault:
            LOG.error("work: job %s gave other bytes than before, another series is made: %s", job.id, fault)
            with workshop.database.begin() as connection:
                audit.append(
                    connection,
                    "other result",
                    series_instance_uid=job.series_instance_uid,
                    job_id=job.id,
                    details={"reason": str(fault)[:200], "generation": facts.generation},
                )
            facts = replace(facts, generation=facts.generation + OTHER_RESULT)
        else:
            return made
    raise InstanceConflict(f"the same work gave {MOST_OTHER_RESULTS} different results; look at the worker's device")


def _with_passports(job: Job, produced: Produced, card: Card, workshop: Workshop) -> dict[str, str]:
    """Derived series -> SHA-256 of its passport, which is durable on our disk."""
    with workshop.database.read() as connection:
        head = audit.head(connection)
    stamped = {}
    for product in produced.products:
        body = build_passport(job, product, card, product.facts, audit_head=head, headers=product.headers)
        stamped[product.series_instance_uid] = body_sha256(body)
        workshop.passports.keep(product.series_instance_uid, body_sha256(body), passport_text(body))
    return stamped


def _finish(job: Job, produced: Produced, passports: Mapping[str, str], workshop: Workshop) -> str:
    """Everything that was made is listed, audited and planned to be sent, and what follows waits: one transaction."""
    now = datetime.now(UTC)
    following = {product.series_instance_uid: workshop.following(job, product.images) for product in produced.products}
    with workshop.database.begin() as connection:
        conflicts = [
            entry
            for entry in audit.entries(connection, series_instance_uid=job.series_instance_uid)
            if entry.event == "conflict"
        ]
        remarks = [f"not derived: {sentence}" for sentence in produced.refused]
        if conflicts:
            remarks.append(f"{len(conflicts)} instances came again with other content; the first copies were used")
        job = jobs.move_job(
            connection,
            job.id,
            Event.FINISH,
            expected=State.RUNNING,
            derived_series_instance_uid=produced.products[0].series_instance_uid,
            reason_code="partly-refused" if produced.refused else "conflict" if conflicts else "",
            reason="; ".join(remarks)[:1000],
            now=now,
        )
        for product in produced.products:
            _list(connection, job, product, passports[product.series_instance_uid])
            add_following(connection, job, product.images, following[product.series_instance_uid])
        everything = [
            one.sop_instance_uid for product in produced.products for one in (*product.images, *product.beside)
        ]
        deliveries.plan_deliveries(connection, job.id, everything, now=now)
    LOG.info("work: job %s derived %d series of %d instances", job.id, len(produced.products), len(everything))
    return job.state


def _list(connection: Connection, job: Job, product: Product, passport_sha256: str) -> None:
    """One derived series and the series beside it in catalogue and audit."""
    beside: dict[str, list[Instance]] = {}
    for one in product.beside:
        beside.setdefault(one.series_instance_uid, []).append(one)
    for uid, instances in [(product.series_instance_uid, list(product.images)), *beside.items()]:
        catalog.add_derived_series(connection, uid, instances)
    audit.append(
        connection,
        "derived",
        series_instance_uid=job.series_instance_uid,
        job_id=job.id,
        details={
            "derived_series_instance_uid": product.series_instance_uid,
            "instances": len(product.images),
            "beside": {uid: str(found[0].header.get("SeriesDescription", "")) for uid, found in beside.items()},
            "measurements": {name: round(float(value), 6) for name, value in product.measurements.items()},
            "notes": list(product.notes),
            **({"inputs": {slot: uid for slot, _, uid, _ in product.facts.inputs}} if product.facts.inputs else {}),
            "passport_sha256": passport_sha256,
        },
    )


def _settle_fault(job: Job, fault: Exception, workshop: Workshop) -> str:
    event = next((move for kind, move in FAULT_EVENT.items() if isinstance(fault, kind)), Event.GIVE_UP)
    if event is Event.RETRY and job.retries >= MOST_RETRIES and not isinstance(fault, StoreAway):
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
        if _was_interrupted(job, workshop):
            raise
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
