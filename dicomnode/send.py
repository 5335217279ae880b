"""C-STORE out: a derived series to its destination, instance by instance in a ledger."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dicomnode.commit import ask
from dicomnode.commitment_call import tell_commitment
from dicomnode.errors import NoAssociation, PeerRejected, PeerUnreachable
from dicomnode.lines import Lines
from dicomnode.outgoing import Outbound, echo_peer, outbound, store_instances
from dicomnode.peer import Peer
from dicomnode.promise import keep_promise
from storage import commitments, deliveries, jobs, lanes
from storage.database import Database
from storage.deliveries import DeliveryState, LedgerState, Result
from storage.errors import DatabaseAway, StaleState
from storage.instance_files import InstanceFiles
from storage.jobs import Event, State
from storage.references import Report

LOG = logging.getLogger(__name__)
BATCH = 20


class Traffic:
    """What this process delivers just now, and which destinations have answered in it: they are not down."""

    def __init__(self) -> None:
        self._under_way: set[tuple[int, str]] = set()
        self._answering: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)

    def answers(self, destination: str) -> bool:
        """Whether the destination has answered in an association that is still open."""
        with self._lock:
            return self._answering[destination] > 0

    @contextmanager
    def answering(self, destination: str) -> Iterator[None]:
        """It does as long as this lasts."""
        with self._lock:
            self._answering[destination] += 1
        try:
            yield
        finally:
            with self._lock:
                self._answering[destination] -= 1

    @contextmanager
    def delivering(self, job_id: int, destination: str) -> Iterator[None]:
        """Nobody else here delivers just that as long as this lasts; who does so already is waited for."""
        mine = (job_id, destination)
        with self._ended:
            self._ended.wait_for(lambda: mine not in self._under_way)
            self._under_way.add(mine)
        try:
            yield
        finally:
            with self._ended:
                self._under_way.remove(mine)
                self._ended.notify_all()


@dataclass(frozen=True, slots=True)
class Courier:
    """What delivering needs: where things lie, who we are and how patient we are."""

    database: Database
    files: InstanceFiles
    ae_title: str
    retry_first_s: float
    retry_longest_s: float
    give_up_after_days: float
    lines: Lines = field(default_factory=lambda: Lines(idle_s=0))
    """Associations that wait for the next delivery, and who we are over TLS."""
    traffic: Traffic = field(default_factory=Traffic)
    has_room: Callable[[], bool] = lambda: True
    """Whether more could be received: what is missing and could not be kept is told so."""

    def wait_s(self, failures: int) -> float:
        """Seconds until the next try after so many that failed: doubling, with jitter."""
        wait = min(self.retry_first_s * 2.0 ** min(failures, 32), self.retry_longest_s)
        return wait * random.uniform(0.9, 1.1)

    def patience(self) -> timedelta:
        """After so long a delivery is given up."""
        return timedelta(days=self.give_up_after_days)


def serve(job_id: int, destination: str, peer: Peer | None, courier: Courier) -> str:
    """What became of the delivery, or of the lane when PROBE is asked for."""
    if job_id == lanes.PROBE:
        return probe(destination, peer, courier)
    if job_id < lanes.PROBE:  # no job, but a request of the peer for storage commitment
        return _tell_promise(-job_id, destination, peer, courier)
    # Asked for twice where its lane broke and was mended while another association went on, or where our lock was lost
    # for a while. The second waits: a run that ended before the delivery did would be missing after a crash.
    with courier.traffic.delivering(job_id, destination):
        return deliver(job_id, destination, peer, courier)


def probe(destination: str, peer: Peer | None, courier: Courier) -> str:
    """Asks with C-ECHO whether the destination of a broken lane is there again: mended, still broken or whole.

    A peer that left the config mends its lane too: its deliveries then say so, each for itself.
    """
    with courier.database.read() as connection:
        lane = lanes.get_lane(connection, destination)
    if not lane.broken:
        return "whole"
    because = "it answered C-ECHO"
    try:
        if peer is None:
            because = "it is no longer a peer in node.toml"
        else:
            echo_peer(peer, ae_title=courier.ae_title, identity=courier.lines.identity)
    except PeerRejected:
        because = "it answered, without knowing C-ECHO"
    except (NoAssociation, OSError, RuntimeError, ValueError) as fault:
        LOG.debug("send: the lane to %s stays broken: %s", destination, fault)
        now = datetime.now(UTC)
        next_probe_at = now + timedelta(seconds=courier.wait_s(lane.failures))
        with courier.database.begin() as connection:
            lanes.keep_broken(connection, destination, reason=str(fault), next_probe_at=next_probe_at, now=now)
        _give_up_overdue(destination, str(fault), courier)
        return "still broken"
    except PeerUnreachable:
        because = "it opened an association, without an answer to C-ECHO"
    with courier.database.begin() as connection:
        waiting = lanes.mend_lane(connection, destination, because=because, now=datetime.now(UTC))
    LOG.warning("send: the lane to %s is mended, %s: %s deliveries are due", destination, because, waiting)
    return "mended"


def deliver(job_id: int, destination: str, peer: Peer | None, courier: Courier) -> str:
    """What became of the delivery: done, postponed, rejected or abandoned. Only what is missing is sent."""
    with courier.database.begin() as connection:
        job = jobs.get_job(connection, job_id)
        delivery = deliveries.get_delivery(connection, job_id, destination)
        if job.state not in (State.DERIVED, State.SENDING) or delivery.over:
            return f"nothing to do: job {job.state}"
        if lanes.get_lane(connection, destination).broken:
            return "waits for the probe of its lane"
        if job.state is State.DERIVED:
            jobs.move_job(connection, job_id, Event.CLAIM, expected=State.DERIVED, now=datetime.now(UTC))
        missing = deliveries.unsent(connection, job_id, destination)
    try:
        instances = [outbound(path) for path in courier.files.paths_of(missing)]
        if [one.sop_instance_uid for one in instances] != missing:
            raise ValueError(f"the files of job {job_id} hold other instances than it made")
        if peer is None:
            raise PeerUnreachable(f"{destination} is no longer a peer in node.toml; add it again or requeue elsewhere")
        _send_and_record(job_id, destination, peer, instances, courier)
    except NoAssociation as fault:
        if not courier.traffic.answers(destination):
            return _break_lane(job_id, destination, str(fault), courier)
        return _put_off(job_id, destination, f"no further association: {fault}", courier)
    except PeerUnreachable as fault:
        return _put_off(job_id, destination, str(fault), courier)
    except PeerRejected as fault:  # an operator looks: the reason is the job's
        LOG.error("send: job %s to %s: %s", job_id, destination, fault)
        rejected = [Result(uid, LedgerState.REJECTED, None) for uid in missing]
        with courier.database.begin() as connection:
            deliveries.record_results(connection, job_id, destination, rejected, now=datetime.now(UTC))
    except DatabaseAway:  # the engine tries again until the outcome can be written
        raise
    except Exception as fault:  # our side: a file, its bytes, or what nobody thought of; the lane must go on
        LOG.exception("send: job %s to %s", job_id, destination)
        why = f"{type(fault).__name__} on our side; the log has the trace"
        return _put_off(job_id, destination, why, courier)
    end = commitments.await_commitment if peer is not None and peer.commitment else deliveries.finish_delivery
    with courier.database.begin() as connection:
        state = end(connection, job_id, destination, now=datetime.now(UTC))
    LOG.info("send: job %s to %s: %s, %d instances in this try", job_id, destination, state, len(missing))
    if state is DeliveryState.COMMITTING and peer is not None:
        return _commit(job_id, destination, peer, courier)
    return state


def _commit(job_id: int, destination: str, peer: Peer, courier: Courier) -> str:
    """The destination has everything: it is asked to keep it. Who does not answer is treated as when sending."""
    try:
        return ask(
            job_id,
            destination,
            peer,
            database=courier.database,
            ae_title=courier.ae_title,
            identity=courier.lines.identity,
            retry_s=courier.wait_s,
            patience=courier.patience(),
        )
    except NoAssociation as fault:
        if not courier.traffic.answers(destination):
            return _break_lane(job_id, destination, str(fault), courier)
        return _put_off(job_id, destination, f"no further association: {fault}", courier)
    except PeerUnreachable as fault:
        return _put_off(job_id, destination, str(fault), courier)
    except DatabaseAway:
        raise
    except Exception as fault:  # as when sending: the lane must go on
        LOG.exception("send: commitment of job %s by %s", job_id, destination)
        return _put_off(job_id, destination, f"{type(fault).__name__} on our side; the log has the trace", courier)


def _tell_promise(promise_id: int, destination: str, peer: Peer | None, courier: Courier) -> str:
    """What became of the report on what a peer wants kept."""

    def tell(report: Report) -> None:
        if peer is None or not peer.reachable:
            raise PeerUnreachable(f"{destination} has no host and port in node.toml, or has left it")
        tell_commitment(peer, report, ae_title=courier.ae_title, identity=courier.lines.identity)

    return keep_promise(
        promise_id,
        tell,
        database=courier.database,
        files=courier.files,
        has_room=courier.has_room,
        wait_s=courier.wait_s,
        patience=courier.patience(),
    )


def _send_and_record(
    job_id: int, destination: str, peer: Peer, instances: Sequence[Outbound], courier: Courier
) -> None:
    """Each answer enters the ledger, also when the association breaks later."""
    answered: list[Result] = []
    proven = False

    def record() -> None:
        nonlocal proven
        if answered:
            with courier.database.begin() as connection:
                deliveries.record_results(connection, job_id, destination, answered, now=datetime.now(UTC))
                if not proven:
                    lanes.prove_lane(connection, destination)
            answered.clear()
            proven = True

    later = 0
    with ExitStack() as stack:
        stack.callback(record)
        answers = store_instances(peer, instances, ae_title=courier.ae_title, lines=courier.lines)
        for number, result in enumerate(answers):
            if number == 0:
                stack.enter_context(courier.traffic.answering(destination))
            if result.state is LedgerState.WAITING:
                later += 1
                continue
            answered.append(result)
            if len(answered) >= BATCH:
                record()
    if later:
        raise PeerUnreachable(f"{destination} asked for time (0xA7xx) for {later} instances")


def _put_off(job_id: int, destination: str, why: str, courier: Courier) -> str:
    """The delivery waits for its next try, or is abandoned when it has waited its days; never dropped."""
    now = datetime.now(UTC)
    with courier.database.begin() as connection:
        delivery = deliveries.get_delivery(connection, job_id, destination)
        if delivery.over:  # a report came meanwhile
            return delivery.state
        if now - (delivery.first_try_at or now) > courier.patience():
            deliveries.abandon_delivery(connection, job_id, destination, reason=why, now=now)
            LOG.error("send: job %s to %s abandoned: %s", job_id, destination, why)
            return "abandoned"
        wait_s = courier.wait_s(delivery.attempts)
        next_try_at = now + timedelta(seconds=wait_s)
        deliveries.postpone(connection, job_id, destination, next_try_at=next_try_at, reason=why, now=now)
    LOG.warning("send: job %s to %s waits %.0f s: %s", job_id, destination, wait_s, why)
    return "postponed"


def _break_lane(job_id: int, destination: str, why: str, courier: Courier) -> str:
    """Nothing is tried there any more but a probe: whoever waits does not wait for a time-out each."""
    now = datetime.now(UTC)
    with courier.database.begin() as connection:
        wait_s = courier.wait_s(lanes.get_lane(connection, destination).failures)
        next_probe_at = now + timedelta(seconds=wait_s)
        deliveries.postpone(connection, job_id, destination, next_try_at=next_probe_at, reason=why, now=now)
        broke = lanes.break_lane(connection, destination, reason=why, next_probe_at=next_probe_at, now=now)
    if broke:
        LOG.error("send: the lane to %s is broken, it is probed in %.0f s: %s", destination, wait_s, why)
    return "abandoned" if job_id in _give_up_overdue(destination, why, courier) else "postponed"


def _give_up_overdue(destination: str, why: str, courier: Courier) -> list[int]:
    """The jobs whose delivery there has waited its days: they fail with the reason and can be requeued."""
    given_up = []
    with courier.database.read() as connection:
        before = datetime.now(UTC) - courier.patience()
        overdue = lanes.overdue_jobs(connection, destination, tried_before=before)
    for job_id in overdue:  # a transaction each: a thousand of them must not hold up every other writer
        try:
            with courier.database.begin() as connection:
                deliveries.abandon_delivery(connection, job_id, destination, reason=why, now=datetime.now(UTC))
        except StaleState:
            continue  # it ended meanwhile
        LOG.error("send: job %s to %s abandoned: %s", job_id, destination, why)
        given_up.append(job_id)
    return given_up
