"""Storage commitment asked of us: which instances a peer wants kept, what it is to be told, and whether it was told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from storage import audit
from storage.catalog import CHUNK
from storage.references import Reference
from storage.schema import instances, promise_instances, promises

MOST_TOLD = 50
"""UIDs that were not found, of those the audit names; the tables have them all."""
FORGOTTEN_AT_ONCE = 100


class PromiseState(StrEnum):
    """Where a peer's request stands."""

    WAITING = "waiting"  # its report is to be sent
    REPORTED = "reported"  # the peer has acknowledged the report
    ABANDONED = "abandoned"  # tried for the configured days


@dataclass(frozen=True, slots=True)
class Promise:
    """One request of a peer. attempts: reports that were tried."""

    id: int
    peer: str
    transaction_uid: str
    state: PromiseState
    attempts: int
    asked_at: datetime
    next_try_at: datetime | None
    reported_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An instance as the catalogue has it."""

    sop_class_uid: str
    sha256: str
    size_bytes: int


def open_promise(
    connection: sa.Connection,
    peer: str,
    transaction_uid: str,
    references: Sequence[Reference],
    *,
    report_at: datetime,
    now: datetime,
) -> Promise | None:
    """The request, kept: its report is due at `report_at`. The same request once more is reported once more.

    None when the peer has used the transaction UID for other instances.
    """
    wanted = {one.sop_instance_uid: one.sop_class_uid for one in references}
    known = _find(connection, promises.c.peer == peer, promises.c.transaction_uid == transaction_uid)
    if known:
        asked = {one.sop_instance_uid: one.sop_class_uid for one in promised(connection, known[0].id)}
        if asked != wanted:
            return None
        _change(
            connection,
            known[0].id,
            state=PromiseState.WAITING,
            attempts=known[0].attempts + 1,
            asked_at=now,
            next_try_at=report_at,
        )
    else:
        row = {
            "peer": peer,
            "transaction_uid": transaction_uid,
            "state": PromiseState.WAITING,
            "attempts": 0,
            "asked_at": now,
            "next_try_at": report_at,
            "reason": "",
        }
        made = connection.execute(sa.insert(promises).values(row).returning(promises.c.id)).scalar_one()
        rows = [
            {"promise_id": made, "sop_instance_uid": uid, "sop_class_uid": sop_class_uid, "position": position}
            for position, (uid, sop_class_uid) in enumerate(wanted.items())
        ]
        connection.execute(sa.insert(promise_instances), rows)
    details = {"transaction_uid": transaction_uid, "instances": len(wanted), "again": bool(known)}
    audit.append(connection, "commitment wanted", peer=peer, details=details)
    return _find(connection, promises.c.peer == peer, promises.c.transaction_uid == transaction_uid)[0]


def get_promise(connection: sa.Connection, promise_id: int) -> Promise:
    """The request; LookupError when there is none of that number."""
    found = _find(connection, promises.c.id == promise_id)
    if not found:
        raise LookupError(f"there is no request {promise_id} for storage commitment")
    return found[0]


def due_promises(connection: sa.Connection, now: datetime) -> list[Promise]:
    """Requests whose report is to be tried now, oldest first."""
    return _find(connection, promises.c.state == PromiseState.WAITING, promises.c.next_try_at <= now)


def open_peers(connection: sa.Connection) -> set[str]:
    """Every peer that waits for a report, also one that left the config."""
    return set(
        connection.scalars(sa.select(promises.c.peer).where(promises.c.state == PromiseState.WAITING).distinct())
    )


def list_promises(connection: sa.Connection, limit: int | None = None) -> list[Promise]:
    """Requests of peers, newest first."""
    found = connection.execute(sa.select(promises).order_by(promises.c.id.desc()).limit(limit))
    return [_promise(row) for row in found]


def promised(connection: sa.Connection, promise_id: int) -> list[Reference]:
    """The instances of the request, in its order."""
    wanted = sa.select(promise_instances).where(promise_instances.c.promise_id == promise_id)
    rows = connection.execute(wanted.order_by(promise_instances.c.position))
    return [Reference(row.sop_class_uid, row.sop_instance_uid) for row in rows]


def failures(connection: sa.Connection, promise_id: int) -> dict[str, int]:
    """SOP Instance UID -> failure reason, of those that could not be committed when it was last looked."""
    wanted = sa.select(promise_instances.c.sop_instance_uid, promise_instances.c.failure).where(
        promise_instances.c.promise_id == promise_id, promise_instances.c.failure.is_not(None)
    )
    return {row.sop_instance_uid: row.failure for row in connection.execute(wanted)}


def listed_instances(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> dict[str, Listed]:
    """Those of the instances that the catalogue has."""
    found: dict[str, Listed] = {}
    columns = (instances.c.sop_instance_uid, instances.c.sop_class_uid, instances.c.sha256, instances.c.size_bytes)
    for chunk in _chunks(sop_instance_uids):
        for row in connection.execute(sa.select(*columns).where(columns[0].in_(chunk))):
            found[row.sop_instance_uid] = Listed(row.sop_class_uid, row.sha256, row.size_bytes)
    return found


def record_check(connection: sa.Connection, promise_id: int, failed: Mapping[str, int]) -> None:
    """What was found when it was looked: the reason of each that fails; all others are held."""
    ours = promise_instances.c.promise_id == promise_id
    connection.execute(sa.update(promise_instances).where(ours).values(failure=None))
    for reason in sorted(set(failed.values())):
        for chunk in _chunks([uid for uid in failed if failed[uid] == reason]):
            connection.execute(
                sa.update(promise_instances)
                .where(ours, promise_instances.c.sop_instance_uid.in_(chunk))
                .values(failure=reason)
            )


def finish_promise(connection: sa.Connection, promise: Promise, *, now: datetime) -> None:
    """The peer has acknowledged the report, which the audit holds.

    As `postpone_promise` and `abandon_promise` it changes nothing of a request that was made once more since the
    promise was read: that one is to be answered anew.
    """
    _change_as_read(
        connection,
        promise,
        state=PromiseState.REPORTED,
        attempts=promise.attempts + 1,
        next_try_at=None,
        reported_at=now,
        reason="",
    )
    failed = failures(connection, promise.id)
    audit.append(
        connection,
        "commitment refused" if failed else "commitment given",
        peer=promise.peer,
        details={
            "transaction_uid": promise.transaction_uid,
            "committed": len(promised(connection, promise.id)) - len(failed),
            "failed": len(failed),
            "reasons": {uid: f"0x{why:04X}" for uid, why in sorted(failed.items())[:MOST_TOLD]},
            "tries": promise.attempts + 1,
        },
    )


def postpone_promise(connection: sa.Connection, promise: Promise, *, reason: str, next_try_at: datetime) -> None:
    """The report waits for its next try, one try the richer."""
    _change_as_read(connection, promise, attempts=promise.attempts + 1, next_try_at=next_try_at, reason=reason)


def abandon_promise(connection: sa.Connection, promise: Promise, *, reason: str) -> None:
    """Tried long enough: the peer has not acknowledged a report. Whether it heard one nobody knows."""
    if not _change_as_read(
        connection,
        promise,
        state=PromiseState.ABANDONED,
        attempts=promise.attempts + 1,
        next_try_at=None,
        reason=reason,
    ):
        return
    audit.append(
        connection,
        "commitment not told",
        peer=promise.peer,
        details={"transaction_uid": promise.transaction_uid, "tries": promise.attempts + 1, "reason": reason},
    )


def is_promised(connection: sa.Connection, series_instance_uids: Collection[str]) -> bool:
    """Whether a peer was told, is to be told, or may have been told that we keep an instance of these series."""
    for chunk in _chunks(list(series_instance_uids)):
        wanted = (
            sa.select(promise_instances.c.sop_instance_uid)
            .join(instances, instances.c.sop_instance_uid == promise_instances.c.sop_instance_uid)
            # Also of a request that was given up: its report may have been heard, and only the answer to it lost.
            .where(instances.c.series_instance_uid.in_(chunk), promise_instances.c.failure.is_(None))
            .limit(1)
        )
        if connection.scalar(wanted) is not None:
            return True
    return False


def forget_promises(connection: sa.Connection, *, asked_before: datetime, most: int = FORGOTTEN_AT_ONCE) -> int:
    """How many requests were forgotten, oldest first: those that are over, and of which nothing is held any more.

    One that waits for its report is never forgotten, and none by which retention knows what was promised.
    """
    held = (
        sa.select(promise_instances.c.promise_id)
        .join(instances, instances.c.sop_instance_uid == promise_instances.c.sop_instance_uid)
        .where(promise_instances.c.promise_id == promises.c.id, promise_instances.c.failure.is_(None))
    )
    over = (
        sa.select(promises.c.id)
        .where(
            promises.c.state != PromiseState.WAITING,
            promises.c.asked_at < asked_before,
            promises.c.reported_at.is_(None) | (promises.c.reported_at < asked_before),
            ~held.exists(),
        )
        .order_by(promises.c.id)
        .limit(most)
    )
    gone = list(connection.scalars(over))
    connection.execute(sa.delete(promise_instances).where(promise_instances.c.promise_id.in_(gone)))
    connection.execute(sa.delete(promises).where(promises.c.id.in_(gone)))
    return len(gone)


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), CHUNK):
        yield values[first : first + CHUNK]


def _find(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Promise]:
    rows = connection.execute(sa.select(promises).where(*conditions).order_by(promises.c.id))
    return [_promise(row) for row in rows]


def _promise(row: sa.Row[tuple[object, ...]]) -> Promise:
    facts = dict(row._mapping)
    return Promise(**facts | {"state": PromiseState(row.state)})


def _change(connection: sa.Connection, promise_id: int, **change: object) -> None:
    connection.execute(sa.update(promises).where(promises.c.id == promise_id).values(**change))


def _change_as_read(connection: sa.Connection, promise: Promise, **change: object) -> bool:
    """Whether the request was still as it was read, and is changed."""
    as_read = (promises.c.id == promise.id, promises.c.attempts == promise.attempts)
    return bool(connection.execute(sa.update(promises).where(*as_read).values(**change)).rowcount)
