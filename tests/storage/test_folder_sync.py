"""A shared fsync is a real one: it begins after the names were given, and its failure reaches everybody."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from storage.folder_sync import FolderSync, sync_folder


class Disk:
    """Counts the fsyncs of a folder, holds each until it is let go, and notes which names it saw at its beginning."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.go, self.begun = folder, threading.Semaphore(0), threading.Semaphore(0)
        self.saw: list[set[str]] = []
        self.fails = False
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        self.saw.append(set(os.listdir(descriptor)))
        self.begun.release()
        assert self.go.acquire(timeout=20)
        if self.fails:
            raise OSError(errno.EIO, "input/output error")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def name_and_sync(disk: Disk, shared: FolderSync, name: str, ended: dict[str, object]) -> threading.Thread:
    """A thread that makes a file, syncs, and notes how it ended; returned once it waits."""
    (disk.folder / name).touch()

    def run() -> None:
        try:
            shared.sync()
            ended[name] = None
        except OSError as fault:
            ended[name] = fault.errno

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_who_waits_at_the_same_time_shares_one_fsync_that_began_after_all_of_their_names(disk: Disk) -> None:
    shared, ended = FolderSync(disk.folder), dict[str, object]()
    first = name_and_sync(disk, shared, "first", ended)
    assert disk.begun.acquire(timeout=20)
    others = [name_and_sync(disk, shared, f"other {number}", ended) for number in range(8)]
    while shared._next.led is False:  # until one of them leads the next round
        pass
    for _ in range(10):
        disk.go.release()
    for thread in (first, *others):
        thread.join(20)
    assert set(ended) == {"first"} | {f"other {number}" for number in range(8)}
    assert not any(ended.values())
    assert 2 <= len(disk.saw) < 9
    assert disk.saw[0] == {"first"}
    assert disk.saw[-1] == set(ended)


def test_who_comes_while_an_fsync_runs_is_not_served_by_it(disk: Disk) -> None:
    shared, ended = FolderSync(disk.folder), dict[str, object]()
    first = name_and_sync(disk, shared, "first", ended)
    assert disk.begun.acquire(timeout=20)
    late = name_and_sync(disk, shared, "late", ended)
    disk.go.release()
    first.join(20)
    assert disk.begun.acquire(timeout=20)  # a second fsync, begun for the late one
    assert "late" not in ended
    disk.go.release()
    late.join(20)
    assert disk.saw[1] == {"first", "late"}


def test_a_failed_fsync_fails_everybody_who_shared_it_and_is_not_tried_again(disk: Disk) -> None:
    shared, ended = FolderSync(disk.folder), dict[str, object]()
    disk.fails = True
    threads = [name_and_sync(disk, shared, str(number), ended) for number in range(6)]
    for _ in threads:
        disk.go.release()
    for thread in threads:
        thread.join(20)
    assert set(ended.values()) == {errno.EIO}
    disk.fails = False
    disk.go.release()
    shared.sync()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "absent")
