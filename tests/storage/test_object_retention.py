"""What is done with leaves the store rows first, and what comes again meanwhile stays or is put anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from storage import catalog, jobs
from storage.database import Database
from storage.errors import ObjectUnfit, StoreAway
from storage.file_cache import FileCache
from storage.instance_files import InstanceFiles
from storage.jobs import Event, State
from storage.object_files import ObjectFiles
from storage.object_retention import ObjectRemover, open_remover
from storage.object_store import ObjectStore
from storage.retention import Remover
from tests.builders_store import S3Server
from tests.storage.builders_retention import OLD, Store
from tests.storage.builders_storage import NOW, instance, job_in


class RemoteStore(Store):
    """As Store, with the instances in a bucket."""

    def __init__(self, database: Database, folder: Path, s3_server: S3Server) -> None:
        self.database, self.folder = database, folder
        self.objects = ObjectFiles(
            folder,
            ObjectStore(s3_server.bucket()),
            FileCache(folder / "cache", limit_bytes=10**9, in_use_s=0),
        )
        self.files = self.objects
        self.remover = ObjectRemover(database, self.objects, folder)

    def is_there(self, sop_instance_uid: str) -> bool:
        try:
            return self.objects.path_of(sop_instance_uid).is_file()
        except ObjectUnfit:
            return False


@pytest.fixture
def store(database: Database, tmp_path: Path, s3_server: S3Server) -> Iterator[RemoteStore]:
    yield RemoteStore(database, tmp_path / "data", s3_server)


def test_a_family_leaves_catalogue_and_store_and_no_note_stays(store: RemoteStore) -> None:
    received = store.receive("1.1")
    store.delivered("1.1", "a", derived="2.1")
    kept = store.receive("1.2")
    for family in store.removable():
        if family.series_instance_uid == "1.1":
            assert store.remover.remove(family, because="test", now=NOW)
    assert store.listed() == ["1.2"]
    gone = [one.sop_instance_uid for one in received] + [f"2.1.{number}" for number in range(1, 4)]
    assert not any(store.is_there(uid) for uid in gone)
    assert all(store.is_there(one.sop_instance_uid) for one in kept)
    assert not list((store.folder / "removing").iterdir())


def test_a_store_that_is_away_leaves_the_note_and_the_removal_is_finished_later(
    store: RemoteStore, s3_server: S3Server
) -> None:
    received = store.receive("1.1")
    family = store.removable()[0]
    s3_server.stop()
    try:
        with pytest.raises(StoreAway):
            store.remover.remove(family, because="test", now=NOW)
    finally:
        s3_server.start()
    assert store.listed() == [] and all(store.is_there(one.sop_instance_uid) for one in received)
    assert store.remover.finish() == 1
    assert not any(store.is_there(one.sop_instance_uid) for one in received)
    assert store.remover.finish() == 0


def broken_off(store: RemoteStore, s3_server: S3Server) -> list[str]:
    """A received and a derived series whose rows are gone and whose objects are not: the UIDs of both."""
    uids = [one.sop_instance_uid for one in store.receive("1.1")]
    store.delivered("1.1", "a", derived="2.1")
    family = store.removable()[0]
    s3_server.stop()
    try:
        with pytest.raises(StoreAway):
            store.remover.remove(family, because="test", now=NOW)
    finally:
        s3_server.start()
    return [*uids, *(f"2.1.{number}" for number in range(1, 4))]


def test_what_came_again_and_is_listed_stays(store: RemoteStore, s3_server: S3Server) -> None:
    uids = broken_off(store, s3_server)
    again = instance(2, series="1.1", at=NOW)
    store.files.keep_arrival(again.sop_instance_uid, [again.sop_instance_uid.encode() * 100])
    with store.database.begin() as connection:
        catalog.add_instances(connection, [again])
    store.files.settle(again.sop_instance_uid)
    assert store.remover.finish() == 1
    assert [uid for uid in uids if store.is_there(uid)] == [again.sop_instance_uid]


def test_nothing_goes_while_a_job_of_the_family_makes_it_anew(store: RemoteStore, s3_server: S3Server) -> None:
    uids = broken_off(store, s3_server)
    with store.database.begin() as connection:
        job = job_in(connection, State.RUNNING, key="b" * 64, series_instance_uid="1.1")
    store.remover.finish()
    assert all(store.is_there(uid) for uid in uids)
    with store.database.begin() as connection:
        jobs.move_job(
            connection, job.id, Event.FINISH, expected=State.RUNNING, derived_series_instance_uid="2.1", now=NOW
        )
        made = [instance(number, series="2.1", at=NOW) for number in range(1, 4)]
        catalog.add_derived_series(connection, "2.1", made)
    with store.database.begin() as connection:
        jobs.move_job(connection, job.id, Event.SUPERSEDE, expected=State.DERIVED, now=NOW)
    store.remover.finish()
    assert [uid for uid in uids if store.is_there(uid)] == [one.sop_instance_uid for one in made]


def test_a_family_of_which_an_instance_arrived_just_now_stays(store: RemoteStore) -> None:
    received = store.receive("1.1")
    again = received[0].sop_instance_uid
    store.files.keep_arrival(again, [again.encode() * 100])
    os.utime(store.files.places_of(again)[1], (NOW.timestamp(), NOW.timestamp()))
    assert not store.remover.remove(store.removable()[0], because="test", now=NOW)
    assert store.remover.remove(store.removable()[0], because="test", now=NOW + timedelta(days=1))
    assert store.files.places_of(again)[1].exists() and OLD < NOW


def test_the_remover_is_the_one_for_where_the_instances_lie(store: RemoteStore, tmp_path: Path) -> None:
    assert isinstance(open_remover(store.database, store.objects, store.folder), ObjectRemover)
    local = open_remover(store.database, InstanceFiles(tmp_path / "local"), tmp_path / "local")
    assert type(local) is Remover
