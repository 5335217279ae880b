"""Series that were seen at peers: what was fetched is not fetched again, what came in part is known to be short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from storage.catalog import Series
from storage.schema import looks
from storage.schema import sightings as rows


class Sight(StrEnum):
    """How far a series is that a peer holds."""

    SEEN = "seen"  # it may still grow there
    WANTED = "wanted"  # it is being fetched, or did not come as a whole
    FETCHED = "fetched"  # all of it was here


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was last seen of a series. instances: how many the peer held; tries: how often it did not come whole."""

    state: Sight
    instances: int
    tries: int


def saw(
    connection: sa.Connection,
    *,
    peer: str,
    series_instance_uid: str,
    study_instance_uid: str,
    rule: str,
    state: Sight,
    instances: int,
    now: datetime,
    reason: str = "",
) -> None:
    """The series as it is seen now; rule: who looked."""
    known = sighting(connection, peer, series_instance_uid)
    row = {
        "study_instance_uid": study_instance_uid,
        "rule": rule,
        "state": state,
        "instances": instances,
        "tries": (0 if known is None else known.tries) + bool(reason),
        "seen_at": now,
        "reason": reason,
    }
    ours = (rows.c.peer == peer) & (rows.c.series_instance_uid == series_instance_uid)
    if known is None:
        row |= {"peer": peer, "series_instance_uid": series_instance_uid}
        connection.execute(sa.insert(rows).values(row))
    else:
        connection.execute(sa.update(rows).where(ours).values(row))


def sighting(connection: sa.Connection, peer: str, series_instance_uid: str) -> Sighting | None:
    """What was last seen of the series at that peer; None: nothing."""
    ours = (rows.c.peer == peer) & (rows.c.series_instance_uid == series_instance_uid)
    found = connection.execute(sa.select(rows.c.state, rows.c.instances, rows.c.tries).where(ours)).first()
    return None if found is None else Sighting(Sight(found[0]), found[1], found[2])


def short_series(connection: sa.Connection, held: Iterable[Series]) -> set[str]:
    """Those of the series of which some peer was seen to hold more than is here."""
    counts = {one.series_instance_uid: one.instance_count for one in held}
    wanted = sa.select(rows.c.series_instance_uid, rows.c.instances).where(rows.c.series_instance_uid.in_(counts))
    return {uid for uid, instances in connection.execute(wanted) if instances > counts[uid]}


def looked_at(connection: sa.Connection, rule: str) -> datetime | None:
    """When the peer of that `[[retrieve]]` was last asked; None: never."""
    return connection.scalar(sa.select(looks.c.at).where(looks.c.rule == rule))


def look(connection: sa.Connection, rule: str, now: datetime) -> None:
    """The peer of that `[[retrieve]]` is asked now."""
    if connection.execute(sa.update(looks).where(looks.c.rule == rule).values(at=now)).rowcount != 1:
        connection.execute(sa.insert(looks).values(rule=rule, at=now))
