"""The state machine: every legal move leads where it says, every other is refused, and every state can be left."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import audit, jobs
from storage.database import Database
from storage.errors import IllegalTransition
from storage.job_states import OVER, TRANSITIONS, Event, State
from tests.storage.builders_storage import NOW, job_in, new_job

LEGAL = sorted(TRANSITIONS)
ILLEGAL = sorted(set(itertools.product(State, Event)) - set(TRANSITIONS))


def test_every_legal_move_leads_where_the_table_says(database: Database) -> None:
    for state, event in LEGAL:
        with database.begin() as connection:
            job = job_in(connection, state, key=f"{state} {event}")
            moved = jobs.move_job(connection, job.id, event, expected=state, derived_series_instance_uid="9.8", now=NOW)
        assert moved.state is TRANSITIONS[state, event], (state, event)
        assert (moved.finished_at is not None) == (moved.state in OVER)


def test_every_other_move_is_refused_and_changes_nothing(database: Database) -> None:
    for state, event in ILLEGAL:
        with database.begin() as connection:
            job = job_in(connection, state, key=f"{state} {event}")
            told = len(audit.entries(connection, job_id=job.id))
            with pytest.raises(IllegalTransition, match=f"job {job.id}"):
                jobs.move_job(connection, job.id, event, expected=state, derived_series_instance_uid="9.8", now=NOW)
            assert jobs.get_job(connection, job.id) == job
            assert len(audit.entries(connection, job_id=job.id)) == told


def test_no_state_is_a_trap() -> None:
    for state in State:
        assert any(origin is state and target is not state for (origin, _), target in TRANSITIONS.items()), state


def test_what_waits_can_be_delivered_refused_failed_and_superseded() -> None:
    reached, frontier = {State.WAITING}, {State.WAITING}
    while frontier:
        frontier = {target for (origin, _), target in TRANSITIONS.items() if origin in frontier} - reached
        reached |= frontier
    assert reached == set(State)


def test_only_delivered_ends_a_good_job_and_it_is_reached_only_by_finish() -> None:
    ways = {key for key, target in TRANSITIONS.items() if target is State.DELIVERED}
    assert ways == {(State.DERIVED, Event.FINISH), (State.SENDING, Event.FINISH)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.sampled_from(Event), max_size=30))
def test_whatever_is_asked_in_whatever_order_the_job_follows_the_table(database: Database, events: list[Event]) -> None:
    with database.begin() as connection:
        job, _ = jobs.add_job(connection, new_job(f"{len(jobs.list_jobs(connection))}"))
        told = len(audit.entries(connection, job_id=job.id))
        for event in events:
            target = TRANSITIONS.get((job.state, event))
            try:
                moved = jobs.move_job(
                    connection, job.id, event, expected=job.state, derived_series_instance_uid="9.8", now=NOW
                )
            except IllegalTransition:
                assert target is None or (event is Event.RESEND and not job.derived_series_instance_uid)
                continue
            told += 1
            assert moved.state is target
            assert moved.attempts <= 30
            assert bool(moved.derived_series_instance_uid) >= (moved.state in (State.DERIVED, State.SENDING))
            job = moved
        assert len(audit.entries(connection, job_id=job.id)) == told
        assert audit.verify(connection) >= told
