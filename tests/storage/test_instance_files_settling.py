"""Settling moves an arrival to its place once, whatever comes between: a crash, a duplicate, a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from storage import instance_files
from storage.errors import InstanceConflict, StorageFull
from storage.instance_files import InstanceFiles, Kept
from tests.storage.builders_files import UID, every_file, part10


@pytest.fixture
def files(tmp_path: Path) -> InstanceFiles:
    return InstanceFiles(tmp_path / "var")


def test_settling_moves_the_arrival_once_and_twice_is_harmless(files: InstanceFiles) -> None:
    files.keep_arrival(UID, [part10(b"data")])
    settled = files.settle(UID)
    name = hashlib.sha256(UID.encode()).hexdigest()
    assert settled.parts[-3:] == ("instances", name[:2], f"{name}.dcm")
    assert files.settle(UID) == settled == files.path_of(UID)
    assert files.arrivals() == []


def test_a_crash_between_link_and_unlink_is_mended_by_settling_again(files: InstanceFiles) -> None:
    files.keep_arrival(UID, [part10(b"data")])
    arrived = files.path_of(UID)
    settled = files.settle(UID)
    os.link(settled, arrived)
    assert files.settle(UID) == settled
    assert files.arrivals() == []


def test_many_are_settled_with_one_sync_of_each_folder_and_unlinked_only_then(
    files: InstanceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = [f"1.2.{number}" for number in range(400)]
    for uid in uids:
        files.places_of(uid)[1].write_bytes(part10(b"data"))
    synced: list[int] = []
    waiting, arrivals = len(uids), tmp_path / "var" / "arrivals"
    monkeypatch.setattr(instance_files, "sync_folder", lambda folder: synced.append(len(list(arrivals.iterdir()))))
    assert files.settle_all(uids) == {} and synced == []
    assert files.arrivals() == [] and files.untidy == waiting
    assert all(files.path_of(uid).parent.parent.name == "instances" for uid in uids)
    files.tidy()
    assert synced == [waiting] * len({files.path_of(uid).parent for uid in uids})
    assert files.untidy == 0 and list(arrivals.iterdir()) == []
    files.tidy()


def test_a_folder_that_cannot_be_synced_keeps_both_names_until_the_next_start(
    files: InstanceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path) -> None:
        raise OSError(errno.EIO, "input/output error")

    files.keep_arrival(UID, [part10(b"data")])
    with monkeypatch.context() as patch:
        patch.setattr(instance_files, "sync_folder", broken)
        files.settle_all([UID])
        with pytest.raises(OSError, match="input/output"):
            files.tidy()
    files.tidy()
    assert len(every_file(files, tmp_path)) == 2
    assert files.arrivals() == [], "it is in the catalogue and not looked at again in this run"
    again = InstanceFiles(tmp_path / "var")
    assert len(again.arrivals()) == 1
    again.settle(UID)
    assert len(every_file(again, tmp_path)) == 1


def test_a_duplicate_between_settling_and_tidying_is_the_same_or_a_conflict(
    files: InstanceFiles, tmp_path: Path
) -> None:
    files.keep_arrival(UID, [part10(b"data")])
    files.settle_all([UID])
    assert files.keep_arrival(UID, [part10(b"data", b"ANOTHER ")]) is Kept.SAME
    with pytest.raises(InstanceConflict):
        files.keep_arrival(UID, [part10(b"date")])
    files.tidy()
    assert len(every_file(files, tmp_path)) == 1
    assert files.path_of(UID).read_bytes() == part10(b"data")


def test_what_was_taken_away_before_tidying_keeps_the_name_it_came_back_under(
    files: InstanceFiles, tmp_path: Path
) -> None:
    files.keep_arrival(UID, [part10(b"data")])
    files.settle_all([UID])
    files.places_of(UID)[0].unlink()  # as retention does
    files.tidy()
    assert files.arrivals() == [files.places_of(UID)[1]]


def test_one_that_cannot_be_settled_does_not_hold_up_the_others(files: InstanceFiles, tmp_path: Path) -> None:
    for uid in (UID, "1.2.1", "1.2.2"):
        files.keep_arrival(uid, [part10(b"first")])
    files.settle(UID)
    files.places_of(UID)[1].write_bytes(part10(b"other"))
    faults = files.settle_all(["1.2.1", UID, "1.2.nowhere", "1.2.2"])
    assert {uid: type(fault) for uid, fault in faults.items()} == {
        UID: InstanceConflict,
        "1.2.nowhere": FileNotFoundError,
    }
    files.tidy()
    assert files.arrivals() == [] and len(list((tmp_path / "var" / "instances").rglob("*.dcm"))) == 3


def test_a_disk_that_takes_no_name_is_full_and_what_was_found_until_then_is_told(
    files: InstanceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(link: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    files.keep_arrival(UID, [part10(b"data")])
    monkeypatch.setattr(Path, "hardlink_to", full)
    with pytest.raises(StorageFull):
        files.settle_all([UID])
    monkeypatch.undo()
    assert files.arrivals() == [files.places_of(UID)[1]]
    monkeypatch.setattr(
        Path, "hardlink_to", lambda link, target: full(link, target) if target.exists() else os.link(target, link)
    )
    assert set(files.settle_all(["1.2.nowhere", UID])) == {"1.2.nowhere"}
    monkeypatch.undo()
    assert files.arrivals() == [files.places_of(UID)[1]]


def test_a_stray_arrival_with_other_bytes_goes_to_quarantine_and_the_first_copy_stays(
    files: InstanceFiles, tmp_path: Path
) -> None:
    files.keep_arrival(UID, [part10(b"first")])
    arrived = files.path_of(UID)
    files.settle(UID)
    arrived.write_bytes(part10(b"other"))  # as a power cut between link and comparison leaves it
    with pytest.raises(InstanceConflict):
        files.settle(UID)
    assert files.settle(UID).read_bytes() == part10(b"first")
    assert (tmp_path / "var" / "quarantine" / arrived.name).read_bytes() == part10(b"other")


def test_settling_what_never_arrived_says_so(files: InstanceFiles) -> None:
    with pytest.raises(FileNotFoundError):
        files.settle(UID)
    with pytest.raises(FileNotFoundError, match=UID):
        files.path_of(UID)


def test_many_senders_of_one_instance_and_a_settler_leave_exactly_one_copy(
    files: InstanceFiles, tmp_path: Path
) -> None:
    answers: list[Kept] = []
    begin = threading.Barrier(9)

    def send(number: int) -> None:
        begin.wait()
        answers.append(files.keep_arrival(UID, [part10(b"pixels" * 5000, b"SENDER%d " % number)]))

    def settle() -> None:
        begin.wait()
        while not files.arrivals():
            pass
        files.settle(UID)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    threads.append(threading.Thread(target=settle))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    files.settle(UID)
    assert sorted(answers) == [Kept.NEW] + [Kept.SAME] * 7
    assert len(every_file(files, tmp_path)) == 1
