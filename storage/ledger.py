"""What a job made, and which destination has acknowledged which of its instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from storage.errors import IllegalTransition
from storage.schema import deliveries, job_destinations, job_results, ledger


class LedgerState(StrEnum):
    """Where one instance stands with one destination."""

    WAITING = "waiting"
    DONE = "done"
    WARNING = "warning"  # the destination has it and remarked on it (0xBxxx)
    REJECTED = "rejected"
    COMMITTED = "committed"  # the destination has promised to keep it (PS3.4 Annex J)


class DeliveryState(StrEnum):
    """Where a job's delivery to one destination stands."""

    WAITING = "waiting"
    COMMITTING = "committing"  # it has every instance and has not promised yet to keep them all
    DONE = "done"
    REJECTED = "rejected"  # the destination took not every instance; an operator looks
    ABANDONED = "abandoned"  # tried for the configured days


UNCOMMITTED = (LedgerState.DONE, LedgerState.WARNING)
"""The destination has it."""
HELD = (*UNCOMMITTED, LedgerState.COMMITTED)
NOT_OVER = (DeliveryState.WAITING, DeliveryState.COMMITTING)
"""Something is still to be tried or waited for."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a destination answered for an instance; status None when it was never asked (no presentation context)."""

    sop_instance_uid: str
    state: LedgerState
    status: int | None


def keep_results(connection: sa.Connection, job_id: int, sop_instance_uids: Sequence[str]) -> None:
    """The instances the job made, in order; the same list again is harmless.

    A job done anew with another result (after an upgrade, say) forgets what it had to send before: the destinations
    get the new series whole. The audit remembers both.
    """
    if not sop_instance_uids:
        raise IllegalTransition(f"job {job_id} made no instance; there is nothing to deliver")
    known = made_instances(connection, job_id)
    if known and known != list(sop_instance_uids):
        for table in (ledger, deliveries, job_results):
            connection.execute(sa.delete(table).where(table.c.job_id == job_id))
        known = []
    if not known:
        rows = [
            {"job_id": job_id, "sop_instance_uid": uid, "position": position}
            for position, uid in enumerate(sop_instance_uids)
        ]
        connection.execute(sa.insert(job_results), rows)


def made_instances(connection: sa.Connection, job_id: int) -> list[str]:
    """The SOP Instance UIDs the job made, in order."""
    made = sa.select(job_results.c.sop_instance_uid).where(job_results.c.job_id == job_id)
    return list(connection.scalars(made.order_by(job_results.c.position)))


def open_deliveries(connection: sa.Connection, job_id: int, *, now: datetime) -> None:
    """A delivery for each destination of the job and a row for each instance; what is there already stays."""
    known = sa.select(deliveries.c.destination).where(deliveries.c.job_id == job_id)
    wanted = sa.select(job_destinations.c.destination).where(
        job_destinations.c.job_id == job_id, job_destinations.c.destination.not_in(known)
    )
    destinations = list(connection.scalars(wanted.order_by(job_destinations.c.position)))
    made = made_instances(connection, job_id)
    for destination in destinations:
        connection.execute(
            sa.insert(deliveries).values(
                job_id=job_id, destination=destination, state=DeliveryState.WAITING, attempts=0, asks=0, reason=""
            )
        )
        row = {"job_id": job_id, "destination": destination, "state": LedgerState.WAITING, "status": None, "at": now}
        if made:
            connection.execute(sa.insert(ledger), [row | {"sop_instance_uid": uid} for uid in made])


def reopen_deliveries(connection: sa.Connection, job_id: int, *, now: datetime) -> int:
    """How many deliveries wait again that were rejected or abandoned; what a destination holds stays done."""
    connection.execute(
        sa.update(ledger)
        .where(ledger.c.job_id == job_id, ledger.c.state == LedgerState.REJECTED)
        .values(state=LedgerState.WAITING, at=now)
    )
    return connection.execute(
        sa.update(deliveries)
        .where(
            deliveries.c.job_id == job_id,
            deliveries.c.state.in_((DeliveryState.REJECTED, DeliveryState.ABANDONED)),
        )
        .values(state=DeliveryState.WAITING, attempts=0, asks=0, first_try_at=None, next_try_at=now, reason="")
    ).rowcount


def unsent(connection: sa.Connection, job_id: int, destination: str) -> list[str]:
    """The SOP Instance UIDs the destination has not answered for, in instance order."""
    wanted = (
        sa.select(ledger.c.sop_instance_uid)
        .join(
            job_results,
            (job_results.c.job_id == ledger.c.job_id) & (job_results.c.sop_instance_uid == ledger.c.sop_instance_uid),
        )
        .where(ledger.c.job_id == job_id, ledger.c.destination == destination, ledger.c.state == LedgerState.WAITING)
        .order_by(job_results.c.position)
    )
    return list(connection.scalars(wanted))


def uncommitted(connection: sa.Connection, job_id: int, destination: str) -> list[str]:
    """The SOP Instance UIDs that the destination has and has not promised to keep."""
    wanted = sa.select(ledger.c.sop_instance_uid).where(
        ledger.c.job_id == job_id, ledger.c.destination == destination, ledger.c.state.in_(UNCOMMITTED)
    )
    return list(connection.scalars(wanted.order_by(ledger.c.sop_instance_uid)))


def record_results(
    connection: sa.Connection, job_id: int, destination: str, results: Sequence[Result], now: datetime
) -> None:
    """Each answer in its row; a row the destination holds already stays done, whatever a later answer says.

    Raises LookupError for an instance that is not part of the delivery.
    """
    rows = ledger_states(connection, job_id, destination)
    for result in results:
        if result.sop_instance_uid not in rows:
            raise LookupError(f"job {job_id} has no instance {result.sop_instance_uid} for {destination}")
        if rows[result.sop_instance_uid] in HELD:
            continue
        connection.execute(
            sa.update(ledger)
            .where(
                ledger.c.job_id == job_id,
                ledger.c.destination == destination,
                ledger.c.sop_instance_uid == result.sop_instance_uid,
            )
            .values(state=LedgerState(result.state), status=result.status, at=now)
        )
        rows[result.sop_instance_uid] = LedgerState(result.state)


def ledger_states(connection: sa.Connection, job_id: int, destination: str) -> dict[str, LedgerState]:
    """SOP Instance UID -> where it stands with the destination."""
    wanted = sa.select(ledger.c.sop_instance_uid, ledger.c.state).where(
        ledger.c.job_id == job_id, ledger.c.destination == destination
    )
    return {row.sop_instance_uid: LedgerState(row.state) for row in connection.execute(wanted)}
