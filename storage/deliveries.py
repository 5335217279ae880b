"""Deliveries: a derived series on its way to each destination, tried until it is done, rejected or abandoned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from storage import audit, jobs, ledger
from storage.errors import IllegalTransition, StaleState
from storage.job_states import ON_THE_WAY, Event
from storage.ledger import NOT_OVER, DeliveryState, LedgerState, Result, record_results, unsent
from storage.schema import deliveries, lanes
from storage.schema import jobs as job_rows

__all__ = [
    "Delivery",
    "DeliveryState",
    "LedgerState",
    "Result",
    "abandon_delivery",
    "due_deliveries",
    "finish_delivery",
    "get_delivery",
    "job_deliveries",
    "plan_deliveries",
    "postpone",
    "record_results",
    "resend",
    "unsent",
]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One job's delivery to one destination.

    attempts: tries that failed; asks: how often commitment was asked for; priority, round: the job's own; since: from
    when on it could be begun.
    """

    job_id: int
    destination: str
    state: DeliveryState
    attempts: int
    asks: int
    first_try_at: datetime | None
    next_try_at: datetime | None
    reason: str
    priority: int
    round: int
    since: datetime

    @property
    def over(self) -> bool:
        """Whether nothing more is tried."""
        return self.state not in NOT_OVER


def plan_deliveries(connection: sa.Connection, job_id: int, sop_instance_uids: Sequence[str], now: datetime) -> None:
    """A delivery per destination of the job and a ledger row per instance, in the transaction of its FINISH.

    Twice is harmless. A job derived once more is sent again only where it was rejected or abandoned. A job
    without destinations is delivered at once. Raises StaleState before the job is derived.
    """
    job = jobs.get_job(connection, job_id)
    if job.state not in ON_THE_WAY:
        raise StaleState(f"job {job_id} is {job.state}; deliveries are planned once it is derived")
    ledger.keep_results(connection, job_id, sop_instance_uids)
    ledger.open_deliveries(connection, job_id, now=now)
    ledger.reopen_deliveries(connection, job_id, now=now)
    _settle_job(connection, job_id, now)


def due_deliveries(connection: sa.Connection, now: datetime) -> list[Delivery]:
    """Deliveries to try now, of jobs that are derived: the most urgent first, among equals the oldest.

    With them those whose commitment is to be asked for. None to a destination whose lane is broken: they wait for its
    probe.
    """
    broken = sa.select(lanes.c.destination).where(lanes.c.broken_since.is_not(None))
    return _deliveries(
        connection,
        deliveries.c.state.in_(NOT_OVER),
        deliveries.c.next_try_at.is_(None) | (deliveries.c.next_try_at <= now),
        deliveries.c.destination.not_in(broken),
        job_rows.c.state.in_(ON_THE_WAY),
    )


def open_destinations(connection: sa.Connection) -> set[str]:
    """Every destination that something still waits for, also one that left the config."""
    wanted = sa.select(deliveries.c.destination).where(deliveries.c.state.in_(NOT_OVER))
    return set(connection.scalars(wanted.distinct()))


def get_delivery(connection: sa.Connection, job_id: int, destination: str) -> Delivery:
    """The delivery; LookupError when the job has none to that destination."""
    found = _deliveries(connection, deliveries.c.job_id == job_id, deliveries.c.destination == destination)
    if not found:
        raise LookupError(f"job {job_id} has no delivery to {destination}")
    return found[0]


def job_deliveries(connection: sa.Connection, job_id: int) -> list[Delivery]:
    """Every delivery of the job."""
    return _deliveries(connection, deliveries.c.job_id == job_id)


def postpone(
    connection: sa.Connection, job_id: int, destination: str, *, next_try_at: datetime, reason: str, now: datetime
) -> Delivery:
    """The delivery waits for its next try, one failed try the richer."""
    _open_delivery(connection, job_id, destination)
    _change(
        connection,
        job_id,
        destination,
        attempts=deliveries.c.attempts + 1,
        first_try_at=sa.func.coalesce(deliveries.c.first_try_at, sa.literal(now, deliveries.c.first_try_at.type)),
        next_try_at=next_try_at,
        reason=reason,
    )
    return get_delivery(connection, job_id, destination)


def finish_delivery(connection: sa.Connection, job_id: int, destination: str, *, now: datetime) -> DeliveryState:
    """Done, or rejected when the destination rejected an instance; the last of a job's deliveries ends the job.

    Raises IllegalTransition while an instance is unanswered: it was not delivered.
    """
    delivery = get_delivery(connection, job_id, destination)
    if delivery.over:
        return delivery.state
    counts = Counter(ledger.ledger_states(connection, job_id, destination).values())
    if counts[LedgerState.WAITING]:
        raise IllegalTransition(
            f"job {job_id} to {destination}: {counts[LedgerState.WAITING]} of {counts.total()} instances are unanswered"
        )
    rejected = counts[LedgerState.REJECTED]
    reason = f"{destination} rejected {rejected} of {counts.total()} instances" if rejected else ""
    state = DeliveryState.REJECTED if rejected else DeliveryState.DONE
    _end(connection, delivery, state, reason, now)
    return state


def abandon_delivery(
    connection: sa.Connection, job_id: int, destination: str, *, reason: str, now: datetime
) -> DeliveryState:
    """Tried long enough: the job fails, with this reason, as soon as its other deliveries are over; nothing is lost."""
    delivery = _open_delivery(connection, job_id, destination)
    missing, total = len(unsent(connection, job_id, destination)), len(ledger.made_instances(connection, job_id))
    if missing or not delivery.asks:
        why = f"{destination} did not take {missing} of {total} instances in {delivery.attempts} tries: {reason}"
    else:
        left = len(ledger.uncommitted(connection, job_id, destination))
        why = f"{destination} did not commit to {left} of {total} instances, asked {delivery.asks} times: {reason}"
    _end(connection, delivery, DeliveryState.ABANDONED, why, now)
    return DeliveryState.ABANDONED


def resend(connection: sa.Connection, job_id: int, now: datetime) -> None:
    """What was rejected or abandoned waits again, in the transaction of the job's RESEND; what is done stays done.

    Raises IllegalTransition when every delivery is done.
    """
    ledger.reopen_deliveries(connection, job_id, now=now)
    if not any(not delivery.over for delivery in job_deliveries(connection, job_id)):
        raise IllegalTransition(f"job {job_id}: nothing is left to send, every destination has every instance")


def _deliveries(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Delivery]:
    wanted = (
        sa.select(deliveries, job_rows.c.priority, job_rows.c.round, job_rows.c.created_at)
        .join(job_rows, job_rows.c.id == deliveries.c.job_id)
        .where(*conditions)
        .order_by(job_rows.c.priority, job_rows.c.created_at, deliveries.c.job_id, deliveries.c.destination)
    )
    return [
        Delivery(
            job_id=row.job_id,
            destination=row.destination,
            state=DeliveryState(row.state),
            attempts=row.attempts,
            asks=row.asks,
            first_try_at=row.first_try_at,
            next_try_at=row.next_try_at,
            reason=row.reason,
            priority=row.priority,
            round=row.round,
            since=row.next_try_at or row.created_at,
        )
        for row in connection.execute(wanted)
    ]


def _open_delivery(connection: sa.Connection, job_id: int, destination: str) -> Delivery:
    delivery = get_delivery(connection, job_id, destination)
    if delivery.over:
        raise StaleState(f"the delivery of job {job_id} to {destination} is {delivery.state} already")
    return delivery


def _change(connection: sa.Connection, job_id: int, destination: str, **change: object) -> None:
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.job_id == job_id, deliveries.c.destination == destination)
        .values(**change)
    )


def _end(connection: sa.Connection, delivery: Delivery, state: DeliveryState, reason: str, now: datetime) -> None:
    """The delivery is over, audited; its job too when this was the last."""
    first = delivery.first_try_at or now
    _change(
        connection,
        delivery.job_id,
        delivery.destination,
        state=state,
        reason=reason,
        first_try_at=first,
        next_try_at=None,
    )
    job = jobs.get_job(connection, delivery.job_id)
    audit.append(
        connection,
        f"delivery {state}",
        series_instance_uid=job.series_instance_uid,
        job_id=job.id,
        peer=delivery.destination,
        details={
            "instances": dict(Counter(ledger.ledger_states(connection, job.id, delivery.destination).values())),
            "failed_tries": delivery.attempts,
            "first_try_at": first.isoformat(),
            "reason": reason,
        },
    )
    _settle_job(connection, delivery.job_id, now)


def _settle_job(connection: sa.Connection, job_id: int, now: datetime) -> None:
    """The job is delivered, or failed with what went wrong where, once every one of its deliveries is over."""
    job = jobs.get_job(connection, job_id)
    sent = job_deliveries(connection, job_id)
    if job.state not in ON_THE_WAY or not all(delivery.over for delivery in sent):
        return
    wrong = [delivery for delivery in sent if delivery.state is not DeliveryState.DONE]
    if wrong:
        code = "delivery-" + min(delivery.state for delivery in wrong)
        why = "; ".join(delivery.reason for delivery in wrong)
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=job.state, reason_code=code, reason=why, now=now)
    else:
        why = "" if sent else "its rule names no destination: it stays here"
        jobs.move_job(connection, job_id, Event.FINISH, expected=job.state, reason=why, now=now)
