"""Only what is done with goes, oldest first, rows before files, and what comes again meanwhile is never lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import audit, catalog, jobs, promises, retention
from storage.database import Database
from storage.instance_files import Kept
from storage.jobs import Event, State
from storage.references import Reference
from storage.retention import Family
from tests.storage.builders_retention import KEEP, OLD, Store
from tests.storage.builders_storage import NOW, STUDY, instance


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Iterator[Store]:
    yield Store(database, tmp_path / "data")


def uids(families: Sequence[Family]) -> list[str]:
    return [family.series_instance_uid for family in families]


@pytest.mark.parametrize(
    "state", [State.WAITING, State.RUNNING, State.DERIVED, State.SENDING, State.FAILED, State.REFUSED]
)
def test_work_that_is_not_done_keeps_its_series_whatever_its_age(store: Store, state: State) -> None:
    store.receive("1.1")
    store.delivered("1.1", "b", derived="9.1")
    store.job(state, "1.1", "a")
    assert store.removable() == [] == store.removable(keep=None, make_room_bytes=1e15)


def test_a_delivered_series_goes_with_what_was_derived_from_it_and_the_audit_says_so(store: Store) -> None:
    received = store.receive("1.1")
    job = store.delivered("1.1", "a", derived="9.1")
    (family,) = store.removable()
    assert [one.series_instance_uid for one in family.members] == ["1.1", "9.1"] and family.instance_count == 6
    assert store.remover.remove(family, because="its time", now=NOW)
    assert store.listed() == [] and store.on_disk(received) == 0
    assert not list((store.folder / "instances").rglob("*.dcm")) and not list((store.folder / "removing").iterdir())
    with store.database.read() as connection:
        assert jobs.get_job(connection, job.id).state is State.DELIVERED
        rows = audit.entries(connection, series_instance_uid="1.1")
        of_derived = audit.entries(connection, series_instance_uid="9.1")
        assert audit.verify(connection) == len(audit.entries(connection))
    gone = [(row.series_instance_uid, row.details["instances"], row.job_id) for row in rows if row.event == "removed"]
    assert gone == [("1.1", 3, None), ("9.1", 3, job.id)]
    assert any(row.event == "derived" for row in of_derived), "the audit still knows what made the removed series"


def test_what_a_destination_has_not_committed_to_stays_whatever_its_age(store: Store) -> None:
    store.receive("1.1")
    job = store.delivered("1.1", "a", derived="9.1")
    assert uids(store.removable()) == ["1.1"]
    with store.database.begin() as connection:
        connection.execute(sa.text("UPDATE deliveries SET state = 'committing'"))
        assert retention.family_of(connection, "1.1") is None
        connection.execute(sa.text("UPDATE jobs SET state = 'sending' WHERE id = :id"), {"id": job.id})
    assert store.removable() == [] and store.removable(make_room_bytes=1e12) == []


def test_what_a_peer_was_told_that_we_keep_stays_unless_the_admin_says_otherwise(store: Store) -> None:
    received = store.receive("1.1")
    store.delivered("1.1", "a", derived="9.1")
    [planned] = store.removable()
    asked = [Reference(received[0].sop_class_uid, received[0].sop_instance_uid)]
    with store.database.begin() as connection:
        promises.open_promise(connection, "scanner", "2.25.1", asked, report_at=OLD, now=OLD)
    assert store.removable() == [] and store.removable(make_room_bytes=1e12) == []
    assert not store.remover.remove(planned, because="planned before it was asked for", now=NOW)
    with store.database.read() as connection:
        [(allowed, _)] = retention.plan_removals(
            connection, keep=KEEP, make_room_bytes=0, free_bytes=0, now=NOW, promised="remove"
        )
    assert store.remover.remove(allowed, because="the admin says so", now=NOW) and store.listed() == []


def test_a_series_that_no_rule_wanted_goes_after_its_days_and_never_to_make_room(store: Store) -> None:
    store.receive("1.1")
    assert uids(store.removable()) == ["1.1"]
    assert store.removable(keep=None, make_room_bytes=1e15) == []
    assert store.removable(keep=timedelta(days=101)) == []


def test_what_waits_further_down_a_chain_keeps_the_series_it_began_with(store: Store) -> None:
    store.receive("1.1")
    store.delivered("1.1", "a", derived="9.1")
    follower = store.job(State.WAITING, "9.1", "b")
    assert store.removable() == []
    with store.database.begin() as connection:
        jobs.move_job(connection, follower.id, Event.SUPERSEDE, expected=State.WAITING, now=OLD)
    assert [one.series_instance_uid for one in store.removable()[0].members] == ["1.1", "9.1"]


def test_an_open_series_and_one_of_the_last_days_stay(store: Store) -> None:
    store.receive("1.1", at=NOW - timedelta(days=29))
    store.receive("1.2")
    with store.database.begin() as connection:
        catalog.add_instances(connection, [instance(9, series="1.2", at=OLD)])
    assert store.removable() == []


def test_age_counts_from_the_last_thing_that_happened_to_the_family(store: Store) -> None:
    store.receive("1.1")
    job = store.delivered("1.1", "a", derived="9.1")
    with store.database.begin() as connection:
        connection.execute(
            sa.text("UPDATE jobs SET finished_at = :at WHERE id = :id"),
            {"at": (NOW - timedelta(days=2)).replace(tzinfo=None).isoformat(" "), "id": job.id},
        )
    assert store.removable() == []


def test_room_is_made_oldest_first_and_of_no_more_than_is_needed(store: Store) -> None:
    for number, age_days in (("1", 3), ("2", 5), ("3", 4)):
        store.receive(f"1.{number}", at=NOW - timedelta(days=age_days))
        store.delivered(f"1.{number}", number, derived=f"9.{number}")
    needed = 4 * 526_000  # a family has six instances of so many bytes
    assert uids(store.removable(keep=None, make_room_bytes=needed)) == ["1.2"]
    assert uids(store.removable(keep=None, make_room_bytes=3 * needed)) == ["1.2", "1.3"]
    assert store.removable(keep=None, make_room_bytes=needed, free=needed) == []


def test_room_is_not_made_of_what_changed_within_the_hour(store: Store) -> None:
    store.receive("1.1", at=NOW - timedelta(minutes=50))
    store.delivered("1.1", "a", derived="9.1")
    assert store.removable(keep=None, make_room_bytes=1e15) == []


def test_without_days_and_room_nothing_goes(store: Store) -> None:
    store.receive("1.1")
    store.delivered("1.1", "a", derived="9.1")
    assert store.removable(keep=None) == []


def test_a_series_that_is_wanted_again_after_it_was_planned_stays_whole(store: Store) -> None:
    received = store.receive("1.1")
    (family,) = store.removable()
    store.job(State.WAITING, "1.1", "a")
    assert not store.remover.remove(family, because="its time", now=NOW)
    assert store.listed() == ["1.1"] and store.on_disk(received) == 3
    assert not list((store.folder / "removing").iterdir())


def test_a_series_that_its_sender_sends_again_stays_whole(store: Store) -> None:
    """Else what was sent first would be gone and what comes next be taken for the whole series."""
    received = store.receive("1.1")
    (family,) = store.removable()
    first = received[0].sop_instance_uid
    assert store.files.keep_arrival(first, [first.encode() * 100]) is Kept.SAME
    assert not store.remover.remove(family, because="its time", now=datetime.now(UTC))
    assert store.listed() == ["1.1"] and store.on_disk(received) == 3


def test_the_study_of_a_removed_series_keeps_its_other_series(store: Store) -> None:
    store.receive("1.1")
    others = store.receive("1.2", at=NOW)
    (family,) = store.removable()
    store.remover.remove(family, because="its time", now=NOW)
    assert store.listed() == ["1.2"] and store.on_disk(others) == 3
    assert all(one.study_instance_uid == STUDY for one in others)


def test_files_in_quarantine_are_counted_without_their_notes(store: Store) -> None:
    assert store.files.quarantined() == 0
    store.files.keep_arrival("1.9.1", [b"no header"])
    store.files.quarantine(store.files.places_of("1.9.1")[1], "its header cannot be read")
    assert store.files.quarantined() == 1
