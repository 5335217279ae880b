"""Copies are bounded, the least recently used goes first, and what somebody uses stays."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from storage.file_cache import Copy, FileCache

NAMES = [f"{number:02x}" + "0" * 62 for number in range(10)]


def cache(folder: Path, *, limit_bytes: int = 1000, in_use_s: float = 0.0) -> FileCache:
    return FileCache(folder / "cache", limit_bytes=limit_bytes, in_use_s=in_use_s)


def kept(files: FileCache) -> list[str]:
    return [name for name in NAMES if files.find(name) is not None]


def test_a_copy_is_found_under_its_name_with_its_mark_and_is_private(tmp_path: Path) -> None:
    files = cache(tmp_path)
    made = files.keep(NAMES[0], '"etag-1"', b"bytes")
    assert files.find(NAMES[0]) == made and made.mark == '"etag-1"'
    assert made.path.read_bytes() == b"bytes"
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700
    assert files.find(NAMES[1]) is None


def test_a_newer_copy_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    files = cache(tmp_path)
    old = files.keep(NAMES[0], "1", b"old")
    new = files.keep(NAMES[0], "2", b"new")
    assert files.find(NAMES[0]) == new and not old.path.exists()


@pytest.mark.parametrize("mark", [None, "", "m" * 65])
def test_a_copy_whose_mark_cannot_be_kept_is_never_trusted_again(tmp_path: Path, mark: str | None) -> None:
    assert cache(tmp_path).keep(NAMES[0], mark, b"bytes").mark == ""


def test_the_least_recently_used_goes_first_and_the_limit_holds(tmp_path: Path) -> None:
    files = cache(tmp_path)
    made = [files.keep(name, "m", bytes(200)) for name in NAMES[:4]]
    for number, copy in enumerate(made):
        os.utime(copy.path, (number, number))
    assert files.use(made[0])
    files.keep(NAMES[4], "m", bytes(200))
    assert kept(files) == [NAMES[0], NAMES[2], NAMES[3], NAMES[4]]
    assert files.size_bytes() <= 1000


def test_what_was_used_lately_stays_even_when_the_limit_is_exceeded(tmp_path: Path) -> None:
    files = cache(tmp_path, in_use_s=3600)
    for name in NAMES:
        files.keep(name, "m", bytes(300))
    assert kept(files) == NAMES
    for name in NAMES[:8]:  # an hour later
        found = files.find(name)
        assert found is not None
        os.utime(found.path, (time.time() - 3601,) * 2)
    files.keep(NAMES[0], "m", bytes(300))
    assert set(NAMES[8:]) <= set(kept(files)) and files.size_bytes() <= 1000


def test_a_file_that_is_being_read_is_read_to_its_end(tmp_path: Path) -> None:
    files = cache(tmp_path)
    with files.keep(NAMES[0], "m", b"bytes" * 100).path.open("rb") as reader:
        files.keep(NAMES[1], "m", bytes(900))
        assert files.find(NAMES[0]) is None
        assert reader.read() == b"bytes" * 100


def test_an_adopted_file_is_the_first_to_go_and_the_file_itself_stays(tmp_path: Path) -> None:
    files = cache(tmp_path, in_use_s=3600)
    arrival = tmp_path / "arrival.dcm"
    arrival.write_bytes(bytes(600))
    files.adopt(NAMES[0], "m", arrival)
    files.keep(NAMES[1], "m", bytes(600))
    assert kept(files) == [NAMES[1]] and arrival.exists()


def test_a_cache_on_a_disk_of_its_own_adopts_too(tmp_path: Path) -> None:
    second = Path("/dev/shm")
    if not second.is_dir() or second.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to put the cache on")
    arrival = tmp_path / "arrival.dcm"
    arrival.write_bytes(b"bytes")
    with tempfile.TemporaryDirectory(dir=second) as other:
        assert cache(Path(other)).adopt(NAMES[0], "m", arrival).path.read_bytes() == b"bytes"
    assert arrival.exists()


def test_a_copy_that_is_kept_again_while_another_removes_it_is_there_afterwards(tmp_path: Path) -> None:
    files = cache(tmp_path)
    old = files.keep(NAMES[0], "m", b"bytes").path
    with old.open("rb") as going, ThreadPoolExecutor(1) as threads:
        fcntl.flock(going, fcntl.LOCK_EX)  # as who removes it does
        again = threads.submit(files.keep, NAMES[0], "m", b"bytes")
        wait([again], timeout=0.3)
        old.unlink()
        fcntl.flock(going, fcntl.LOCK_UN)
        assert again.result(timeout=60).path.read_bytes() == b"bytes"


def test_a_copy_that_is_gone_cannot_be_used(tmp_path: Path) -> None:
    files = cache(tmp_path)
    copy = files.keep(NAMES[0], "m", b"bytes")
    files.drop(NAMES[0])
    assert not files.use(copy) and not files.use(Copy(tmp_path / "never", "m"))


def test_half_written_copies_of_the_dead_are_swept(tmp_path: Path) -> None:
    files = cache(tmp_path)
    part = tmp_path / "cache" / "dead.part"
    part.write_bytes(b"half")
    files.sweep_parts()
    assert part.exists()  # its writer may live
    os.utime(part, (1, 1))
    files.sweep_parts()
    assert not part.exists()
