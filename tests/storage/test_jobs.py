"""What jobs promise: the same work is the same job, one mover wins, every move is audited, nothing is forgotten."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage import audit, catalog, deliveries, jobs
from storage.database import Database
from storage.deliveries import LedgerState, Result
from storage.errors import IllegalTransition, StaleState
from storage.jobs import Event, State
from tests.storage.builders_storage import NOW, SERIES, instance, job_in, later, made_uids, new_job, planned_job

ROOT = Path(__file__).parents[2]


def test_a_new_job_waits_and_remembers_what_it_reads(database: Database) -> None:
    with database.begin() as connection:
        job, is_new = jobs.add_job(connection, new_job(destinations=("pacs", "archive", "pacs")))
        assert is_new
        assert (job.state, job.attempts, job.round, job.destinations) == (State.WAITING, 0, 0, ("pacs", "archive"))
        assert jobs.job_sources(connection, job.id) == (f"{SERIES}.2", f"{SERIES}.1", f"{SERIES}.3")
        text = "\n".join(f"{SERIES}.{number}" for number in (1, 2, 3))
        assert job.source_sop_instance_uids_sha256 == hashlib.sha256(text.encode()).hexdigest()
        assert [one.event for one in audit.entries(connection, job_id=job.id)] == ["job waiting"]
        assert jobs.get_job(connection, job.id) == job


def test_the_same_work_is_the_same_job_with_all_destinations_and_the_more_urgent_priority(database: Database) -> None:
    with database.begin() as connection:
        first, _ = jobs.add_job(connection, new_job(priority=1, destinations=("pacs",)))
        second, is_new = jobs.add_job(connection, new_job(priority=2, destinations=("archive", "pacs")))
        assert (second.id, is_new, second.priority) == (first.id, False, 1)
        assert second.destinations == ("pacs", "archive")
        assert jobs.add_job(connection, new_job(priority=0))[0].priority == 0
        told = len(audit.entries(connection, job_id=first.id))
        assert jobs.add_job(connection, new_job(priority=0))[0].state is State.WAITING
        assert len(audit.entries(connection, job_id=first.id)) == told


def test_a_destination_that_joins_a_derived_job_gets_every_instance_too(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        joined, _ = jobs.add_job(connection, new_job(destinations=("archive",)))
        assert joined.state is State.DERIVED
        assert deliveries.unsent(connection, job.id, "archive") == made_uids(job)
        assert [one.destination for one in deliveries.due_deliveries(connection, NOW)] == ["archive", "pacs"]


def test_a_destination_that_joins_a_delivered_job_is_still_served_and_only_it(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        results = [Result(uid, LedgerState.DONE, 0) for uid in made_uids(job)]
        deliveries.record_results(connection, job.id, "pacs", results, now=NOW)
        deliveries.finish_delivery(connection, job.id, "pacs", now=NOW)
        assert jobs.get_job(connection, job.id).state is State.DELIVERED
        joined, _ = jobs.add_job(connection, new_job(destinations=("archive",)))
        assert (joined.state, joined.round) == (State.DERIVED, 1)
        assert [one.destination for one in deliveries.due_deliveries(connection, NOW)] == ["archive"]


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUPERSEDED])
def test_asking_again_for_the_same_work_moves_no_job(database: Database, state: State) -> None:
    with database.begin() as connection:
        job = job_in(connection, state)
        assert jobs.add_job(connection, new_job())[0] == job


def test_superseded_work_that_a_newer_generation_asks_for_again_is_done(database: Database) -> None:
    with database.begin() as connection:
        job, _ = jobs.add_job(connection, new_job())
        jobs.supersede_jobs(connection, SERIES, older_than_generation=2, now=NOW)
        assert jobs.add_job(connection, new_job(generation=1))[0].state is State.SUPERSEDED
        revived, is_new = jobs.add_job(connection, new_job(generation=2))
        assert (revived.id, is_new, revived.state, revived.generation) == (job.id, False, State.WAITING, 2)
        assert (revived.superseded_by_generation, revived.round) == (None, 1)
        assert jobs.supersede_jobs(connection, SERIES, older_than_generation=2, now=NOW) == []


def test_superseding_moves_what_can_move_and_marks_what_was_delivered(database: Database) -> None:
    with database.begin() as connection:
        made = {state: job_in(connection, state, key=str(state)) for state in State}
        newer = job_in(connection, State.WAITING, key="newer", generation=2)
        other = job_in(connection, State.WAITING, key="other", series_instance_uid="1.9")
        wanted = job_in(connection, State.WAITING, key="wanted again")
        changed = jobs.supersede_jobs(
            connection, SERIES, older_than_generation=2, except_keys=["wanted again"], now=later(1)
        )
        after = {state: jobs.get_job(connection, job.id) for state, job in made.items()}
        stands = (State.DELIVERED, State.SENDING)  # half a series at a PACS is worse than an old one
        assert [after[state].state for state in stands] == list(stands)
        assert {job.state for state, job in after.items() if state not in stands} == {State.SUPERSEDED}
        assert {job.superseded_by_generation for state, job in after.items() if state is not State.SUPERSEDED} == {2}
        for untouched in (newer, other, wanted):
            assert jobs.get_job(connection, untouched.id) == untouched
        for job in changed:
            last = audit.entries(connection, job_id=job.id)[-1]
            assert last.event in ("job superseded", "job superseded, delivery stands")
            assert "generation 2" in last.details["reason"]


def test_what_follows_any_series_of_a_superseded_job_is_superseded_with_it(database: Database) -> None:
    with database.begin() as connection:
        first = planned_job(connection)
        sources = ["2.25.1", "2.25.2"]
        for uid, series in zip(made_uids(first), sources, strict=False):
            catalog.add_derived_series(connection, series, [instance(1, series=series, sop_instance_uid=uid)])
        followers = [
            jobs.add_job(connection, new_job(key=series, series_instance_uid=series))[0].id for series in sources
        ]
        other, _ = jobs.add_job(connection, new_job(key="other", series_instance_uid="1.9"))
        jobs.supersede_jobs(connection, SERIES, older_than_generation=2, now=NOW)
        assert {jobs.get_job(connection, one).state for one in followers} == {State.SUPERSEDED}
        assert jobs.get_job(connection, other.id).state is State.WAITING
        # Wanted again, in the generation of its source: the chain is done anew.
        revived, _ = jobs.add_job(connection, new_job(key="2.25.1", series_instance_uid="2.25.1", generation=2))
        assert revived.state is State.WAITING


def test_every_rule_that_asks_for_the_same_work_is_kept_with_the_job(database: Database) -> None:
    with database.begin() as connection:
        first, _ = jobs.add_job(connection, new_job(rule="heads"))
        joined, is_new = jobs.add_job(connection, new_job(rule="metal"))
        assert (joined.id, is_new, joined.rule, joined.rules) == (first.id, False, "heads", ("heads", "metal"))
        assert jobs.add_job(connection, new_job(rule="metal"))[0].rules == ("heads", "metal")
        assert audit.entries(connection, job_id=first.id)[-1].details["rule"] == "metal"


def test_how_a_series_is_to_be_treated_is_kept_with_the_job(database: Database) -> None:
    with database.begin() as connection:
        job, _ = jobs.add_job(connection, new_job(handling={"split_mixed": True}))
        assert jobs.get_job(connection, job.id).handling == {"split_mixed": True}
        assert audit.entries(connection, job_id=job.id)[0].details["handling"] == {"split_mixed": True}


def test_a_claim_counts_its_attempt_and_a_requeue_starts_a_new_round(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.WAITING)
        for attempt in (1, 2, 3):
            job = jobs.move_job(
                connection, job.id, Event.CLAIM, expected=job.state, worker="w1", deadline=later(60), now=later(attempt)
            )
            assert (job.attempts, job.worker, job.deadline, job.started_at) == (
                attempt,
                "w1",
                later(60),
                later(attempt),
            )
        job = jobs.move_job(
            connection,
            job.id,
            Event.GIVE_UP,
            expected=State.RUNNING,
            reason_code="crash",
            reason="thrice",
            now=later(9),
        )
        assert (job.reason_code, job.reason, job.finished_at, job.deadline) == ("crash", "thrice", later(9), None)
        job = jobs.move_job(connection, job.id, Event.REQUEUE, expected=State.FAILED, now=later(10))
        assert (job.attempts, job.round, job.reason, job.finished_at) == (0, 1, "", None)


def test_a_job_that_is_put_off_is_not_offered_before_its_time(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
        jobs.move_job(connection, job.id, Event.RETRY, expected=State.RUNNING, not_before=later(30), now=NOW)
        assert jobs.waiting_jobs(connection, later(29)) == []
        assert [one.id for one in jobs.waiting_jobs(connection, later(30))] == [job.id]


def test_the_most_urgent_waits_first_and_among_equals_the_oldest(database: Database) -> None:
    with database.begin() as connection:
        for key, priority, at in (("low", 2, 0), ("second", 1, 5), ("first", 1, 4), ("stat", 0, 9)):
            jobs.add_job(connection, new_job(key, priority=priority, created_at=later(at)))
        assert [job.key for job in jobs.waiting_jobs(connection, later(10))] == ["stat", "first", "second", "low"]


def test_a_derived_job_names_its_series(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
        with pytest.raises(IllegalTransition, match="needs a derived series"):
            jobs.move_job(connection, job.id, Event.FINISH, expected=State.RUNNING, now=NOW)
        job = jobs.move_job(
            connection, job.id, Event.FINISH, expected=State.RUNNING, derived_series_instance_uid="9.8", now=NOW
        )
        assert job.derived_series_instance_uid == "9.8"


def test_a_failed_job_without_a_derived_series_cannot_be_resent(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
        jobs.move_job(connection, job.id, Event.GIVE_UP, expected=State.RUNNING, now=NOW)
        with pytest.raises(IllegalTransition, match="needs a derived series"):
            jobs.move_job(connection, job.id, Event.RESEND, expected=State.FAILED, now=NOW)


def test_a_reason_with_bytes_no_database_takes_still_fails_its_job(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
        moved = jobs.move_job(
            connection, job.id, Event.GIVE_UP, expected=State.RUNNING, reason="bad\0 \udcff" + "x" * 9000, now=NOW
        )
        assert (moved.state, moved.reason[:6], len(moved.reason)) == (State.FAILED, "bad  ?", 2000)
        assert audit.verify(connection) > 0


def test_of_many_threads_that_move_one_job_exactly_one_wins(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
    answers: list[str] = []
    begin = threading.Barrier(8)

    def finish(number: int) -> None:
        begin.wait()
        try:
            with database.begin() as connection:
                jobs.move_job(
                    connection,
                    job.id,
                    Event.FINISH,
                    expected=State.RUNNING,
                    derived_series_instance_uid=f"9.{number}",
                    now=NOW,
                )
            answers.append(f"9.{number}")
        except StaleState:
            answers.append("stale")

    threads = [threading.Thread(target=finish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as connection:
        winner = jobs.get_job(connection, job.id).derived_series_instance_uid
        told = [one.event for one in audit.entries(connection, job_id=job.id)]
    assert sorted(answers) == sorted([winner, *["stale"] * 7])
    assert told.count("job derived") == 1


MOVER = """
import sys
from datetime import UTC, datetime
from storage import jobs
from storage.database import Database
from storage.errors import StaleState
from storage.jobs import Event, State

database = Database.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
won = 0
for job_id in range(1, 21):
    try:
        with database.begin() as connection:
            jobs.move_job(connection, job_id, Event.REFUSE, expected=State.RUNNING, now=datetime.now(UTC))
        won += 1
    except StaleState:
        pass
print(won)
"""


def test_of_two_processes_that_move_the_same_jobs_each_job_is_moved_by_one(database: Database) -> None:
    with database.begin() as connection:
        for number in range(20):
            job_in(connection, State.RUNNING, key=str(number))
    url = database.engine.url.render_as_string(hide_password=False)
    movers = [
        subprocess.Popen(
            [sys.executable, "-c", MOVER, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for mover in movers:
        assert mover.stdout is not None and mover.stdout.readline() == "ready\n"
    won = [int(mover.communicate("go\n", timeout=120)[0]) for mover in movers]
    assert sum(won) == 20
    with database.read() as connection:
        assert jobs.count_jobs_by_state(connection)[State.REFUSED] == 20
        told = [one.event for one in audit.entries(connection)]
        assert told.count("job refused") == 20
        assert audit.verify(connection) == len(told)


def test_a_move_that_is_rolled_back_leaves_neither_state_nor_audit(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.RUNNING)
        told = audit.head(connection)
    with pytest.raises(RuntimeError), database.begin() as connection:
        jobs.move_job(connection, job.id, Event.REFUSE, expected=State.RUNNING, now=NOW)
        raise RuntimeError("power cut")
    with database.read() as connection:
        assert jobs.get_job(connection, job.id) == job
        assert audit.head(connection) == told


def test_jobs_are_listed_newest_first_and_counted_by_state(database: Database) -> None:
    with database.begin() as connection:
        for number, state in enumerate((State.WAITING, State.RUNNING, State.RUNNING, State.FAILED)):
            job_in(connection, state, key=str(number), series_instance_uid=f"1.{number}")
        assert [job.key for job in jobs.list_jobs(connection)] == ["3", "2", "1", "0"]
        assert [job.key for job in jobs.list_jobs(connection, limit=2)] == ["3", "2"]
        assert [job.key for job in jobs.list_jobs(connection, states=[State.RUNNING])] == ["2", "1"]
        assert [job.key for job in jobs.list_jobs(connection, series_instance_uid="1.3")] == ["3"]
        assert [job.key for job in jobs.running_jobs(connection)] == ["1", "2"]
        counts = jobs.count_jobs_by_state(connection)
        assert (set(counts), counts[State.RUNNING], counts[State.DELIVERED]) == (set(State), 2, 0)


def test_an_unknown_job_is_said_to_be_unknown(database: Database) -> None:
    with database.begin() as connection:
        with pytest.raises(LookupError, match="no job 7"):
            jobs.get_job(connection, 7)
        with pytest.raises(LookupError, match="no job 7"):
            jobs.move_job(connection, 7, Event.CLAIM, expected=State.WAITING, now=NOW)
