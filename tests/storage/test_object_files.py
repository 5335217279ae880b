"""What instances in an object store promise: never lost between disk and store, first copy kept, never a stale copy."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from storage.errors import InstanceConflict, ObjectUnfit, StoreAway
from storage.file_cache import FileCache
from storage.instance_files import Kept, file_name
from storage.object_files import ObjectFiles, ObjectPassports
from storage.object_store import Bucket, ObjectStore
from tests.builders_store import S3Server, put_behind_its_back
from tests.storage.builders_files import part10

UID = "1.2.840.113619.2.55.3"
KILLED_AFTER_PUT = """
import json, os, signal, sys
from pathlib import Path
from storage.file_cache import FileCache
from storage.object_files import ObjectFiles
from storage.object_store import Bucket, ObjectStore

class Dying(ObjectStore):
    def create(self, key, content):
        answer = super().create(key, content)
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

folder = Path(sys.argv[1])
store = Dying(Bucket(**json.loads(sys.argv[2])))
ObjectFiles(folder, store, FileCache(folder / "cache", limit_bytes=10**9, in_use_s=0)).settle(sys.argv[3])
"""


def opened(folder: Path, bucket: Bucket, *, limit_bytes: int = 10**9) -> ObjectFiles:
    """The files of one machine."""
    return ObjectFiles(folder, ObjectStore(bucket), FileCache(folder / "cache", limit_bytes=limit_bytes, in_use_s=0))


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return s3_server.bucket()


@pytest.fixture
def here(tmp_path: Path, bucket: Bucket) -> ObjectFiles:
    return opened(tmp_path / "here", bucket)


@pytest.fixture
def there(tmp_path: Path, bucket: Bucket) -> ObjectFiles:
    """Another machine with the same bucket."""
    return opened(tmp_path / "there", bucket)


def test_what_settles_leaves_the_arrivals_and_is_read_on_another_machine(here: ObjectFiles, there: ObjectFiles) -> None:
    content = part10(os.urandom(300_001))
    assert here.keep_arrival(UID, [content]) is Kept.NEW
    assert here.settle(UID).read_bytes() == content
    assert here.arrivals() == []
    assert there.path_of(UID).read_bytes() == content
    assert here.settle(UID).read_bytes() == content  # twice is harmless


def test_several_are_fetched_at_once_in_their_order(here: ObjectFiles, there: ObjectFiles) -> None:
    uids = [f"1.2.3.{number}" for number in range(20)]
    for uid in uids:
        here.keep_derived(uid, part10(uid.encode()))
    assert [path.read_bytes() for path in there.paths_of(uids)] == [part10(uid.encode()) for uid in uids]


def test_what_a_job_reads_never_leaves_under_its_hands(here: ObjectFiles) -> None:
    here.keep_arrival(UID, [part10(b"data")])
    with pytest.raises(StoreAway, match=UID):  # an arrival goes as soon as it is in the store
        here.paths_of([UID])
    here.settle(UID)
    here.keep_arrival(UID, [part10(b"data")])
    (path,) = here.paths_of([UID])
    here.settle(UID)
    assert path.read_bytes() == part10(b"data") and here.arrivals() == []


def test_a_damaged_object_holds_up_no_other_and_its_arrival_stays(here: ObjectFiles, bucket: Bucket) -> None:
    uids = [f"1.2.{number}" for number in range(5)]
    for uid in uids:
        here.keep_arrival(uid, [part10(uid.encode())])
    here.settle_all(uids)
    here.remove(uids[:1])
    key = f"instances/{file_name(uids[0])[:2]}/{file_name(uids[0])}"
    put_behind_its_back(bucket, key, b"damaged", said=part10(uids[0].encode()))
    for uid in uids:
        here.keep_arrival(uid, [part10(uid.encode())])
    for uid in uids:  # one by one, then together: whichever is looked at first
        here.settle_all([uids[0], uid])
    assert [path.name for path in here.arrivals()] == [file_name(uids[0])]
    with pytest.raises(ObjectUnfit, match="other bytes"):
        here.paths_of(uids[:1])


def test_a_store_that_is_away_loses_nothing_and_reception_goes_on(
    here: ObjectFiles, there: ObjectFiles, s3_server: S3Server
) -> None:
    here.keep_arrival("1.1", [part10(b"one")])
    s3_server.stop()
    try:
        with pytest.raises(StoreAway):
            here.settle("1.1")
        assert here.keep_arrival("1.2", [part10(b"two")]) is Kept.NEW
        assert len(here.arrivals()) == 2
    finally:
        s3_server.start()
    for uid in ("1.1", "1.2"):
        here.settle(uid)
    assert here.arrivals() == []
    assert [there.path_of(uid).read_bytes() for uid in ("1.1", "1.2")] == [part10(b"one"), part10(b"two")]


def test_a_process_killed_between_store_and_disk_loses_nothing_and_doubles_nothing(
    tmp_path: Path, here: ObjectFiles, there: ObjectFiles, bucket: Bucket
) -> None:
    here.keep_arrival(UID, [part10(b"data")])
    words = [sys.executable, "-c", KILLED_AFTER_PUT, str(tmp_path / "here"), json.dumps(asdict(bucket)), UID]
    assert subprocess.run(words, cwd=Path(__file__).parents[2], timeout=60).returncode == -9
    assert len(here.arrivals()) == 1
    here.settle(UID)
    assert here.arrivals() == [] and here.quarantined() == 0
    assert there.path_of(UID).read_bytes() == part10(b"data")


def test_the_first_copy_is_kept_and_another_one_found_at_settling_lies_in_quarantine(
    here: ObjectFiles, there: ObjectFiles
) -> None:
    here.keep_arrival(UID, [part10(b"first")])
    here.settle(UID)
    there.keep_arrival(UID, [part10(b"other")])
    with pytest.raises(InstanceConflict, match=UID):
        there.settle(UID)
    assert there.arrivals() == [] and there.quarantined() == 1
    assert there.path_of(UID).read_bytes() == part10(b"first")


def test_many_settle_together_and_only_those_that_conflict_are_told(here: ObjectFiles, there: ObjectFiles) -> None:
    uids = [f"1.2.{number}" for number in range(20)]
    for uid in uids:
        here.keep_arrival(uid, [part10(uid.encode())])
        there.keep_arrival(uid, [part10(b"other" if uid in ("1.2.3", "1.2.7") else uid.encode())])
    assert here.settle_all(uids) == {}
    told = there.settle_all(uids)
    assert set(told) == {"1.2.3", "1.2.7"} and all(isinstance(one, InstanceConflict) for one in told.values())
    assert here.arrivals() == there.arrivals() == [] and there.quarantined() == 2


def test_other_content_is_refused_at_once_where_a_copy_is_at_hand(here: ObjectFiles) -> None:
    here.keep_arrival(UID, [part10(b"first")])
    here.settle(UID)
    with pytest.raises(InstanceConflict):
        here.keep_arrival(UID, [part10(b"other")])
    assert here.arrivals() == []


def test_the_same_data_set_again_is_harmless_whoever_sends_it(here: ObjectFiles) -> None:
    for sender in (b"SCANNER ", b"ARCHIVE "):
        here.keep_arrival(UID, [part10(b"data", sender)])
        here.settle(UID)
    assert here.arrivals() == [] and here.quarantined() == 0
    assert here.path_of(UID).read_bytes() == part10(b"data", b"SCANNER ")


def test_a_copy_of_what_was_removed_and_came_anew_is_never_used(here: ObjectFiles, there: ObjectFiles) -> None:
    here.keep_arrival(UID, [part10(b"old")])
    here.settle(UID)
    assert there.path_of(UID).read_bytes() == part10(b"old")
    here.remove([UID])
    with pytest.raises(ObjectUnfit, match="not in the object store"):
        there.path_of(UID)
    assert there.keep_arrival(UID, [part10(b"new")]) is Kept.NEW  # the old copy is no first copy any more
    there.settle(UID)
    assert here.path_of(UID).read_bytes() == there.path_of(UID).read_bytes() == part10(b"new")


def test_a_derived_instance_made_twice_is_one_object_and_other_bytes_conflict(
    here: ObjectFiles, there: ObjectFiles
) -> None:
    content = part10(b"derived")
    assert here.keep_derived("2.25.1", content) == hashlib.sha256(content).hexdigest()
    assert there.keep_derived("2.25.1", content) == hashlib.sha256(content).hexdigest()
    with pytest.raises(InstanceConflict):
        there.keep_derived("2.25.1", part10(b"something else"))
    before = here.places_of("2.25.2")[0]  # from before there was a store: the same is asked of it
    before.write_bytes(content)
    with pytest.raises(InstanceConflict):
        here.keep_derived("2.25.2", part10(b"something else"))
    assert here.keep_derived("2.25.2", content) == hashlib.sha256(content).hexdigest()
    assert here.path_of("2.25.1").read_bytes() == content


def test_the_cache_stays_within_its_limit_and_what_left_it_is_fetched_again(tmp_path: Path, bucket: Bucket) -> None:
    files = opened(tmp_path / "small", bucket, limit_bytes=3000)
    uids = [f"1.2.{number}" for number in range(10)]
    for uid in uids:
        files.keep_arrival(uid, [part10(bytes(700))])
        files.settle(uid)
    assert sum(path.stat().st_size for path in (tmp_path / "small" / "cache").rglob("*.dcm")) <= 3000
    assert all(path.read_bytes() == part10(bytes(700)) for path in (files.path_of(uid) for uid in uids))


@pytest.mark.parametrize("hostile", ["../../etc/cron.d/x", "/etc/passwd", "1.2\0.3", "9" * 5000, "..", "\udcff"])
def test_a_uid_is_never_a_path_nor_a_key(tmp_path: Path, here: ObjectFiles, there: ObjectFiles, hostile: str) -> None:
    here.keep_arrival(hostile, [part10(b"x")])
    here.settle(hostile)
    assert there.path_of(hostile).parent.parent == tmp_path / "there" / "cache"
    assert there.path_of(hostile).name.startswith(hashlib.sha256(hostile.encode("utf-8", "surrogatepass")).hexdigest())


def test_what_was_kept_before_there_was_a_store_is_read_where_it_lies_and_can_be_uploaded(
    tmp_path: Path, here: ObjectFiles, there: ObjectFiles
) -> None:
    name = file_name(UID)
    before = tmp_path / "here" / "instances" / name[:2] / name
    before.write_bytes(part10(b"old times"))
    assert here.path_of(UID) == before
    assert here.left_here() == [name]
    assert here.upload(name) and not here.upload(name)
    assert here.left_here() == [] and there.path_of(UID).read_bytes() == part10(b"old times")


def test_passports_are_read_on_another_machine_and_none_is_taken_for_another(bucket: Bucket) -> None:
    passports = ObjectPassports(ObjectStore(bucket))
    passports.keep("2.25.1", "ab", '{"a": 1}')
    passports.keep("2.25.1", "cd", '{"a": 2}')
    assert ObjectPassports(ObjectStore(bucket)).read("2.25.1", "ab") == '{"a": 1}'
    with pytest.raises(FileNotFoundError):
        passports.read("2.25.2", "ab")
