"""What the folders of instances promise: whole or not there, first copy kept, a UID is never a path."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import instance_files
from storage.errors import InstanceConflict, StorageFull
from storage.instance_files import InstanceFiles, Kept
from tests.storage.builders_files import UID, every_file, part10

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> InstanceFiles:
    return InstanceFiles(tmp_path / "var")


def test_an_arrival_is_kept_byte_for_byte_and_leaves_no_part(files: InstanceFiles, tmp_path: Path) -> None:
    content = part10(os.urandom(300_001))
    assert files.keep_arrival(UID, [content[:1000], memoryview(content)[1000:], b""]) is Kept.NEW
    assert every_file(files, tmp_path) == [f"arrivals/{hashlib.sha256(UID.encode()).hexdigest()}.dcm"]
    assert files.path_of(UID).read_bytes() == content
    assert files.arrivals() == [files.path_of(UID)]


def test_files_and_folders_are_private(files: InstanceFiles, tmp_path: Path) -> None:
    files.keep_arrival(UID, [part10(b"data")])
    files.keep_derived("2.25.1", part10(b"derived"))
    files.quarantine(files.path_of(UID), "because")
    for path in (tmp_path / "var").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("hostile", ["../../etc/cron.d/x", "/etc/passwd", "1.2\0.3", "9" * 5000, "..", "\udcff"])
def test_a_uid_is_never_a_path(files: InstanceFiles, tmp_path: Path, hostile: str) -> None:
    files.keep_arrival(hostile, [b"x"])
    settled = files.settle(hostile)
    assert settled.parent.parent == tmp_path / "var" / "instances"
    assert len(every_file(files, tmp_path)) == 1


def test_an_instance_without_a_uid_is_refused(files: InstanceFiles) -> None:
    with pytest.raises(ValueError, match="without a SOP Instance UID"):
        files.keep_arrival("", [b"x"])


def test_the_same_data_set_from_another_sender_is_the_same_instance(files: InstanceFiles, tmp_path: Path) -> None:
    files.keep_arrival(UID, [part10(b"pixels", b"SCANNER ")])
    assert files.keep_arrival(UID, [part10(b"pixels", b"A WORKSTATION ")]) is Kept.SAME
    files.settle(UID)
    assert files.keep_arrival(UID, [part10(b"pixels", b"THIRD ")]) is Kept.SAME
    assert files.path_of(UID).read_bytes() == part10(b"pixels", b"SCANNER ")
    assert len(every_file(files, tmp_path)) == 1


@pytest.mark.parametrize("settled", [False, True], ids=["just arrived", "settled"])
@pytest.mark.parametrize("other", [part10(b"pixelS"), part10(b"pixels!"), part10(b""), b"no part 10"])
def test_other_bytes_under_a_known_uid_conflict_and_the_first_copy_stays(
    files: InstanceFiles, tmp_path: Path, other: bytes, settled: bool
) -> None:
    files.keep_arrival(UID, [part10(b"pixels")])
    if settled:
        files.settle(UID)
    with pytest.raises(InstanceConflict, match=UID):
        files.keep_arrival(UID, [other])
    assert files.path_of(UID).read_bytes() == part10(b"pixels")
    assert len(every_file(files, tmp_path)) == 1


def test_a_file_meta_that_lies_about_its_length_is_compared_whole(files: InstanceFiles) -> None:
    lying = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + b"\xff\xff\xff\xff"
    files.keep_arrival(UID, [lying + b"one"])
    with pytest.raises(InstanceConflict):
        files.keep_arrival(UID, [lying + b"two"])


def test_a_sender_that_breaks_off_leaves_nothing(files: InstanceFiles, tmp_path: Path) -> None:
    def broken_off() -> Iterator[bytes]:
        yield b"half an "
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        files.keep_arrival(UID, broken_off())
    assert every_file(files, tmp_path) == []


def test_an_arrival_written_piece_by_piece_is_kept_or_gone(files: InstanceFiles, tmp_path: Path) -> None:
    content = part10(os.urandom(300_001))
    for keeps in (False, True):
        arrival = files.open_arrival(UID)
        for at in range(0, len(content), 70_000):
            arrival.write(memoryview(content)[at : at + 70_000])
        with arrival.written() as file:
            assert file.read() == content
        assert files.arrivals() == []
        if keeps:
            assert arrival.keep() is Kept.NEW
        arrival.close()
        arrival.close()
        assert len(every_file(files, tmp_path)) == keeps
    assert files.path_of(UID).read_bytes() == content


def test_a_full_disk_is_said_while_an_arrival_is_written(files: InstanceFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, octets: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    arrival = files.open_arrival(UID)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull):
        arrival.write(b"x")
    arrival.close()


def test_a_disk_that_does_not_sync_is_no_success(
    files: InstanceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    for name in ("fdatasync", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, broken)
            with pytest.raises(StorageFull):
                files.keep_arrival(f"1.2.{name}", [b"x"])
    assert not list((tmp_path / "var" / "incoming").iterdir())


FULL_DISK = """
import io, resource, sys
from pathlib import Path
from storage.errors import StorageFull
from storage.instance_files import InstanceFiles

files = InstanceFiles(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with io.BytesIO(bytes(300_000)).getbuffer() as received:
        files.keep_arrival("1.2.3", [b"head", received])
except StorageFull as fault:
    print(fault)
files.keep_arrival("1.2.4", [bytes(99_999)])
"""


def test_a_disk_that_takes_only_a_part_is_a_full_disk_and_no_part_stays(tmp_path: Path) -> None:
    # The kernel's own file size limit writes short first and refuses then, as a full disk does.
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "var")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "1.2.3: the disk does not take it" in done.stdout
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in left] == [99_999]
    assert left[0].parent.name == "arrivals"


DIES_WRITING = """
import os, signal, sys
from pathlib import Path
from storage.instance_files import InstanceFiles

def chunks():
    yield bytes(10_000)
    os.kill(os.getpid(), signal.SIGKILL)

InstanceFiles(Path(sys.argv[1])).keep_arrival("1.2.3", chunks())
"""


def test_what_a_killed_writer_left_is_swept_at_start(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES_WRITING, str(tmp_path / "var")], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    files = InstanceFiles(tmp_path / "var")
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".part"]
    assert files.arrivals() == []
    assert files.sweep_parts() == 1
    assert every_file(files, tmp_path) == []


def test_the_part_of_a_living_writer_is_not_swept(files: InstanceFiles, tmp_path: Path) -> None:
    swept: list[int] = []

    def chunks() -> Iterator[bytes]:
        yield b"first"
        swept.append(files.sweep_parts())
        yield b"second"

    assert files.keep_arrival(UID, chunks()) is Kept.NEW
    assert swept == [0]
    assert files.path_of(UID).read_bytes() == b"firstsecond"


def test_a_derived_instance_made_twice_is_one_file_and_other_bytes_conflict(files: InstanceFiles) -> None:
    content = part10(b"derived")
    assert files.keep_derived(UID, content) == hashlib.sha256(content).hexdigest()
    assert files.keep_derived(UID, content) == hashlib.sha256(content).hexdigest()
    with pytest.raises(InstanceConflict):
        files.keep_derived(UID, part10(b"derivee"))
    assert files.sha256_of(files.path_of(UID)) == hashlib.sha256(content).hexdigest()
    assert files.arrivals() == []


def test_our_own_instance_that_comes_back_is_the_same(files: InstanceFiles) -> None:
    files.keep_derived(UID, part10(b"derived", b"DICOMNODE "))
    assert files.keep_arrival(UID, [part10(b"derived", b"PACS")]) is Kept.SAME
    assert files.arrivals() == []


def test_arrivals_are_listed_in_the_order_they_came(files: InstanceFiles) -> None:
    for number in range(5):
        files.keep_arrival(f"1.2.{number}", [b"x"])
        os.utime(files.path_of(f"1.2.{number}"), (1000 + number, 1000 + number))
    assert files.arrivals() == [files.path_of(f"1.2.{number}") for number in range(5)]


def test_quarantine_keeps_every_file_with_its_reason_and_overwrites_none(files: InstanceFiles) -> None:
    kept = []
    for content in (b"bad", b"worse", b"bad"):
        files.keep_arrival(UID, [content])
        kept.append(files.quarantine(files.path_of(UID), "nested 5000 deep"))
    assert kept[0] == kept[2] != kept[1]
    assert [path.read_bytes() for path in kept[:2]] == [b"bad", b"worse"]
    assert [path.with_name(f"{path.name}.reason.txt").read_text() for path in kept[:2]] == ["nested 5000 deep\n"] * 2
    assert files.arrivals() == []


def test_quarantine_takes_only_instance_files(files: InstanceFiles, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.write_bytes(b"x")
    with pytest.raises(ValueError, match="not an instance file"):
        files.quarantine(stranger, "no")
    assert stranger.exists()


def test_a_writer_holds_the_lock_that_says_it_lives(files: InstanceFiles, tmp_path: Path) -> None:
    locked: list[bool] = []

    def chunks() -> Iterator[bytes]:
        part = next((tmp_path / "var" / "incoming").iterdir())
        with part.open("rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
                locked.append(False)
            except BlockingIOError:
                locked.append(True)
        yield b"x"

    files.keep_arrival(UID, chunks())
    assert locked == [True]


def test_an_instance_is_durable_before_its_sender_hears_success(
    files: InstanceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are synced before the file has its name, and the name is synced before the answer."""
    content = part10(os.urandom(100_000))
    final = tmp_path / "var" / "arrivals" / f"{hashlib.sha256(UID.encode()).hexdigest()}.dcm"
    seen: list[str] = []
    fdatasync, fsync = os.fdatasync, os.fsync

    def watch_fdatasync(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == len(content)
        assert not final.exists()
        fdatasync(descriptor)
        seen.append("bytes")

    def watch_fsync(descriptor: int) -> None:
        assert os.path.samestat(os.fstat(descriptor), final.parent.stat())
        assert final.read_bytes() == content
        fsync(descriptor)
        seen.append("name")

    monkeypatch.setattr(os, "fdatasync", watch_fdatasync)
    monkeypatch.setattr(os, "fsync", watch_fsync)
    assert files.keep_arrival(UID, [content]) is Kept.NEW
    assert seen == ["bytes", "name"]


def test_a_buffer_can_be_released_after_it_was_kept(files: InstanceFiles) -> None:
    source = io.BytesIO(part10(b"data"))
    with source.getbuffer() as received:
        files.keep_arrival(UID, [received])
    source.truncate(0)  # a BufferError while a view of it lives
    assert source.getvalue() == b""


def test_a_new_root_is_durable_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(instance_files, "sync_folder", synced.append)
    InstanceFiles(tmp_path / "var")
    assert {tmp_path / "var" / "instances", tmp_path / "var", tmp_path} <= set(synced)
