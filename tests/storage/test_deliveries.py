"""What deliveries promise: each destination on its own, only what is missing again, nothing dropped."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage import audit, deliveries, jobs, lanes
from storage.database import Database
from storage.deliveries import DeliveryState, LedgerState, Result
from storage.errors import IllegalTransition, StaleState
from storage.jobs import Event, Job, State
from tests.storage.builders_storage import NOW, job_in, later, made_uids, new_job, planned_job


def answer(connection: sa.Connection, job: Job, destination: str, state: LedgerState = LedgerState.DONE) -> None:
    """Every instance that waits is answered so, and the delivery finished."""
    waiting = deliveries.unsent(connection, job.id, destination)
    results = [Result(uid, state, 0 if state is LedgerState.DONE else 0xC000) for uid in waiting]
    deliveries.record_results(connection, job.id, destination, results, now=NOW)
    deliveries.finish_delivery(connection, job.id, destination, now=NOW)


def states(connection: sa.Connection, job: Job) -> dict[str, DeliveryState]:
    return {one.destination: one.state for one in deliveries.job_deliveries(connection, job.id)}


def test_planning_twice_is_harmless(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=("pacs", "archive"))
        before = deliveries.job_deliveries(connection, job.id)
        deliveries.plan_deliveries(connection, job.id, made_uids(job), now=later(1))
        assert deliveries.job_deliveries(connection, job.id) == before
        assert [one.destination for one in before] == ["archive", "pacs"]
        assert deliveries.unsent(connection, job.id, "archive") == made_uids(job)


def test_deliveries_cannot_be_planned_before_the_job_is_derived(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
        with pytest.raises(StaleState, match="running"):
            deliveries.plan_deliveries(connection, job.id, ["9.8.1"], now=NOW)


def test_a_job_without_destinations_is_delivered_at_once_and_says_so(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=())
        assert job.state is State.DELIVERED
        assert "names no destination" in job.reason


def test_a_job_is_delivered_when_the_last_destination_has_everything(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=("pacs", "archive"))
        jobs.move_job(connection, job.id, Event.CLAIM, expected=State.DERIVED, now=NOW)
        answer(connection, job, "pacs")
        assert jobs.get_job(connection, job.id).state is State.SENDING
        answer(connection, job, "archive")
        assert jobs.get_job(connection, job.id).state is State.DELIVERED
        told = [one.event for one in audit.entries(connection, job_id=job.id)]
        assert told[-3:] == ["delivery done", "delivery done", "job delivered"]


def test_a_delivery_with_an_unanswered_instance_cannot_be_finished(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, instances=3)
        results = [Result(uid, LedgerState.DONE, 0) for uid in made_uids(job)[:2]]
        deliveries.record_results(connection, job.id, "pacs", results, now=NOW)
        with pytest.raises(IllegalTransition, match="1 of 3 instances are unanswered"):
            deliveries.finish_delivery(connection, job.id, "pacs", now=NOW)
        assert states(connection, job) == {"pacs": DeliveryState.WAITING}


def test_finishing_twice_is_harmless(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        answer(connection, job, "pacs")
        told = audit.head(connection)
        assert deliveries.finish_delivery(connection, job.id, "pacs", now=later(9)) is DeliveryState.DONE
        assert audit.head(connection) == told


def test_a_warning_counts_as_delivered(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        answer(connection, job, "pacs", LedgerState.WARNING)
        assert jobs.get_job(connection, job.id).state is State.DELIVERED


def test_a_rejected_instance_fails_the_job_naming_destination_and_count_but_only_when_all_are_served(
    database: Database,
) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=("pacs", "archive"))
        uids = made_uids(job)
        deliveries.record_results(connection, job.id, "pacs", [Result(uids[1], LedgerState.REJECTED, 0xC000)], now=NOW)
        answer(connection, job, "pacs")
        assert states(connection, job)["pacs"] is DeliveryState.REJECTED
        assert jobs.get_job(connection, job.id).state is State.DERIVED
        answer(connection, job, "archive")
        failed = jobs.get_job(connection, job.id)
        assert (failed.state, failed.reason_code) == (State.FAILED, "delivery-rejected")
        assert failed.reason == "pacs rejected 1 of 3 instances"


def test_a_dead_destination_is_tried_later_and_holds_up_no_other(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=("pacs", "archive"))
        for attempt in (1, 2):
            put_off = deliveries.postpone(
                connection,
                job.id,
                "pacs",
                next_try_at=later(30 * attempt),
                reason="refused\0",
                now=later(attempt),
            )
            assert (put_off.attempts, put_off.first_try_at) == (attempt, later(1))
            assert (put_off.reason, put_off.over) == ("refused ", False)
        assert [one.destination for one in deliveries.due_deliveries(connection, later(59))] == ["archive"]
        assert [one.destination for one in deliveries.due_deliveries(connection, later(60))] == ["archive", "pacs"]
        archive, pacs = lanes.lane_states(connection)
        assert (pacs.waiting, pacs.failing_since, pacs.next_try_at) == (1, later(1), later(60))
        assert (pacs.reason, archive.waiting, archive.failing_since) == ("refused ", 1, None)
        answer(connection, job, "archive")
        assert [one.destination for one in lanes.lane_states(connection)] == ["pacs"]


def test_a_delivery_given_up_fails_its_job_with_the_reason(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        result = [Result(made_uids(job)[0], LedgerState.DONE, 0)]
        deliveries.record_results(connection, job.id, "pacs", result, now=NOW)
        deliveries.postpone(connection, job.id, "pacs", next_try_at=later(1), reason="no answer", now=NOW)
        deliveries.abandon_delivery(connection, job.id, "pacs", reason="no answer for 3 days", now=later(9))
        failed = jobs.get_job(connection, job.id)
        assert (failed.state, failed.reason_code) == (State.FAILED, "delivery-abandoned")
        assert failed.reason == "pacs did not take 2 of 3 instances in 1 tries: no answer for 3 days"
        with pytest.raises(StaleState, match="abandoned already"):
            deliveries.abandon_delivery(connection, job.id, "pacs", reason="again", now=later(10))
        with pytest.raises(StaleState, match="abandoned already"):
            deliveries.postpone(connection, job.id, "pacs", next_try_at=NOW, reason="again", now=NOW)
        (lane,) = lanes.lane_states(connection)
        assert (lane.waiting, lane.abandoned) == (0, 1)


def test_a_resend_sends_only_what_is_missing(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=("pacs", "archive", "third"))
        uids = made_uids(job)
        deliveries.record_results(connection, job.id, "pacs", [Result(uids[1], LedgerState.REJECTED, 0xC000)], now=NOW)
        answer(connection, job, "pacs")
        answer(connection, job, "archive")
        deliveries.abandon_delivery(connection, job.id, "third", reason="dead", now=NOW)
        deliveries.resend(connection, job.id, now=later(5))
        sent_again = jobs.move_job(connection, job.id, Event.RESEND, expected=State.FAILED, now=later(5))
        assert sent_again.round == 1
        assert {one.destination: one.round for one in deliveries.due_deliveries(connection, later(5))} == {
            "pacs": 1,
            "third": 1,
        }
        assert deliveries.unsent(connection, job.id, "pacs") == [uids[1]]
        assert deliveries.unsent(connection, job.id, "third") == uids
        answer(connection, job, "pacs")
        answer(connection, job, "third")
        assert jobs.get_job(connection, job.id).state is State.DELIVERED


def test_there_is_nothing_to_resend_where_everything_is_done(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        answer(connection, job, "pacs")
        with pytest.raises(IllegalTransition, match="nothing is left to send"):
            deliveries.resend(connection, job.id, now=NOW)


def test_a_job_derived_once_more_is_sent_again_only_where_it_was_not_taken(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, destinations=("pacs", "archive"))
        answer(connection, job, "archive")
        answer(connection, job, "pacs", LedgerState.REJECTED)
        moves = ((State.FAILED, Event.REQUEUE), (State.WAITING, Event.CLAIM), (State.RUNNING, Event.FINISH))
        for expected, event in moves:
            jobs.move_job(
                connection, job.id, event, expected=expected, derived_series_instance_uid=f"9.8.{job.id}", now=NOW
            )
        deliveries.plan_deliveries(connection, job.id, made_uids(job), now=NOW)
        assert [one.destination for one in deliveries.due_deliveries(connection, NOW)] == ["pacs"]
        assert deliveries.unsent(connection, job.id, "archive") == []


def test_a_superseded_job_that_had_been_sent_and_is_wanted_again_comes_to_its_end(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        jobs.supersede_jobs(connection, job.series_instance_uid, older_than_generation=2, now=NOW)
        assert deliveries.due_deliveries(connection, NOW) == []
        answer(connection, job, "pacs")  # the association that was open already
        assert jobs.get_job(connection, job.id).state is State.SUPERSEDED
        jobs.add_job(connection, new_job(generation=2))
        for expected, event in ((State.WAITING, Event.CLAIM), (State.RUNNING, Event.FINISH)):
            jobs.move_job(
                connection, job.id, event, expected=expected, derived_series_instance_uid=f"9.8.{job.id}", now=NOW
            )
        deliveries.plan_deliveries(connection, job.id, made_uids(job), now=NOW)
        assert jobs.get_job(connection, job.id).state is State.DELIVERED


def test_due_deliveries_come_by_priority_then_age(database: Database) -> None:
    with database.begin() as connection:
        for key, priority, at in (("low", 2, 0), ("second", 1, 5), ("first", 1, 4), ("stat", 0, 9)):
            planned_job(connection, key=key, priority=priority, created_at=later(at))
        due = deliveries.due_deliveries(connection, later(10))
        assert [jobs.get_job(connection, one.job_id).key for one in due] == ["stat", "first", "second", "low"]
        assert [one.priority for one in due] == [0, 1, 1, 2]


def test_an_unknown_delivery_is_said_to_be_unknown(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        with pytest.raises(LookupError, match="elsewhere"):
            deliveries.get_delivery(connection, job.id, "elsewhere")
