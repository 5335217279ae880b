"""What the spool promises: every row waits until its receiver has it, in order, with what a message must say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage import audit, catalog
from storage.audit_spool import Lag, Waiting, cursor, lag, move_cursor, rows_after, uid_of
from storage.database import Database
from storage.errors import StaleState
from storage.job_states import State
from tests.storage.builders_storage import NOW, SERIES, STUDY, instance, job_in

HEADER = {"Modality": "CT", "PatientID": "47-11"}


def tell(database: Database, *events: str, **facts: str) -> None:
    for event in events:
        with database.begin() as connection:
            audit.append(connection, event, details={}, **facts)


def waiting(database: Database, seq: int = 0, **bounds: object) -> list[Waiting]:
    with database.read() as connection:
        return rows_after(connection, seq, **{"limit": 100, **bounds})  # type: ignore[arg-type]


def move(database: Database, expected: int, seq: int) -> None:
    with database.begin() as connection:
        move_cursor(connection, "syslog", expected=expected, seq=seq, now=NOW)


def test_rows_wait_in_order_until_the_cursor_is_past_them(database: Database) -> None:
    tell(database, "a", "b", "c")
    assert [one.entry.event for one in waiting(database, limit=2)] == ["a", "b"]
    move(database, 0, 2)
    with database.read() as connection:
        assert cursor(connection, "syslog") == 2
        assert cursor(connection, "another") == 0
    assert [one.entry.event for one in waiting(database, 2)] == ["c"]


def test_two_senders_never_move_the_cursor_over_each_other(database: Database) -> None:
    tell(database, "a", "b")
    move(database, 0, 1)
    for expected in (0, 2):
        with pytest.raises(StaleState, match="another node"):
            move(database, expected, 2)
    move(database, 1, 2)


def test_the_lag_counts_what_waits_and_knows_the_oldest(database: Database) -> None:
    with database.read() as connection:
        assert lag(connection, "syslog") == Lag(0, None)
    tell(database, "a", "b", "c")
    move(database, 0, 1)
    with database.read() as connection:
        behind = lag(connection, "syslog")
    assert behind == Lag(2, waiting(database)[1].entry.at)
    move(database, 1, 3)
    with database.read() as connection:
        assert lag(connection, "syslog") == Lag(0, None)


def test_a_row_knows_its_study_classes_and_patient_while_they_are_held(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(number, header=HEADER) for number in (1, 2)])
    tell(database, "series closed", series_instance_uid=SERIES)
    tell(database, "series closed", series_instance_uid="9.9.9")
    ours, unknown = waiting(database, with_patient=True)
    assert (ours.study_instance_uid, ours.patient_id) == (STUDY, "47-11")
    assert ours.sop_classes == {"1.2.840.10008.5.1.4.1.1.2": 2}
    assert (unknown.study_instance_uid, unknown.patient_id, unknown.sop_classes) == ("", "", {})
    assert [one.patient_id for one in waiting(database)] == ["", ""]


def test_a_job_remembers_the_study_of_what_is_no_longer_held_and_where_it_sends(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.DERIVED)
    found = waiting(database)
    assert {one.study_instance_uid for one in found} == {STUDY}
    assert {one.destinations for one in found} == {("pacs",)}
    with database.begin() as connection:
        details = {"derived_series_instance_uid": job.derived_series_instance_uid}
        audit.append(connection, "derived", series_instance_uid=SERIES, job_id=job.id, details=details)
    derived = waiting(database)[-1]
    assert uid_of(derived.entry) == job.derived_series_instance_uid
    assert derived.study_instance_uid == STUDY


def test_rows_of_a_time_are_those_written_from_its_begin_and_before_its_end(database: Database) -> None:
    tell(database, "a", "b", "c")
    moments = [one.entry.at for one in waiting(database)]
    assert [one.entry.event for one in waiting(database, begin=moments[1])] == ["b", "c"]
    assert [one.entry.event for one in waiting(database, begin=moments[0], end=moments[2])] == ["a", "b"]
    assert waiting(database, begin=datetime.now(UTC) + timedelta(hours=1)) == []
