"""The lane to each destination: broken when no association can be opened, mended when a probe finds the peer again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from storage import audit
from storage.job_states import ON_THE_WAY
from storage.ledger import NOT_OVER, DeliveryState
from storage.schema import deliveries, jobs, lanes

PROBE = 0
"""Stands where a job's number stands: no job is meant, but the probe of the lane."""
NOT_DONE = (*NOT_OVER, DeliveryState.REJECTED, DeliveryState.ABANDONED)


@dataclass(frozen=True, slots=True)
class Lane:
    """The circuit breaker of one destination.

    broken_since: None while it is whole. breaks: how often it has broken, ever. failures: tries to open an association
    that failed since the destination last answered an instance; a peer that answers every probe and refuses every
    association is asked more and more seldom by it.
    """

    destination: str
    broken_since: datetime | None = None
    breaks: int = 0
    failures: int = 0
    next_probe_at: datetime | None = None
    reason: str = ""

    @property
    def broken(self) -> bool:
        """Whether nothing is tried but the probe."""
        return self.broken_since is not None


@dataclass(frozen=True, slots=True)
class LaneState:
    """How one destination is served: deliveries that wait, how others ended badly, and since when it fails.

    committing: it has every instance of these and has not promised yet to keep them.
    """

    destination: str
    waiting: int
    committing: int
    rejected: int
    abandoned: int
    failing_since: datetime | None
    broken_since: datetime | None
    next_try_at: datetime | None
    reason: str


def get_lane(connection: sa.Connection, destination: str) -> Lane:
    """The lane; one that never broke is whole."""
    return all_lanes(connection).get(destination, Lane(destination))


def all_lanes(connection: sa.Connection) -> dict[str, Lane]:
    """Destination -> lane, of those that have ever broken."""
    return {row.destination: Lane(**row._mapping) for row in connection.execute(sa.select(lanes))}


def break_lane(
    connection: sa.Connection, destination: str, *, reason: str, next_probe_at: datetime, now: datetime
) -> bool:
    """No association could be opened: nothing is delivered there before a probe succeeds. False: it was broken already.

    What waits has begun to be tried with that: nothing waits longer than its days because others went first.
    """
    known = get_lane(connection, destination)
    if known.broken:
        return False
    facts = {
        "broken_since": now,
        "breaks": known.breaks + 1,
        "failures": known.failures + 1,
        "next_probe_at": next_probe_at,
        "reason": reason,
    }
    if known.breaks:
        connection.execute(sa.update(lanes).where(lanes.c.destination == destination).values(facts))
    else:
        connection.execute(sa.insert(lanes).values(destination=destination, **facts))
    waiting = _hold(connection, destination, reason=reason, now=now)
    audit.append(
        connection,
        "lane broken",
        peer=destination,
        details={"reason": reason, "waiting": waiting, "failures": known.failures + 1},
    )
    return True


def keep_broken(
    connection: sa.Connection, destination: str, *, reason: str, next_probe_at: datetime, now: datetime
) -> None:
    """A probe failed, the next has its time; a lane that was mended meanwhile stays so."""
    still = connection.execute(
        sa.update(lanes)
        .where(lanes.c.destination == destination, lanes.c.broken_since.is_not(None))
        .values(failures=lanes.c.failures + 1, next_probe_at=next_probe_at, reason=reason)
    ).rowcount
    if still:
        _hold(connection, destination, reason=reason, now=now)


def overdue_jobs(connection: sa.Connection, destination: str, *, tried_before: datetime) -> list[int]:
    """Jobs whose delivery there was first tried, or held up, before that moment and waits still."""
    wanted = sa.select(deliveries.c.job_id).where(_waiting(destination), deliveries.c.first_try_at < tried_before)
    return list(connection.scalars(wanted.order_by(deliveries.c.first_try_at)))


def mend_lane(connection: sa.Connection, destination: str, *, because: str, now: datetime) -> int | None:
    """The destination is there: what waited for it is due at once. How many wait; None when it was not broken."""
    known = get_lane(connection, destination)
    if known.broken_since is None:
        return None
    connection.execute(
        sa.update(lanes)
        .where(lanes.c.destination == destination)
        .values(broken_since=None, next_probe_at=None, reason="")
    )
    waiting = connection.execute(
        sa.update(deliveries).where(_waiting(destination)).values(next_try_at=now, reason="")
    ).rowcount
    audit.append(
        connection,
        "lane mended",
        peer=destination,
        details={
            "because": because,
            "reason": known.reason,
            "broken_since": known.broken_since.isoformat(),
            "failures": known.failures,
            "waiting": waiting,
        },
    )
    return waiting


def prove_lane(connection: sa.Connection, destination: str) -> None:
    """The destination answered an instance: the next break begins with the shortest wait again.

    Not while it is broken: the probes of one break are told apart by their failures, and none is asked for twice.
    """
    whole = sa.and_(lanes.c.destination == destination, lanes.c.broken_since.is_(None))
    connection.execute(sa.update(lanes).where(whole).values(failures=0))


def probe_at_once(connection: sa.Connection, destinations: Collection[str], now: datetime) -> list[str]:
    """The probes of these destinations are due now; gives those that are broken."""
    return list(
        connection.scalars(
            sa.update(lanes)
            .where(lanes.c.destination.in_(destinations), lanes.c.broken_since.is_not(None))
            .values(next_probe_at=now)
            .returning(lanes.c.destination)
        )
    )


def lane_states(connection: sa.Connection) -> list[LaneState]:
    """Every destination with something that is not done or whose lane is broken, by name."""
    tried = sa.case((deliveries.c.attempts > 0, deliveries.c.first_try_at))
    wanted = (
        sa.select(
            deliveries.c.destination,
            deliveries.c.state,
            sa.func.count().label("number"),
            sa.func.min(tried).label("failing_since"),
            sa.func.min(deliveries.c.next_try_at).label("next_try_at"),
            sa.func.max(deliveries.c.reason).label("reason"),
        )
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(
            deliveries.c.state.in_(NOT_DONE),
            deliveries.c.state.not_in(NOT_OVER) | jobs.c.state.in_(ON_THE_WAY),
        )
        .group_by(deliveries.c.destination, deliveries.c.state)
    )
    rows = {(row.destination, row.state): row for row in connection.execute(wanted)}
    broken = {name: lane for name, lane in all_lanes(connection).items() if lane.broken}
    found = []
    for destination in sorted({name for name, _ in rows} | set(broken)):
        counts = {state: getattr(rows.get((destination, state)), "number", 0) for state in NOT_DONE}
        lane = broken.get(destination, Lane(destination))
        open_ones = [rows[destination, state] for state in NOT_OVER if (destination, state) in rows]
        since = [lane.broken_since, *(row.failing_since for row in open_ones)]
        tries = [row.next_try_at for row in open_ones if row.next_try_at is not None]
        found.append(
            LaneState(
                destination,
                waiting=counts[DeliveryState.WAITING],
                committing=counts[DeliveryState.COMMITTING],
                rejected=counts[DeliveryState.REJECTED],
                abandoned=counts[DeliveryState.ABANDONED],
                failing_since=min((at for at in since if at is not None), default=None),
                broken_since=lane.broken_since,
                next_try_at=lane.next_probe_at if lane.broken else min(tries, default=None),
                reason=lane.reason or next((row.reason for row in open_ones if row.reason), ""),
            )
        )
    return found


def _hold(connection: sa.Connection, destination: str, *, reason: str, now: datetime) -> int:
    """What waits for the destination says why, and since when it was tried; how many wait."""
    first = sa.func.coalesce(deliveries.c.first_try_at, sa.literal(now, deliveries.c.first_try_at.type))
    return connection.execute(
        sa.update(deliveries).where(_waiting(destination)).values(first_try_at=first, reason=reason)
    ).rowcount


def _waiting(destination: str) -> sa.ColumnElement[bool]:
    """Deliveries to the destination that wait or are to be committed, of jobs on their way."""
    on_their_way = sa.select(jobs.c.id).where(jobs.c.state.in_(ON_THE_WAY))
    return sa.and_(
        deliveries.c.destination == destination,
        deliveries.c.state.in_(NOT_OVER),
        deliveries.c.job_id.in_(on_their_way),
    )
