"""The catalogue: which instances we hold, which series they make, and whether a series is whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from storage import query_rows
from storage.errors import InstanceConflict, StaleState
from storage.schema import instances as instance_rows
from storage.schema import series as series_rows

CHUNK = 500  # values in one statement: below the limits of both databases


class SeriesState(StrEnum):
    """Whether more instances are expected."""

    OPEN = "open"
    CLOSED = "closed"


class Origin(StrEnum):
    """Who made a series: what we derived is never routed again."""

    RECEIVED = "received"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance on our disk. header: DICOM keyword -> JSON value, what rules and gather may see."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    peer: str
    received_at: datetime
    sha256: str
    size_bytes: int
    header: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Series:
    """One series as we know it. generation: 1, and one more each time instances came after it was closed."""

    series_instance_uid: str
    study_instance_uid: str
    peer: str
    state: SeriesState
    origin: Origin
    generation: int
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    closed_at: datetime | None
    closed_because: str


@dataclass(frozen=True, slots=True)
class AddedResult:
    """A series that grew. count: its new instances; reopened: it had been closed, which the caller audits as late."""

    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    generation: int
    reopened: bool
    origin: Origin

    @property
    def count(self) -> int:
        """How many instances are new."""
        return len(self.sop_instance_uids)


def add_instances(connection: sa.Connection, instances: Iterable[Instance]) -> list[AddedResult]:
    """The series that grew, in the order met; an instance already listed is not listed again and does not count.

    A closed series that we received opens again in its next generation; one that we derived stays closed.
    Raises ValueError, naming the instance, for a header that JSON cannot hold.
    """
    wanted = {instance.sop_instance_uid: instance for instance in instances}
    known = known_instances(connection, wanted)
    grown: dict[str, list[Instance]] = {}
    for uid, instance in wanted.items():
        if uid not in known:
            grown.setdefault(instance.series_instance_uid, []).append(instance)
    return [_grow(connection, uid, new) for uid, new in grown.items()]


def add_derived_series(connection: sa.Connection, series_instance_uid: str, instances: Sequence[Instance]) -> None:
    """A series we made, closed and ours; again with the same is harmless, with other bytes InstanceConflict."""
    if not instances or any(one.series_instance_uid != series_instance_uid for one in instances):
        raise ValueError(f"every instance of a derived series {series_instance_uid} must be in it, and one at least")
    known = _known(connection, [one.sop_instance_uid for one in instances])
    for one in instances:
        listed = known.get(one.sop_instance_uid, (series_instance_uid, one.sha256))
        if listed != (series_instance_uid, one.sha256):
            raise InstanceConflict(
                f"instance {one.sop_instance_uid} is listed already, in series {listed[0]} with SHA-256 {listed[1]}; "
                f"what was derived for series {series_instance_uid} differs"
            )
    new = [one for one in instances if one.sop_instance_uid not in known]
    if new:
        _grow(connection, series_instance_uid, new)
    moment = max(one.received_at for one in instances)
    ours = series_rows.c.series_instance_uid == series_instance_uid
    connection.execute(
        sa.update(series_rows)
        .where(ours, (series_rows.c.origin != Origin.DERIVED) | (series_rows.c.state != SeriesState.CLOSED))
        .values(state=SeriesState.CLOSED, origin=Origin.DERIVED, closed_at=moment, closed_because="derived here")
    )


def close_series(
    connection: sa.Connection,
    series_instance_uid: str,
    *,
    generation: int,
    instance_count: int,
    because: str,
    now: datetime,
) -> None:
    """The series is whole as it was looked at; StaleState when it was closed or an instance came meanwhile."""
    closed = connection.execute(
        sa.update(series_rows)
        .where(
            series_rows.c.series_instance_uid == series_instance_uid,
            series_rows.c.state == SeriesState.OPEN,
            series_rows.c.generation == generation,
            series_rows.c.instance_count == instance_count,
        )
        .values(state=SeriesState.CLOSED, closed_at=now, closed_because=because)
    ).rowcount
    if closed != 1:
        raise StaleState(
            f"series {series_instance_uid} is no longer open with {instance_count} instances in generation {generation}"
        )


def known_instances(connection: sa.Connection, sop_instance_uids: Collection[str]) -> set[str]:
    """Those of the SOP Instance UIDs that are listed."""
    return set(_known(connection, sop_instance_uids))


def get_series(connection: sa.Connection, series_instance_uid: str) -> Series:
    """The series; LookupError when we know none of that UID."""
    found = _series(connection, series_rows.c.series_instance_uid == series_instance_uid)
    if not found:
        raise LookupError(f"series {series_instance_uid} is not in the catalogue")
    return found[0]


def open_series(connection: sa.Connection) -> list[Series]:
    """Series to which instances may still come, oldest first."""
    return _series(connection, series_rows.c.state == SeriesState.OPEN)


def list_series(connection: sa.Connection, *, study_instance_uid: str | None = None) -> list[Series]:
    """Series of a study, or all, oldest first."""
    if study_instance_uid is None:
        return _series(connection)
    return _series(connection, series_rows.c.study_instance_uid == study_instance_uid)


def series_instances(connection: sa.Connection, series_instance_uid: str) -> list[Instance]:
    """The instances of a series in the order they came."""
    wanted = sa.select(instance_rows).where(instance_rows.c.series_instance_uid == series_instance_uid)
    found = connection.execute(wanted.order_by(instance_rows.c.received_at, instance_rows.c.sop_instance_uid))
    return [Instance(**row) for row in found.mappings()]


def instance_uids(connection: sa.Connection, series_instance_uid: str) -> list[str]:
    """The SOP Instance UIDs of a series in the order they came."""
    wanted = sa.select(instance_rows.c.sop_instance_uid).where(
        instance_rows.c.series_instance_uid == series_instance_uid
    )
    return list(connection.scalars(wanted.order_by(instance_rows.c.received_at, instance_rows.c.sop_instance_uid)))


def origin_of(connection: sa.Connection, series_instance_uid: str) -> Origin | None:
    """Who made the series; None when it is not in the catalogue."""
    wanted = sa.select(series_rows.c.origin).where(series_rows.c.series_instance_uid == series_instance_uid)
    found = connection.scalar(wanted)
    return None if found is None else Origin(found)


def _grow(connection: sa.Connection, series_instance_uid: str, new: Sequence[Instance]) -> AddedResult:
    """The series after the new instances are listed, made if it was not there."""
    first = min(instance.received_at for instance in new)
    last = max(instance.received_at for instance in new)
    ours = series_rows.c.series_instance_uid == series_instance_uid
    before = _series(connection, ours)
    if before:
        known = before[0]
        reopened = known.state is SeriesState.CLOSED and known.origin is Origin.RECEIVED
        generation, origin = known.generation + reopened, known.origin
        change: dict[str, Any] = {
            "instance_count": series_rows.c.instance_count + len(new),
            "first_received_at": min(first, known.first_received_at),
            "last_received_at": max(last, known.last_received_at),
            "generation": generation,
        }
        if reopened:
            change |= {"state": SeriesState.OPEN, "closed_at": None, "closed_because": ""}
        connection.execute(sa.update(series_rows).where(ours).values(change))
    else:
        reopened, generation, origin = False, 1, Origin.RECEIVED
        made = Series(
            series_instance_uid,
            new[0].study_instance_uid,
            new[0].peer,
            SeriesState.OPEN,
            origin,
            generation,
            len(new),
            first,
            last,
            closed_at=None,
            closed_because="",
        )
        connection.execute(sa.insert(series_rows).values(asdict(made)))
    listed = [_row(one) for one in new]
    connection.execute(sa.insert(instance_rows), listed)
    query_rows.index_series(connection, series_instance_uid, new)
    uids = tuple(instance.sop_instance_uid for instance in new)
    return AddedResult(series_instance_uid, uids, generation, reopened, origin)


def _row(instance: Instance) -> dict[str, Any]:
    row = {field.name: getattr(instance, field.name) for field in fields(instance)}
    row["header"] = dict(instance.header)
    try:
        json.dumps(row["header"], allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # whose words may quote the header
        raise ValueError(f"the header of instance {instance.sop_instance_uid} holds what JSON cannot") from None
    return row


def _series(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Series]:
    wanted = sa.select(series_rows).where(*conditions)
    found = connection.execute(wanted.order_by(series_rows.c.first_received_at, series_rows.c.series_instance_uid))
    return [
        Series(**dict(row) | {"state": SeriesState(row["state"]), "origin": Origin(row["origin"])})
        for row in found.mappings()
    ]


def _known(connection: sa.Connection, sop_instance_uids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """SOP Instance UID -> Series Instance UID and SHA-256, of those that are listed."""
    wanted = list(sop_instance_uids)
    columns = instance_rows.c.sop_instance_uid, instance_rows.c.series_instance_uid, instance_rows.c.sha256
    found: dict[str, tuple[str, str]] = {}
    for first in range(0, len(wanted), CHUNK):
        chunk = sa.select(*columns).where(instance_rows.c.sop_instance_uid.in_(wanted[first : first + CHUNK]))
        found |= {row[0]: (row[1], row[2]) for row in connection.execute(chunk)}
    return found
