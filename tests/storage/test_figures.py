"""What a monitor is told of the tables: the right counts, since the right moment, and no more than it asked for."""

from __future__ import annotations

from datetime import timedelta

from storage import audit, catalog, figures
from storage.database import Database
from storage.job_states import State
from tests.storage.builders_storage import NOW, SERIES, instance, job_in, later


def test_only_rows_after_a_number_and_of_the_events_asked_for_are_given_in_portions(database: Database) -> None:
    with database.begin() as connection:
        assert figures.last_seq(connection) == 0
        for number in range(5):
            audit.append(connection, "conflict", peer="scanner", details={"status": "0x0111", "instances": number})
            audit.append(connection, "config reloaded", details={"rules": 1, "instances": {"done": 1}})
    with database.read() as connection:
        assert figures.last_seq(connection) == 10
        found = figures.happened_since(connection, 2, ("conflict",), limit=3)
    assert [(one.seq, one.status, one.peer, one.instances) for one in found] == [
        (3, "0x0111", "scanner", 1),
        (5, "0x0111", "scanner", 2),
        (7, "0x0111", "scanner", 3),
    ]


def test_details_of_another_shape_are_counted_as_nothing(database: Database) -> None:
    with database.begin() as connection:
        audit.append(connection, "delivery done", peer="pacs", details={"instances": {"done": 3}})
    with database.read() as connection:
        (one,) = figures.happened_since(connection, 0, ("delivery done",), limit=10)
    assert (one.instances, one.status) == (0, "")


def test_the_moments_of_a_job_are_its_last_source_and_its_derivation(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(
            connection, [instance(1), instance(2, at=later(9)), instance(3), instance(4, at=later(60))]
        )
        job = job_in(connection, State.DERIVED)
        waiting = job_in(
            connection, State.WAITING, key="b" * 64, series_instance_uid="1.9", source_sop_instance_uids=()
        )
    with database.read() as connection:
        moments = figures.job_moments(connection, job.id)
        (row,) = (one for one in audit.entries(connection, job_id=job.id) if one.event == "job derived")
        unknown = figures.job_moments(connection, waiting.id)
    assert (moments.pipeline, moments.received_at, moments.derived_at) == (job.pipeline, later(9), row.at)
    assert (moments.routed_at, moments.started_at) == (job.created_at, job.started_at)
    assert job.series_instance_uid == SERIES and (unknown.received_at, unknown.derived_at) == (None, None)


def test_the_oldest_waiting_job_is_found_and_none_is_none(database: Database) -> None:
    with database.begin() as connection:
        assert figures.oldest_waiting(connection) is None
        job_in(connection, State.WAITING, key="a" * 64, created_at=NOW - timedelta(hours=2))
        job_in(connection, State.WAITING, key="b" * 64)
        job_in(connection, State.DELIVERED, key="c" * 64, created_at=NOW - timedelta(hours=9))
        assert figures.oldest_waiting(connection) == NOW - timedelta(hours=2)
