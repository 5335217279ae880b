"""Another try only where one makes sense, and only for what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicomnode.errors import NotRequeued
from dicomnode.requeue import requeue_job
from storage import deliveries, jobs, lanes
from storage.database import Database
from storage.jobs import Event, NewJob, State
from storage.ledger import LedgerState, Result

NOW = datetime.now(UTC)


def new_job(database: Database) -> int:
    with database.begin() as connection:
        new = NewJob("k", "1.2.3", "1.2", 1, "rule", "ct_denoising", "1", {}, ("1.2.3.4",), 1, ("pacs",), NOW)
        return jobs.add_job(connection, new)[0].id


def move(database: Database, job_id: int, *steps: tuple[State, Event]) -> None:
    with database.begin() as connection:
        for state, event in steps:
            jobs.move_job(connection, job_id, event, expected=state, derived_series_instance_uid="1.9", now=NOW)


def test_a_failed_or_refused_job_waits_again(database: Database) -> None:
    job_id = new_job(database)
    for ended in (Event.GIVE_UP, Event.REFUSE):
        move(database, job_id, (State.WAITING, ended))
        assert requeue_job(database, job_id).state is State.WAITING


def test_a_job_whose_delivery_failed_is_only_sent_again_where_it_is_missing(database: Database) -> None:
    job_id = new_job(database)
    move(database, job_id, (State.WAITING, Event.CLAIM), (State.RUNNING, Event.FINISH))
    with database.begin() as connection:
        deliveries.plan_deliveries(connection, job_id, ["1.9.1", "1.9.2"], now=NOW)
        answers = [Result("1.9.1", LedgerState.DONE, 0), Result("1.9.2", LedgerState.REJECTED, 0xC000)]
        deliveries.record_results(connection, job_id, "pacs", answers, now=NOW)
        deliveries.finish_delivery(connection, job_id, "pacs", now=NOW)
    assert requeue_job(database, job_id).state is State.DERIVED
    with database.read() as connection:
        assert deliveries.unsent(connection, job_id, "pacs") == ["1.9.2"]


def test_nobody_waits_for_the_next_probe_after_a_requeue(database: Database) -> None:
    job_id = new_job(database)
    move(database, job_id, (State.WAITING, Event.GIVE_UP))
    with database.begin() as connection:
        lanes.break_lane(connection, "pacs", reason="down", next_probe_at=NOW + timedelta(hours=1), now=NOW)
    requeue_job(database, job_id)
    with database.read() as connection:
        probe_at = lanes.get_lane(connection, "pacs").next_probe_at
    assert probe_at is not None and probe_at <= datetime.now(UTC)


def test_what_runs_or_waits_cannot_be_requeued(database: Database) -> None:
    job_id = new_job(database)
    with pytest.raises(NotRequeued, match="waiting"):
        requeue_job(database, job_id)


def test_a_job_that_is_not_there_is_said_to_be_so(database: Database) -> None:
    with pytest.raises(NotRequeued, match="no job 99"):
        requeue_job(database, 99)
