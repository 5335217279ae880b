"""C-STORE out: a derived series to its destination, instance by instance in a ledger."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydicom.errors import InvalidDicomError

from dicomnode.errors import PeerRejected, PeerUnreachable
from dicomnode.outgoing import Outbound, outbound, store_instances
from dicomnode.peer import Peer
from storage import deliveries, jobs
from storage.database import Database
from storage.deliveries import LedgerState, Result
from storage.instance_files import InstanceFiles
from storage.jobs import Event, State

LOG = logging.getLogger(__name__)
BATCH = 20


@dataclass(frozen=True, slots=True)
class Courier:
    """What delivering needs: where things lie, who we are and how patient we are."""

    database: Database
    files: InstanceFiles
    ae_title: str
    retry_first_s: float
    retry_longest_s: float
    give_up_after_days: float


def deliver(job_id: int, destination: str, peer: Peer | None, courier: Courier) -> str:
    """What became of the delivery: done, postponed, rejected or abandoned. Only what is missing is sent."""
    with courier.database.begin() as connection:
        job = jobs.get_job(connection, job_id)
        delivery = deliveries.get_delivery(connection, job_id, destination)
        if job.state not in (State.DERIVED, State.SENDING) or delivery.over:
            return f"nothing to do: job {job.state}"
        if job.state is State.DERIVED:
            jobs.move_job(connection, job_id, Event.CLAIM, expected=State.DERIVED, now=datetime.now(UTC))
        missing = deliveries.unsent(connection, job_id, destination)
    try:
        instances = [outbound(courier.files.path_of(uid)) for uid in missing]
        if peer is None:
            raise PeerUnreachable(f"{destination} is no longer a peer in node.toml; add it again or requeue elsewhere")
        _send_and_record(job_id, destination, peer, instances, courier)
    except PeerUnreachable as fault:
        return _put_off(job_id, destination, str(fault), courier)
    except PeerRejected as fault:  # an operator looks: the reason is the job's
        LOG.error("send: job %s to %s: %s", job_id, destination, fault)
        rejected = [Result(uid, LedgerState.REJECTED, None) for uid in missing]
        with courier.database.begin() as connection:
            deliveries.record_results(connection, job_id, destination, rejected, now=datetime.now(UTC))
    except (OSError, ValueError, AttributeError, InvalidDicomError) as fault:  # our side: a file, or bytes not to send
        LOG.exception("send: job %s to %s", job_id, destination)
        why = f"{type(fault).__name__} on our side; the log has the trace"
        return _put_off(job_id, destination, why, courier)
    with courier.database.begin() as connection:
        state = deliveries.finish_delivery(connection, job_id, destination, now=datetime.now(UTC))
    LOG.info("send: job %s to %s: %s, %d instances in this try", job_id, destination, state, len(missing))
    return state


def _send_and_record(
    job_id: int, destination: str, peer: Peer, instances: Sequence[Outbound], courier: Courier
) -> None:
    """Each answer enters the ledger, also when the association breaks later."""
    answered: list[Result] = []

    def record() -> None:
        if answered:
            with courier.database.begin() as connection:
                deliveries.record_results(connection, job_id, destination, answered, now=datetime.now(UTC))
            answered.clear()

    later = 0
    try:
        for result in store_instances(peer, instances, ae_title=courier.ae_title):
            if result.state is LedgerState.WAITING:
                later += 1
                continue
            answered.append(result)
            if len(answered) >= BATCH:
                record()
    finally:
        record()
    if later:
        raise PeerUnreachable(f"{destination} asked for time (0xA7xx) for {later} instances")


def _put_off(job_id: int, destination: str, why: str, courier: Courier) -> str:
    """The delivery waits for its next try, or is abandoned when it has waited its days; never dropped."""
    now = datetime.now(UTC)
    with courier.database.begin() as connection:
        delivery = deliveries.get_delivery(connection, job_id, destination)
        first = delivery.first_try_at or now
        if now - first > timedelta(days=courier.give_up_after_days):
            deliveries.abandon_delivery(connection, job_id, destination, reason=why, now=now)
            LOG.error("send: job %s to %s abandoned: %s", job_id, destination, why)
            return "abandoned"
        wait = min(courier.retry_first_s * 2**delivery.attempts, courier.retry_longest_s)
        next_try = now + timedelta(seconds=wait * random.uniform(0.9, 1.1))
        deliveries.postpone(connection, job_id, destination, next_try_at=next_try, reason=why, now=now)
    LOG.warning("send: job %s to %s waits %.0f s: %s", job_id, destination, wait, why)
    return "postponed"
