"""A lane breaks once, keeps what waits, probes seldom and seldomer, and lets everything go when it is mended."""

from __future__ import annotations

from storage import audit, deliveries, jobs, lanes
from storage.database import Database
from storage.job_states import State
from storage.ledger import LedgerState, Result
from tests.storage.builders_storage import NOW, later, made_uids, planned_job


def told(database: Database) -> list[str]:
    with database.read() as connection:
        return [one.event for one in audit.entries(connection) if one.event.startswith("lane")]


def test_a_lane_that_never_broke_is_whole(database: Database) -> None:
    with database.read() as connection:
        assert not lanes.get_lane(connection, "pacs").broken and lanes.all_lanes(connection) == {}
        assert lanes.lane_states(connection) == []


def test_a_broken_lane_lets_nothing_go_and_holds_up_no_other(database: Database) -> None:
    with database.begin() as connection:
        first = planned_job(connection, key="a" * 64, destinations=("pacs", "archive"))
        planned_job(connection, key="b" * 64)
        assert lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=later(30), now=NOW)
    with database.read() as connection:
        assert [(one.job_id, one.destination) for one in deliveries.due_deliveries(connection, later(99))] == [
            (first.id, "archive")
        ]
        archive, pacs = lanes.lane_states(connection)
        assert (archive.broken_since, archive.waiting) == (None, 1)
        assert (pacs.waiting, pacs.broken_since, pacs.failing_since) == (2, NOW, NOW)
        assert (pacs.next_try_at, pacs.reason) == (later(30), "no answer")
        assert {one.reason for one in deliveries.job_deliveries(connection, first.id)} == {"", "no answer"}


def test_a_break_and_a_mend_are_told_once_each_with_the_reason(database: Database) -> None:
    with database.begin() as connection:
        planned_job(connection)
        assert lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=later(30), now=NOW)
        assert not lanes.break_lane(connection, "pacs", reason="other words", next_probe_at=later(40), now=later(1))
        lanes.keep_broken(connection, "pacs", reason="still no answer", next_probe_at=later(90), now=later(30))
        assert lanes.mend_lane(connection, "pacs", because="it answered", now=later(90)) == 1
        assert lanes.mend_lane(connection, "pacs", because="it answered", now=later(91)) is None
    assert told(database) == ["lane broken", "lane mended"]
    with database.read() as connection:
        broken, mended = (one for one in audit.entries(connection) if one.event.startswith("lane"))
    assert broken.peer == mended.peer == "pacs" and broken.details["reason"] == "no answer"
    assert mended.details["reason"] == "still no answer" and mended.details["because"] == "it answered"
    assert mended.details["failures"] == 2 and mended.details["waiting"] == 1


def test_what_waited_is_due_at_once_when_the_lane_is_mended_in_its_old_order(database: Database) -> None:
    with database.begin() as connection:
        late = planned_job(connection, key="b" * 64, created_at=later(5))
        early = planned_job(connection, key="a" * 64, created_at=NOW)
        urgent = planned_job(connection, key="c" * 64, created_at=later(9), priority=0)
        deliveries.postpone(connection, early.id, "pacs", next_try_at=later(9999), reason="no answer", now=later(9))
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=later(30), now=later(10))
        lanes.mend_lane(connection, "pacs", because="it answered", now=later(40))
        due = deliveries.due_deliveries(connection, later(40))
        assert [one.job_id for one in due] == [urgent.id, early.id, late.id]
        assert {one.since for one in due} == {later(40)} and {one.reason for one in due} == {""}


def test_failures_are_counted_over_breaks_until_the_destination_answers_an_instance(database: Database) -> None:
    with database.begin() as connection:
        for number in range(3):
            lanes.break_lane(connection, "pacs", reason="refused", next_probe_at=later(number), now=later(number))
            lanes.mend_lane(connection, "pacs", because="it answered C-ECHO", now=later(number))
        assert (lanes.get_lane(connection, "pacs").breaks, lanes.get_lane(connection, "pacs").failures) == (3, 3)
        lanes.prove_lane(connection, "pacs")
        assert (lanes.get_lane(connection, "pacs").breaks, lanes.get_lane(connection, "pacs").failures) == (3, 0)


def test_an_answer_from_before_the_break_lets_no_probe_be_taken_for_one_that_was_made(database: Database) -> None:
    with database.begin() as connection:
        lanes.break_lane(connection, "pacs", reason="no further association", next_probe_at=NOW, now=NOW)
        seen = {lanes.get_lane(connection, "pacs").failures}
        for number in range(3):
            lanes.prove_lane(connection, "pacs")  # an association that was open before the break goes on
            lanes.keep_broken(connection, "pacs", reason="refused", next_probe_at=NOW, now=later(number))
            seen.add(lanes.get_lane(connection, "pacs").failures)
        assert len(seen) == 4


def test_a_failed_probe_changes_nothing_of_a_lane_that_was_mended_meanwhile(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=NOW, now=NOW)
        lanes.mend_lane(connection, "pacs", because="it answered", now=later(1))
        lanes.keep_broken(connection, "pacs", reason="no answer", next_probe_at=later(60), now=later(2))
        assert not lanes.get_lane(connection, "pacs").broken
        assert deliveries.get_delivery(connection, job.id, "pacs").reason == ""


def test_a_probe_is_asked_for_at_once_only_where_the_lane_is_broken(database: Database) -> None:
    with database.begin() as connection:
        for name in ("pacs", "archive", "third"):
            lanes.break_lane(connection, name, reason="no answer", next_probe_at=later(600), now=NOW)
        lanes.mend_lane(connection, "archive", because="it answered", now=later(1))
        assert lanes.probe_at_once(connection, ["pacs", "archive", "unknown"], later(5)) == ["pacs"]
        assert lanes.get_lane(connection, "pacs").next_probe_at == later(5)
        assert lanes.get_lane(connection, "third").next_probe_at == later(600)


def test_what_was_never_tried_waits_its_days_from_the_break_on_or_from_the_next_failed_probe(
    database: Database,
) -> None:
    with database.begin() as connection:
        before = planned_job(connection, key="a" * 64)
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=later(30), now=later(10))
        during = planned_job(connection, key="b" * 64)
        superseded = planned_job(connection, key="c" * 64, series_instance_uid="1.9")
        jobs.supersede_jobs(connection, "1.9", older_than_generation=2, now=later(11))
        lanes.keep_broken(connection, "pacs", reason="no answer", next_probe_at=later(90), now=later(30))
        assert lanes.overdue_jobs(connection, "pacs", tried_before=later(10)) == []
        assert lanes.overdue_jobs(connection, "pacs", tried_before=later(30)) == [before.id]
        assert lanes.overdue_jobs(connection, "pacs", tried_before=later(31)) == [before.id, during.id]
        assert jobs.get_job(connection, superseded.id).state is State.SUPERSEDED


def test_a_lane_tells_what_waits_since_when_it_fails_and_what_an_operator_must_look_at(database: Database) -> None:
    with database.begin() as connection:
        first = planned_job(connection, key="a" * 64)
        planned_job(connection, key="b" * 64)
        deliveries.postpone(connection, first.id, "pacs", next_try_at=later(30), reason="refused", now=NOW)
        rejected = planned_job(connection, key="c" * 64)
        answers = [Result(uid, LedgerState.REJECTED, 0xA900) for uid in made_uids(rejected)]
        deliveries.record_results(connection, rejected.id, "pacs", answers, now=NOW)
        deliveries.finish_delivery(connection, rejected.id, "pacs", now=NOW)
        abandoned = planned_job(connection, key="d" * 64, destinations=("archive",))
        deliveries.abandon_delivery(connection, abandoned.id, "archive", reason="three days", now=NOW)
    with database.read() as connection:
        archive, pacs = lanes.lane_states(connection)
    assert (pacs.destination, pacs.waiting, pacs.rejected, pacs.abandoned) == ("pacs", 2, 1, 0)
    assert pacs.failing_since == NOW
    assert (archive.destination, archive.waiting, archive.abandoned, archive.failing_since) == ("archive", 0, 1, None)
