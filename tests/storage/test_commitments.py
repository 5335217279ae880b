"""Committed closes: what failed is sent again and only that, what was not reported is asked again, nothing is lost."""

from __future__ import annotations

from datetime import datetime

import pytest
import sqlalchemy as sa

from storage import audit, catalog, commitments, deliveries, jobs, lanes, ledger
from storage.database import Database
from storage.deliveries import DeliveryState, LedgerState, Result
from storage.errors import IllegalTransition
from storage.jobs import Event, Job, State
from storage.references import Reference, Report
from tests.storage.builders_storage import NOW, instance, later, made_uids, planned_job

CT = "1.2.840.10008.5.1.4.1.1.2"
REPORT_BY = later(900)


def sent_job(connection: sa.Connection, **more: object) -> Job:
    """A job whose destination has acknowledged every instance and is to commit to them."""
    job = planned_job(connection, **more)
    made = [instance(number, series="9.8", sop_instance_uid=uid) for number, uid in enumerate(made_uids(job))]
    catalog.add_derived_series(connection, "9.8", made)
    jobs.move_job(connection, job.id, Event.CLAIM, expected=State.DERIVED, now=NOW)
    send_again(connection, job, at=NOW)
    return jobs.get_job(connection, job.id)


def send_again(connection: sa.Connection, job: Job, *, at: datetime) -> list[str]:
    """What is missing is acknowledged, and the delivery waits for commitment; gives what was sent."""
    missing = deliveries.unsent(connection, job.id, "pacs")
    deliveries.record_results(connection, job.id, "pacs", [Result(uid, LedgerState.DONE, 0) for uid in missing], now=at)
    assert commitments.await_commitment(connection, job.id, "pacs", now=at) is DeliveryState.COMMITTING
    return missing


def ask(connection: sa.Connection, job: Job, transaction_uid: str = "2.25.1", *, at: datetime = NOW) -> list[str]:
    asked = commitments.open_transaction(
        connection, job.id, "pacs", transaction_uid=transaction_uid, report_by=REPORT_BY, now=at
    )
    return [one.sop_instance_uid for one in asked]


def report(
    connection: sa.Connection,
    committed: list[str],
    failed: dict[str, int] | None = None,
    *,
    transaction_uid: str = "2.25.1",
    peer: str = "pacs",
    sop_class_uid: str = CT,
    at: datetime = NOW,
) -> DeliveryState | None:
    said = Report(
        transaction_uid,
        tuple(Reference(sop_class_uid, uid) for uid in committed),
        tuple((Reference(CT, uid), why) for uid, why in (failed or {}).items()),
    )
    return commitments.settle_report(connection, said, peer=peer, retry_s=lambda attempts: 30.0, now=at)


def states(connection: sa.Connection, job: Job) -> tuple[State, DeliveryState]:
    return jobs.get_job(connection, job.id).state, deliveries.get_delivery(connection, job.id, "pacs").state


def told(connection: sa.Connection, job: Job, event: str) -> list[audit.Entry]:
    return [one for one in audit.entries(connection, job_id=job.id) if one.event == event]


def test_a_job_closes_only_when_every_instance_is_committed(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        assert states(connection, job) == (State.SENDING, DeliveryState.COMMITTING)
        assert ask(connection, job) == made_uids(job)
        assert not commitments.is_reported(connection, "2.25.1")
        assert report(connection, made_uids(job)) is DeliveryState.DONE
        assert commitments.is_reported(connection, "2.25.1")
        assert states(connection, job) == (State.DELIVERED, DeliveryState.DONE)
        assert set(ledger.ledger_states(connection, job.id, "pacs").values()) == {LedgerState.COMMITTED}
        [row] = told(connection, job, "commitment reported")
        assert row.details["committed"] == 3 and row.peer == "pacs"


def test_what_failed_is_sent_again_and_nothing_else_and_then_asked_for_alone(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        first, second, third = ask(connection, job)
        assert report(connection, [first, third], {second: 0x0112}, at=later(5)) is DeliveryState.WAITING
        delivery = deliveries.get_delivery(connection, job.id, "pacs")
        assert (delivery.next_try_at, delivery.attempts) == (later(35), 1)
        assert "1 of 3 instances (0x0112)" in delivery.reason
        assert told(connection, job, "commitment failed")[0].details["reasons"] == {second: "0x0112"}
        assert send_again(connection, job, at=later(40)) == [second]
        assert ask(connection, job, "2.25.2", at=later(41)) == [second]
        assert report(connection, [second], transaction_uid="2.25.2", at=later(42)) is DeliveryState.DONE


def test_what_no_sending_again_mends_is_rejected_and_fails_the_job_once_the_others_are_committed(
    database: Database,
) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        first, second, third = ask(connection, job)
        assert report(connection, [first, third], {second: 0x0122}) is DeliveryState.REJECTED
        failed = jobs.get_job(connection, job.id)
        assert (failed.state, failed.reason) == (State.FAILED, "pacs rejected 1 of 3 instances")


def test_a_report_that_is_silent_about_an_instance_commits_to_the_others_only_and_it_is_asked_again(
    database: Database,
) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        first, second, third = ask(connection, job)
        assert report(connection, [first, third], at=later(5)) is DeliveryState.COMMITTING
        delivery = deliveries.get_delivery(connection, job.id, "pacs")
        assert delivery.next_try_at == later(35) and "without a word on 1 of 3" in delivery.reason
        assert ask(connection, job, "2.25.2", at=later(36)) == [second]


def test_another_peer_another_transaction_or_another_sop_class_commits_to_nothing(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        assert report(connection, uids, peer="archive") is None
        assert report(connection, uids, transaction_uid="2.25.9") is None
        assert report(connection, uids, sop_class_uid="1.2.840.10008.5.1.4.1.1.4") is DeliveryState.COMMITTING
        assert report(connection, ["1.2.3.99"]) is DeliveryState.COMMITTING
        assert len(ledger.uncommitted(connection, job.id, "pacs")) == 3


def test_a_report_twice_and_a_late_one_are_harmless(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        ask(connection, job, "2.25.2", at=later(901))
        assert report(connection, uids, at=later(902)) is DeliveryState.DONE
        assert report(connection, uids, at=later(903)) is DeliveryState.DONE
        assert report(connection, [], {uids[0]: 0x0112}, transaction_uid="2.25.2", at=later(904)) is DeliveryState.DONE
        assert states(connection, job) == (State.DELIVERED, DeliveryState.DONE)


def test_a_late_commitment_does_not_count_for_what_was_sent_again_since(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        ask(connection, job, "2.25.2", at=later(901))
        report(connection, uids[1:], {uids[0]: 0x0112}, transaction_uid="2.25.2", at=later(902))
        send_again(connection, job, at=later(940))
        assert report(connection, uids, at=later(950)) is DeliveryState.COMMITTING
        assert ledger.uncommitted(connection, job.id, "pacs") == [uids[0]]


def test_an_instance_in_both_lists_has_failed(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        assert report(connection, uids, {uids[0]: 0x0110}) is DeliveryState.WAITING


def test_a_duplicate_transaction_is_asked_anew_without_sending(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        assert report(connection, [], dict.fromkeys(uids, 0x0131)) is DeliveryState.COMMITTING
        assert ask(connection, job, "2.25.2", at=later(31)) == uids


def test_a_delivery_is_due_when_its_report_is_and_given_up_with_what_was_not_committed(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        report(connection, uids[1:])
        ask(connection, job, "2.25.2", at=later(31))
        assert deliveries.due_deliveries(connection, later(899)) == []
        [due] = deliveries.due_deliveries(connection, REPORT_BY)
        commitments.tell_overdue(connection, due, now=REPORT_BY)
        assert told(connection, job, "commitment overdue")[0].details["transaction_uid"] == "2.25.2"
        deliveries.abandon_delivery(connection, job.id, "pacs", reason="no report", now=later(999))
        failed = jobs.get_job(connection, job.id)
        assert failed.reason == "pacs did not commit to 1 of 3 instances, asked 2 times: no report"
        assert report(connection, uids[:1], transaction_uid="2.25.2", at=later(1000)) is DeliveryState.ABANDONED
        jobs.move_job(connection, job.id, Event.RESEND, expected=State.FAILED, now=later(1001))
        deliveries.resend(connection, job.id, later(1001))
        assert commitments.await_commitment(connection, job.id, "pacs", now=later(1002)) is DeliveryState.DONE


def test_a_broken_lane_holds_the_request_and_asks_at_once_when_it_is_mended(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        ask(connection, job)
        lanes.break_lane(connection, "pacs", reason="gone", next_probe_at=later(60), now=later(30))
        assert deliveries.due_deliveries(connection, later(901)) == []
        assert lanes.lane_states(connection)[0].committing == 1
        assert lanes.overdue_jobs(connection, "pacs", tried_before=later(1)) == [job.id]
        assert lanes.mend_lane(connection, "pacs", because="back", now=later(70)) == 1
        assert [one.job_id for one in deliveries.due_deliveries(connection, later(70))] == [job.id]


def test_nothing_is_asked_before_everything_is_there_or_after_the_end(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        with pytest.raises(IllegalTransition, match="nothing is asked"):
            ask(connection, job)
        with pytest.raises(IllegalTransition, match="3 of 3 instances are unanswered"):
            commitments.await_commitment(connection, job.id, "pacs", now=NOW)


def test_a_request_is_forgotten_when_its_delivery_is_over_and_never_before(database: Database) -> None:
    with database.begin() as connection:
        job = sent_job(connection)
        uids = ask(connection, job)
        ask(connection, job, "2.25.2", at=later(900))
        assert commitments.forget_commitments(connection, asked_before=later(9000)) == 0, "a late report still counts"
        assert report(connection, uids, at=later(901)) is DeliveryState.DONE
        assert commitments.forget_commitments(connection, asked_before=later(900)) == 1
        assert report(connection, uids) is None
        assert report(connection, uids, transaction_uid="2.25.2") is DeliveryState.DONE
