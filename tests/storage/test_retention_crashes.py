"""Whatever ends a removal, or comes between its steps: each series is whole or gone, nothing acknowledged is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage import audit, catalog, retention
from storage.catalog import Instance
from storage.database import Database
from storage.errors import StorageFull
from storage.instance_files import Kept
from storage.retention import Family, Remover
from tests.storage.builders_retention import Store
from tests.storage.builders_storage import NOW, later


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Iterator[Store]:
    yield Store(database, tmp_path / "data")


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
    kills, longest_s, here = 0, 0.15, set(store.listed())
    url = store.database.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", REMOVE_EVERYTHING, url, str(store.folder), NOW.isoformat()]
    while store.removable() and (kills < 12 or len(here) >= 60):
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"begin\n"
        time.sleep(chance.uniform(0.0, longest_s))
        process.kill()
        process.wait(30)
        process.stdout.close()
        kills += 1
        store.remover.finish()
        before, here = here, set(store.listed())
        longest_s *= 1.5 if here == before else 1.0  # a loaded machine comes no further in that time
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
