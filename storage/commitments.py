"""Storage commitment asked of destinations: what they promised to keep, what is sent again, and what is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from storage import audit, deliveries, jobs, ledger
from storage.catalog import CHUNK
from storage.deliveries import Delivery
from storage.errors import IllegalTransition
from storage.ledger import HELD, NOT_OVER, UNCOMMITTED, DeliveryState, LedgerState
from storage.references import (
    CLASS_INSTANCE_CONFLICT,
    CLASS_NOT_SUPPORTED,
    DUPLICATE_TRANSACTION,
    Reference,
    Report,
)
from storage.schema import commitments, instances, job_results
from storage.schema import deliveries as delivery_rows
from storage.schema import ledger as ledger_rows

MOST_TOLD = 50
"""UIDs of one report that the audit names; the ledger has them all."""
FINAL = (CLASS_INSTANCE_CONFLICT, CLASS_NOT_SUPPORTED)
"""Failure reasons that no sending again mends: an operator looks."""


def await_commitment(connection: sa.Connection, job_id: int, destination: str, *, now: datetime) -> DeliveryState:
    """Every instance is there: the delivery ends when all are committed, and until then it waits for that."""
    delivery = deliveries.get_delivery(connection, job_id, destination)
    left = ledger.uncommitted(connection, job_id, destination)
    if delivery.over or not left or ledger.unsent(connection, job_id, destination):
        return deliveries.finish_delivery(connection, job_id, destination, now=now)
    if delivery.state is not DeliveryState.COMMITTING:
        _change(
            connection,
            delivery,
            state=DeliveryState.COMMITTING,
            first_try_at=delivery.first_try_at or now,
            next_try_at=now,
            reason="",
        )
    return DeliveryState.COMMITTING


def open_transaction(
    connection: sa.Connection,
    job_id: int,
    destination: str,
    *,
    transaction_uid: str,
    report_by: datetime,
    now: datetime,
) -> list[Reference]:
    """The instances to ask for, in instance order; kept before the peer is asked, because it may report at once.

    report_by: when it is asked again. Raises IllegalTransition where nothing is to be asked.
    """
    delivery = deliveries.get_delivery(connection, job_id, destination)
    if delivery.state is not DeliveryState.COMMITTING:
        raise IllegalTransition(f"the delivery of job {job_id} to {destination} is {delivery.state}; nothing is asked")
    wanted = (
        sa.select(instances.c.sop_class_uid, ledger_rows.c.sop_instance_uid)
        .join(instances, instances.c.sop_instance_uid == ledger_rows.c.sop_instance_uid)
        .join(
            job_results,
            (job_results.c.job_id == ledger_rows.c.job_id)
            & (job_results.c.sop_instance_uid == ledger_rows.c.sop_instance_uid),
        )
        .where(*_of(job_id, destination), ledger_rows.c.state.in_(UNCOMMITTED))
        .order_by(job_results.c.position)
    )
    asked = [Reference(row.sop_class_uid, row.sop_instance_uid) for row in connection.execute(wanted)]
    if len(asked) != len(ledger.uncommitted(connection, job_id, destination)):
        raise IllegalTransition(f"job {job_id}: what it made is not in the catalogue; {destination} cannot be asked")
    connection.execute(
        sa.insert(commitments).values(
            transaction_uid=transaction_uid, job_id=job_id, destination=destination, instances=len(asked), asked_at=now
        )
    )
    _change(connection, delivery, asks=delivery.asks + 1, next_try_at=report_by)
    _tell(
        connection,
        delivery,
        "commitment asked",
        {"transaction_uid": transaction_uid, "instances": len(asked), "ask": delivery.asks + 1},
    )
    return asked


def is_reported(connection: sa.Connection, transaction_uid: str) -> bool:
    """Whether the peer has reported on it."""
    wanted = sa.select(commitments.c.reported_at).where(commitments.c.transaction_uid == transaction_uid)
    return connection.scalar(wanted) is not None


def settle_report(
    connection: sa.Connection, report: Report, *, peer: str, retry_s: Callable[[int], float], now: datetime
) -> DeliveryState | None:
    """Where the delivery stands after the report; None when that peer was never asked so, and nothing is believed.

    Committed closes: the last of them ends the delivery. What failed is sent again, and only that; what no sending
    mends is rejected. A report that comes late, or twice, counts for what was not sent again since it was asked for.
    retry_s: attempts -> seconds until the next try.
    """
    wanted = sa.select(commitments).where(
        commitments.c.transaction_uid == report.transaction_uid, commitments.c.destination == peer
    )
    asked = connection.execute(wanted).one_or_none()
    if asked is None:
        return None
    try:
        delivery = deliveries.get_delivery(connection, asked.job_id, peer)
    except LookupError:  # its job was done anew, with another result
        return None
    standing = _standing(connection, delivery, asked_by=asked.asked_at)
    failed = {one.sop_instance_uid: why for one, why in report.failed if one.sop_instance_uid in standing}
    committed = [
        one.sop_instance_uid
        for one in report.committed
        if standing.get(one.sop_instance_uid) == one.sop_class_uid and one.sop_instance_uid not in failed
    ]
    _set(connection, delivery, committed, now, state=LedgerState.COMMITTED)
    if delivery.state is DeliveryState.COMMITTING:
        for reason in set(failed.values()) - {DUPLICATE_TRANSACTION}:
            state = LedgerState.REJECTED if reason in FINAL else LedgerState.WAITING
            _set(
                connection, delivery, [uid for uid in failed if failed[uid] == reason], now, state=state, status=reason
            )
    connection.execute(
        sa.update(commitments)
        .where(commitments.c.transaction_uid == report.transaction_uid)
        .values(
            reported_at=sa.func.coalesce(commitments.c.reported_at, sa.literal(now, commitments.c.reported_at.type))
        )
    )
    _tell(
        connection,
        delivery,
        "commitment failed" if failed else "commitment reported",
        {
            "transaction_uid": report.transaction_uid,
            "asked": asked.instances,
            "committed": len(committed),
            "failed": len(failed),
            "reasons": {uid: f"0x{why:04X}" for uid, why in sorted(failed.items())[:MOST_TOLD]},
            "after_s": round((now - asked.asked_at).total_seconds(), 1),
        },
    )
    return _move_on(connection, delivery, failed, retry_s, now)


def _move_on(
    connection: sa.Connection,
    delivery: Delivery,
    failed: dict[str, int],
    retry_s: Callable[[int], float],
    now: datetime,
) -> DeliveryState:
    """The delivery ends, sends again or asks again; one that is not waiting for reports stays as it is."""
    if delivery.state is not DeliveryState.COMMITTING:
        return delivery.state
    counts = Counter(ledger.ledger_states(connection, delivery.job_id, delivery.destination).values())
    left = sum(counts[state] for state in UNCOMMITTED)
    again = {
        "attempts": delivery.attempts + 1,
        "next_try_at": now + timedelta(seconds=retry_s(delivery.attempts)),
    }
    if counts[LedgerState.WAITING]:
        reasons = ", ".join(sorted({f"0x{why:04X}" for why in failed.values()}))
        why = f"{delivery.destination} did not commit to {len(failed)} of {counts.total()} instances ({reasons})"
        _change(connection, delivery, state=DeliveryState.WAITING, reason=f"{why}: they are sent again", **again)
        return DeliveryState.WAITING
    if left == 0:
        return deliveries.finish_delivery(connection, delivery.job_id, delivery.destination, now=now)
    if not _asked_since(connection, delivery):
        why = f"{delivery.destination} reported without a word on {left} of {counts.total()} instances"
        _change(connection, delivery, reason=f"{why}: asked again", **again)
    return DeliveryState.COMMITTING


def tell_overdue(connection: sa.Connection, delivery: Delivery, *, now: datetime) -> None:
    """The audit hears that no report came to what was asked last, before it is asked again."""
    silent = connection.execute(_unreported(delivery).order_by(commitments.c.asked_at.desc()).limit(1)).one_or_none()
    if silent is not None:
        waited_s = round((now - silent.asked_at).total_seconds(), 1)
        details = {"transaction_uid": silent.transaction_uid, "asked": silent.instances, "after_s": waited_s}
        _tell(connection, delivery, "commitment overdue", details)


def forget_commitments(connection: sa.Connection, *, asked_before: datetime) -> int:
    """How many old requests of deliveries that are over were forgotten; a report on one is believed no more."""
    ours = (delivery_rows.c.job_id == commitments.c.job_id, delivery_rows.c.destination == commitments.c.destination)
    open_ones = sa.select(delivery_rows.c.job_id).where(*ours, delivery_rows.c.state.in_(NOT_OVER))
    old = sa.delete(commitments).where(commitments.c.asked_at < asked_before, ~open_ones.exists())
    return connection.execute(old).rowcount


def _unreported(delivery: Delivery) -> sa.Select[Any]:
    return sa.select(commitments).where(
        commitments.c.job_id == delivery.job_id,
        commitments.c.destination == delivery.destination,
        commitments.c.reported_at.is_(None),
    )


def _asked_since(connection: sa.Connection, delivery: Delivery) -> bool:
    """Whether a report to a newer request is still to come."""
    ours = (commitments.c.job_id == delivery.job_id, commitments.c.destination == delivery.destination)
    newest = sa.select(commitments.c.reported_at).where(*ours).order_by(commitments.c.asked_at.desc()).limit(1)
    return connection.scalar(newest) is None


def _standing(connection: sa.Connection, delivery: Delivery, *, asked_by: datetime) -> dict[str, str]:
    """SOP Instance UID -> SOP class of what the report may speak of: held there, and not sent again since."""
    wanted = (
        sa.select(ledger_rows.c.sop_instance_uid, instances.c.sop_class_uid)
        .join(instances, instances.c.sop_instance_uid == ledger_rows.c.sop_instance_uid)
        .where(
            *_of(delivery.job_id, delivery.destination),
            ledger_rows.c.state.in_(UNCOMMITTED),
            ledger_rows.c.at <= asked_by,
        )
    )
    return {row.sop_instance_uid: row.sop_class_uid for row in connection.execute(wanted)}


def _set(connection: sa.Connection, delivery: Delivery, uids: Collection[str], now: datetime, **change: object) -> None:
    listed: Sequence[str] = list(uids)
    for first in range(0, len(listed), CHUNK):
        connection.execute(
            sa.update(ledger_rows)
            .where(
                *_of(delivery.job_id, delivery.destination),
                ledger_rows.c.sop_instance_uid.in_(listed[first : first + CHUNK]),
                ledger_rows.c.state.in_(HELD),
            )
            .values(at=now, **change)
        )


def _of(job_id: int, destination: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return ledger_rows.c.job_id == job_id, ledger_rows.c.destination == destination


def _change(connection: sa.Connection, delivery: Delivery, **change: object) -> None:
    connection.execute(
        sa.update(delivery_rows)
        .where(delivery_rows.c.job_id == delivery.job_id, delivery_rows.c.destination == delivery.destination)
        .values(**change)
    )


def _tell(connection: sa.Connection, delivery: Delivery, event: str, details: dict[str, Any]) -> None:
    audit.append(
        connection,
        event,
        series_instance_uid=jobs.get_job(connection, delivery.job_id).series_instance_uid,
        job_id=delivery.job_id,
        peer=delivery.destination,
        details=details,
    )
