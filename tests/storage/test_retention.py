"""Only what is done with goes, oldest first, rows before files, and what comes again meanwhile is never lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import audit, catalog, deliveries, jobs, promises, retention
from storage.catalog import Instance
from storage.database import Database
from storage.errors import StorageFull
from storage.instance_files import InstanceFiles, Kept
from storage.jobs import Event, Job, State
from storage.references import Reference
from storage.retention import Family, Remover
from tests.storage.builders_storage import NOW, STUDY, instance, job_in, later

DAY = 86400.0
OLD = NOW - timedelta(days=100)
KEEP = timedelta(days=30)


class Store:
    """A database and files beside it; every instance's file is a day's work old unless said otherwise."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder, self.files = database, folder, InstanceFiles(folder)
        self.remover = Remover(database, self.files, folder)

    def receive(self, series: str, *, count: int = 3, at: datetime = OLD) -> list[Instance]:
        """A received series, whole, in catalogue and on disk."""
        made = [instance(number, series=series, at=at) for number in range(1, count + 1)]
        for one in made:
            self.files.keep_arrival(one.sop_instance_uid, [one.sop_instance_uid.encode() * 100])
        with self.database.begin() as connection:
            catalog.add_instances(connection, made)
            grown = catalog.get_series(connection, series)
            catalog.close_series(
                connection,
                series,
                generation=grown.generation,
                instance_count=grown.instance_count,
                because="all here",
                now=at,
            )
        for one in made:
            os.utime(self.files.settle(one.sop_instance_uid), (at.timestamp(), at.timestamp()))
        return made

    def job(self, state: State, series: str, key: str) -> Job:
        """A job on the series that has come to the state."""
        with self.database.begin() as connection:
            sources = tuple(catalog.instance_uids(connection, series))
            return job_in(connection, state, key=key * 64, series_instance_uid=series, source_sop_instance_uids=sources)

    def delivered(self, series: str, key: str, *, derived: str) -> Job:
        """A delivered job on the series that made another."""
        job = self.job(State.RUNNING, series, key)
        made = [instance(number, series=derived, at=OLD) for number in range(1, 4)]
        for one in made:
            self.files.keep_derived(one.sop_instance_uid, one.sop_instance_uid.encode() * 100)
            os.utime(self.files.path_of(one.sop_instance_uid), (OLD.timestamp(), OLD.timestamp()))
        uids = [one.sop_instance_uid for one in made]
        with self.database.begin() as connection:
            jobs.move_job(
                connection,
                job.id,
                Event.FINISH,
                expected=State.RUNNING,
                derived_series_instance_uid=derived,
                now=OLD,
            )
            catalog.add_derived_series(connection, derived, made)
            details = {"derived_series_instance_uid": derived, "beside": {}}
            audit.append(connection, "derived", series_instance_uid=series, job_id=job.id, details=details)
            deliveries.plan_deliveries(connection, job.id, uids, now=OLD)
            done = [deliveries.Result(uid, deliveries.LedgerState.DONE, 0) for uid in uids]
            deliveries.record_results(connection, job.id, "pacs", done, now=OLD)
            deliveries.finish_delivery(connection, job.id, "pacs", now=OLD)
            return jobs.get_job(connection, job.id)

    def removable(self, *, keep: timedelta | None = KEEP, make_room_bytes: float = 0, free: int = 0) -> list[Family]:
        """What would go now."""
        with self.database.read() as connection:
            planned = retention.plan_removals(
                connection, keep=keep, make_room_bytes=make_room_bytes, free_bytes=free, now=NOW
            )
            return [family for family, _ in planned]

    def listed(self) -> list[str]:
        with self.database.read() as connection:
            return [one.series_instance_uid for one in catalog.list_series(connection)]

    def on_disk(self, instances: Sequence[Instance]) -> int:
        """How many of the instances have a file."""
        return sum(any(place.exists() for place in self.files.places_of(one.sop_instance_uid)) for one in instances)


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


def crash_between_rows_and_files(store: Store, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends in the moment after the commit."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.remover, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            store.remover.remove(family, because="its time", now=NOW)


def test_files_that_a_crash_left_behind_are_removed_at_the_next_sweep(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = store.receive("1.1")
    crash_between_rows_and_files(store, store.removable()[0], monkeypatch)
    assert store.listed() == [] and store.on_disk(received) == 3
    assert Remover(store.database, store.files, store.folder).finish() == 1
    assert store.on_disk(received) == 0 and not list((store.folder / "removing").iterdir())


def test_an_instance_acknowledged_again_between_rows_and_files_is_an_arrival_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = store.receive("1.1")
    crash_between_rows_and_files(store, store.removable()[0], monkeypatch)
    again = received[1].sop_instance_uid
    assert store.files.keep_arrival(again, [again.encode() * 100]) is Kept.SAME
    store.remover.finish()
    assert [path.name for path in store.files.arrivals()] == [store.files.places_of(again)[1].name]
    assert store.on_disk(received) == 1 and not list((store.folder / "removing").iterdir())


def test_a_note_of_what_was_never_removed_removes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    received = store.receive("1.1")
    (family,) = store.removable()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_forget", killed)
        with pytest.raises(KeyboardInterrupt):
            store.remover.remove(family, because="its time", now=NOW)
    assert store.remover.finish() == 1
    assert store.listed() == ["1.1"] and store.on_disk(received) == 3


def test_a_file_moved_aside_by_a_crash_and_listed_anew_since_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = store.receive("1.1")
    crash_between_rows_and_files(store, store.removable()[0], monkeypatch)
    settled = store.files.places_of(received[0].sop_instance_uid)[0]
    settled.rename(store.folder / "removing" / settled.name)
    store.receive("1.1", count=1, at=later(0))
    store.remover.finish()
    assert store.on_disk(received) == 1 and not list((store.folder / "removing").iterdir())


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


def test_an_instance_that_is_looked_for_while_it_is_taken_away_is_asked_for_again_not_lost(store: Store) -> None:
    """The receiver saw the first copy, and it is gone when the receiver opens it: its sender hears of no success."""
    (one, *_) = store.receive("1.1")
    settled = store.files.places_of(one.sop_instance_uid)[0]
    with pytest.raises(StorageFull, match="send it again"):
        store.files._compare(one.sop_instance_uid, _vanishing(store, settled))


def _vanishing(store: Store, settled: Path) -> Path:
    """What has just arrived, while the first copy goes."""
    part = store.folder / "part"
    part.write_bytes(settled.read_bytes())
    settled.rename(store.folder / "removing" / settled.name)
    return part


def test_whatever_was_acknowledged_while_series_were_removed_is_still_here(store: Store) -> None:
    """A sender repeats itself in the very moment in which its series goes: many such moments."""
    families = [f"1.{number}" for number in range(40)]
    received = {series: store.receive(series, count=4) for series in families}
    acknowledged: list[Instance] = []
    refused: list[Instance] = []
    begin = threading.Barrier(3)

    def repeat(share: Sequence[str]) -> None:
        begin.wait(30)
        for series in share:
            for one in received[series]:
                try:
                    store.files.keep_arrival(one.sop_instance_uid, [one.sop_instance_uid.encode() * 100])
                    acknowledged.append(one)
                except StorageFull:
                    refused.append(one)

    senders = [threading.Thread(target=repeat, args=(families[half::2],)) for half in (0, 1)]
    for sender in senders:
        sender.start()
    planned = store.removable()
    begin.wait(30)
    removed = sum(store.remover.remove(family, because="its time", now=datetime.now(UTC)) for family in planned)
    for sender in senders:
        sender.join(60)
    assert len(acknowledged) + len(refused) == 160 and removed + len(store.listed()) == 40
    assert store.on_disk(acknowledged) == len(acknowledged)
    with store.database.read() as connection:
        known = catalog.known_instances(connection, [one.sop_instance_uid for one in acknowledged])
    waiting = {path.name for path in store.files.arrivals()}
    for one in acknowledged:
        assert one.sop_instance_uid in known or store.files.places_of(one.sop_instance_uid)[1].name in waiting


REMOVE_EVERYTHING = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.references import Reference
from storage.retention import Remover, plan_removals
database, folder = Database.open(sys.argv[1]), Path(sys.argv[2])
remover = Remover(database, InstanceFiles(folder), folder)
now = datetime.fromisoformat(sys.argv[3])
with database.read() as connection:
    planned = list(plan_removals(connection, keep=timedelta(days=30), make_room_bytes=0, free_bytes=0, now=now))
print("begin", flush=True)
for family, because in planned:
    remover.remove(family, because=because, now=now)
"""


def test_a_kill_at_any_moment_leaves_each_series_whole_or_gone(store: Store) -> None:
    received = {f"1.{number}": store.receive(f"1.{number}", count=4) for number in range(60)}
    for number in range(20):
        store.delivered(f"1.{number}", f"{number:x}", derived=f"9.{number}")
    chance = random.Random(20240506)
    kills = 0
    url = store.database.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", REMOVE_EVERYTHING, url, str(store.folder), NOW.isoformat()]
    while store.removable() and kills < 12:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"begin\n"
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        process.wait(30)
        process.stdout.close()
        kills += 1
        store.remover.finish()
        here = set(store.listed())
        for series, instances in received.items():
            assert store.on_disk(instances) == (4 if series in here else 0), series
        for number in range(20):
            assert (f"9.{number}" in here) == (f"1.{number}" in here)
        assert not list((store.folder / "removing").iterdir())
    assert kills > 1 and len(here) < 60
    with store.database.read() as connection:
        gone = [row for row in audit.entries(connection) if row.event == "removed"]
        assert audit.verify(connection) > 0
    assert len(gone) == 80 - len(here) and len({row.series_instance_uid for row in gone}) == len(gone)
