"""What the audit promises: no row is changed, lost or added unseen, and no patient is ever named."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from storage import audit
from storage.audit import append, entries, head, verify
from storage.database import Database
from storage.errors import AuditBroken
from storage.jobs import State
from storage.schema import audit as audit_rows
from tests.storage.builders_storage import SERIES, job_in


@pytest.fixture
def told(database: Database) -> Database:
    """A database whose audit has ten rows."""
    for number in range(10):
        with database.begin() as connection:
            append(connection, "test", series_instance_uid=f"1.{number % 2}", details={"number": number, "µ": [1.5]})
    return database


def tamper(database: Database, statement: str, **values: Any) -> None:
    """What somebody with every right on the database can do: the triggers first, then the rows."""
    with database.begin() as connection:
        on_table = " ON audit" if connection.dialect.name == "postgresql" else ""
        for trigger in ("audit_keeps_rows", "audit_loses_none", "audit_replaces_none"):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}{on_table}")
        connection.execute(sa.text(statement), values)


def check(database: Database, **noted: str) -> int:
    with database.read() as connection:
        return verify(connection, **noted)


def test_rows_come_back_in_order_and_the_chain_holds(told: Database) -> None:
    with told.read() as connection:
        found = entries(connection)
        assert [one.seq for one in found] == list(range(1, 11))
        assert [one.details["number"] for one in found] == list(range(10))
        assert [one.seq for one in entries(connection, limit=3)] == [8, 9, 10]
        assert [one.seq for one in entries(connection, series_instance_uid="1.1", limit=2)] == [8, 10]
        assert found[-1].hash == head(connection)
        assert all(one.at.utcoffset() is not None for one in found)
    assert check(told) == 10


def test_an_audit_without_rows_is_whole(database: Database) -> None:
    assert check(database) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET event = 'x' WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
    ],
)
def test_the_database_refuses_to_change_or_remove_rows(told: Database, statement: str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), told.begin() as connection:
        connection.exec_driver_sql(statement)
    assert check(told) == 10


def test_a_row_cannot_be_replaced_nor_all_rows_truncated(told: Database) -> None:
    sly = {
        "sqlite": "INSERT OR REPLACE INTO audit SELECT seq, at, 'x', series_instance_uid, job_id, peer, details, "
        "previous_hash, hash FROM audit WHERE seq = 3",
        "postgresql": "TRUNCATE audit",
    }[told.engine.dialect.name]
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), told.begin() as connection:
        connection.exec_driver_sql(sly)
    assert check(told) == 10


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET event = 'x' WHERE seq = 4", "row 4 was changed"),
        ("UPDATE audit SET details = '{}' WHERE seq = 10", "row 10 was changed"),
        ("UPDATE audit SET series_instance_uid = '1.7' WHERE seq = 1", "row 1 was changed"),
        ("UPDATE audit SET peer = 'x' WHERE seq = 6", "row 6 was changed"),
        ("UPDATE audit SET job_id = 5 WHERE seq = 7", "row 7 was changed"),
        ("UPDATE audit SET at = '2001-01-01 00:00:00.000000' WHERE seq = 2", "row 2 was changed"),
        ("UPDATE audit SET hash = 'aa' WHERE seq = 5", "row 5 was changed"),
        ("DELETE FROM audit WHERE seq = 5", "row 5 is missing"),
        ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE seq = 10", "row 10 is missing"),
        ("DELETE FROM audit", "row 1 is missing"),
        ("DELETE FROM audit_head", "head record is missing"),
        ("UPDATE audit_head SET seq = 9", "row 11 is missing"),
    ],
)
def test_the_first_broken_row_is_named(told: Database, statement: str, broken: str) -> None:
    tamper(told, statement)
    with pytest.raises(AuditBroken, match=broken):
        check(told)


def test_a_row_replaced_by_one_with_a_right_hash_breaks_the_next(told: Database) -> None:
    with told.read() as connection:
        row = dict(connection.execute(sa.select(audit_rows).where(audit_rows.c.seq == 4)).mappings().one()) | {
            "event": "x"
        }
    tamper(told, "UPDATE audit SET event = 'x', hash = :hash WHERE seq = 4", hash=audit.hash_of(row))
    with pytest.raises(AuditBroken, match="row 5 does not follow row 4"):
        check(told)


def test_a_removed_last_row_is_not_hidden_by_what_is_written_after_it(told: Database) -> None:
    tamper(told, "DELETE FROM audit WHERE seq = 10")
    with told.begin() as connection:
        append(connection, "after", details={})
    with pytest.raises(AuditBroken, match="row 10 is missing; the next one there is 11"):
        check(told)


def test_a_cut_tail_with_a_mended_head_is_found_by_a_hash_noted_elsewhere(told: Database) -> None:
    with told.read() as connection:
        noted, ninth = head(connection), entries(connection)[8].hash
    assert check(told, noted_head=noted) == check(told, noted_head=ninth) == 10
    tamper(told, "DELETE FROM audit WHERE seq = 10")
    tamper(told, "UPDATE audit_head SET seq = 9, hash = :hash", hash=ninth)
    assert check(told, noted_head=ninth) == 9
    with pytest.raises(AuditBroken, match="noted hash"):
        check(told, noted_head=noted)


def test_twenty_threads_keep_the_chain_whole_and_lose_no_row(database: Database) -> None:
    faults: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(5):
                with database.begin() as connection:
                    append(connection, "turn", details={"thread": number, "turn": turn})
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert faults == []
    assert check(database) == 100
    with database.read() as connection:
        written = {(one.details["thread"], one.details["turn"]) for one in entries(connection)}
    assert len(written) == 100


def test_writers_that_bypass_the_door_still_keep_the_chain_whole(database: Database) -> None:
    def write() -> None:
        for _ in range(5):
            with database.engine.begin() as connection:
                append(connection, "turn", details={})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert check(database) == 20


def test_what_is_rolled_back_was_never_told(told: Database) -> None:
    with pytest.raises(RuntimeError), told.begin() as connection:
        append(connection, "never", details={})
        raise RuntimeError("power cut")
    assert check(told) == 10


@pytest.mark.parametrize(
    "details",
    [
        {"PatientName": "x"},
        {"patient_id": "x"},
        {"Patient Birth Date": "x"},
        {"rules": [{"terms": {"OtherPatientIDs": "x"}}]},
        {"00100010": "x"},
        {"(0010,0020)": "x"},
    ],
)
def test_a_patient_is_never_named(database: Database, details: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="never names a patient"), database.begin() as connection:
        append(connection, "test", details=details)
    assert check(database) == 0


def test_details_that_are_no_json_are_refused(database: Database) -> None:
    for details in ({"value": float("nan")}, {"value": object()}):
        with pytest.raises((ValueError, TypeError)), database.begin() as connection:
            append(connection, "test", details=details)


def test_words_of_others_cannot_keep_an_event_out_of_the_audit(database: Database) -> None:
    with database.begin() as connection:
        append(connection, "refused", peer="EVIL\0AE\udcff", details={"title": "EVIL\0AE\udcff"})
        assert entries(connection)[0].peer == "EVIL AE?"
    assert check(database) == 1


def test_rows_about_a_series_include_those_of_the_jobs_that_read_or_made_it(database: Database) -> None:
    with database.begin() as connection:
        job = job_in(connection, State.DERIVED)
        append(connection, "derived", job_id=job.id, details={})
        append(connection, "series closed", series_instance_uid=SERIES, details={})
        append(connection, "other", series_instance_uid="1.9", details={})
        of_source = [one.event for one in entries(connection, series_instance_uid=SERIES)]
        of_derived = [one.event for one in entries(connection, series_instance_uid=job.derived_series_instance_uid)]
    assert of_source == ["job waiting", "job running", "job derived", "derived", "series closed"]
    assert of_derived == of_source[:-1]
