"""What was received, a few series at a time, for those who look at all of it; and what a job derived from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage.catalog import Origin, Series, SeriesState
from storage.database import Connection, Database
from storage.job_rows import Job, find_jobs
from storage.schema import instances, job_results, jobs, series

PAGE = 500
MOST_HEADERS = 2000
"""Series asked for at once, and headers of them in memory at once: a longer series comes alone."""


@dataclass(frozen=True, slots=True)
class Held:
    """A series and the headers of the instances that are here: SOP Instance UID -> header."""

    series: Series
    headers: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which received series: those of these peers (empty: of any) to which something came since then."""

    since: datetime | None = None
    peers: frozenset[str] = frozenset()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The choice as SQL."""
        chosen: list[sa.ColumnElement[bool]] = [series.c.origin == Origin.RECEIVED]
        if self.since is not None:
            chosen.append(series.c.last_received_at >= self.since)
        if self.peers:
            chosen.append(series.c.peer.in_(sorted(self.peers)))
        return chosen


def count_received(connection: Connection, choice: Choice) -> int:
    """How many series the choice has."""
    found = connection.scalar(sa.select(sa.func.count()).select_from(series).where(*choice.conditions()))
    return int(found or 0)


def received_series(database: Database, choice: Choice) -> Iterator[Held]:
    """The series of the choice in the order of their UIDs, each whole as one moment shows it.

    Every few series are a read of their own: however long the whole takes, no old state of the database is held.
    """
    after = ""
    while True:
        with database.read() as connection:
            page = _page(connection, choice, after)
        for few in _in_portions(page):
            with database.read() as connection:
                held = _held(connection, few)
            yield from held
        if len(page) < PAGE:
            return
        after = page[-1][0]


def derived_headers(connection: Connection, job_key: str) -> list[Held]:
    """The series that the job of this key made and that are here, its images first; empty before it made any."""
    made = (
        sa.select(instances.c.series_instance_uid)
        .join(job_results, job_results.c.sop_instance_uid == instances.c.sop_instance_uid)
        .join(jobs, jobs.c.id == job_results.c.job_id)
        .where(jobs.c.key == job_key)
        .group_by(instances.c.series_instance_uid)
        .order_by(sa.func.min(job_results.c.position))
    )
    return [one for uid in connection.scalars(made).all() for one in _held(connection, [uid])]


def jobs_that_made(connection: Connection, series_instance_uid: str) -> list[Job]:
    """The jobs that derived the series, also one that has gone since; none where it was received."""
    made = (
        sa.select(job_results.c.job_id)
        .join(instances, instances.c.sop_instance_uid == job_results.c.sop_instance_uid)
        .where(instances.c.series_instance_uid == series_instance_uid)
    )
    return find_jobs(connection, jobs.c.id.in_(made) | (jobs.c.derived_series_instance_uid == series_instance_uid))


def _page(connection: Connection, choice: Choice, after: str) -> list[tuple[str, int]]:
    """UIDs and instance counts of the next series."""
    wanted = sa.select(series.c.series_instance_uid, series.c.instance_count).where(
        *choice.conditions(), series.c.series_instance_uid > after
    )
    found = connection.execute(wanted.order_by(series.c.series_instance_uid).limit(PAGE))
    return [(row.series_instance_uid, row.instance_count) for row in found]


def _in_portions(page: list[tuple[str, int]]) -> Iterator[list[str]]:
    """The UIDs, so many at a time that their headers are few enough."""
    few: list[str] = []
    headers = 0
    for uid, count in page:
        if few and headers + count > MOST_HEADERS:
            yield few
            few, headers = [], 0
        few.append(uid)
        headers += count
    if few:
        yield few


def _held(connection: Connection, uids: Collection[str]) -> list[Held]:
    """The series with their headers; one that has gone meanwhile is left out."""
    headers: dict[str, dict[str, Mapping[str, Any]]] = {}
    wanted = sa.select(instances.c.series_instance_uid, instances.c.sop_instance_uid, instances.c.header)
    rows = connection.execute(
        wanted.where(instances.c.series_instance_uid.in_(uids)).order_by(
            instances.c.series_instance_uid, instances.c.received_at, instances.c.sop_instance_uid
        )
    )
    for one in rows:
        headers.setdefault(one.series_instance_uid, {})[one.sop_instance_uid] = one.header
    known = sa.select(series).where(series.c.series_instance_uid.in_(uids))
    found = {row["series_instance_uid"]: row for row in connection.execute(known).mappings()}
    return [
        Held(
            Series(**dict(row) | {"state": SeriesState(row["state"]), "origin": Origin(row["origin"])}),
            headers.get(uid, {}),
        )
        for uid in uids
        if (row := found.get(uid)) is not None
    ]
