"""A disk that is full: nothing acknowledged is lost, nothing fails for good, and all goes on when there is room."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.builders import peer_is_missing
from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, associate_request, encoded_data_set
from tests.builders_stream import CountingPacs, Scanner, assert_nothing_was_lost, store
from tests.peers import RunningNode, wait_until

pytestmark = pytest.mark.peer
DISK_BYTES = 48_000_000
NAMESPACE = "NODE_TEST_IN_NAMESPACE"
REJECTED, TRANSIENT = 0x03, 2


def on_a_small_disk(test: Callable[..., None]) -> Callable[..., None]:
    """The test with a small file system of its own as the node's data folder.

    Who may not mount one runs the test once more in a namespace where everybody may; where that is forbidden as
    well it is a failure in CI, a skip elsewhere.
    """

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        folder: Path = fixtures["tmp_path"] / "node" / "var"
        folder.mkdir(parents=True, mode=0o700)
        with _mounted(folder) as mounted:
            if mounted:
                test(**fixtures)
                return
        again = ["unshare", "-Urm", sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        if NAMESPACE in os.environ or subprocess.run(["unshare", "-Urm", "true"]).returncode:
            peer_is_missing("a small file system cannot be mounted: neither as this user nor by unshare -Urm")
        root = Path(__file__).parents[2]
        answer = subprocess.run(
            [*again, fixtures["request"].node.nodeid],
            cwd=root, env={**os.environ, NAMESPACE: "1"}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stdout[-5000:]

    return run


@contextmanager
def _mounted(folder: Path) -> Iterator[bool]:
    """Whether a small file system lies there."""
    options = f"size={DISK_BYTES},mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:  # the node on it may still be ending: it goes when nobody has it open
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leave_bytes: int) -> Path:
    """A file that takes what is free on that disk, but for so much."""
    ballast = folder / f"ballast{len(list(folder.glob('ballast*')))}"
    with ballast.open("wb", buffering=0) as file:
        try:
            while (free := free_bytes(folder)) > leave_bytes:
                file.write(bytes(min(1 << 20, free - leave_bytes)))
        except OSError:  # to the brim
            pass
    return ballast


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def make_room(folder: Path) -> None:
    """What was there for nothing is gone."""
    for ballast in folder.glob("ballast*"):
        ballast.unlink()


def announced(count: int) -> Callable[[int, Any], None]:
    """A header that says how many images the series has."""

    def announce(k: int, dataset: Any) -> None:
        dataset.ImagesInAcquisition = count

    return announce


@on_a_small_disk
def test_a_disk_that_fills_up_while_receiving_is_said_so_and_loses_nothing_that_was_acknowledged(
    request: pytest.FixtureRequest,
    counting_pacs: CountingPacs,
    make_node: Callable[..., RunningNode],
    tmp_path: Path,
) -> None:
    node = make_node(counting_pacs.port, quiet_seconds=300.0, more="[retention]\nlow_watermark_gb = 0.0\n").start()
    disk, count = tmp_path / "node" / "var", 12
    files = write_ct_series(tmp_path / "source", slices=count, rows=512, columns=512, each=announced(count))
    waiting = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): encoded_data_set(path) for path in files}
    scanner = Scanner(node.port, tmp_path / "sources")

    def send_all() -> set[int]:
        heard = set()
        with RawPeer(node.port) as peer:
            for uid, content in waiting.items():
                heard.add(status := store(peer, uid, content))
                if status == 0x0000:
                    scanner.acknowledged[uid] = content
        return heard

    fill(disk, leave_bytes=3_000_000)
    assert send_all() == {0x0000, 0xA700}
    assert 0 < len(scanner.acknowledged) < count
    fill(disk, leave_bytes=0)  # now SQLite cannot commit either
    assert send_all() <= {0x0000, 0xA700}  # what is here already may be acknowledged again
    assert len(scanner.acknowledged) < count
    time.sleep(2)  # long enough for several sweeps that fail
    assert node.process is not None and node.process.poll() is None
    make_room(disk)
    wait_until(lambda: send_all() == {0x0000}, what="success when there is room again")
    node.wait_for_jobs({"delivered"}, count=1)
    assert len(counting_pacs.held) == count
    assert_nothing_was_lost(node, scanner)
    assert node.stop() == 0


@on_a_small_disk
def test_a_disk_that_fills_up_while_deriving_puts_the_job_off_and_callers_are_told_to_come_again(
    request: pytest.FixtureRequest,
    counting_pacs: CountingPacs,
    make_node: Callable[..., RunningNode],
    tmp_path: Path,
) -> None:
    watermark = "[retention]\nlow_watermark_gb = 0.004\n"
    node = make_node(counting_pacs.port, quiet_seconds=300.0, retry_longest_s=4.0, more=watermark).start()
    disk, count = tmp_path / "node" / "var", 16
    files = write_ct_series(tmp_path / "source", slices=count, rows=512, columns=512, each=announced(count))
    with RawPeer(node.port) as peer:
        for path in files:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            assert store(peer, uid, encoded_data_set(path)) == 0x0000
    wait_until(lambda: [job for job in node.jobs() if job["state"] == "running"], what="the job running")
    fill(disk, leave_bytes=0)

    def answer() -> bytes:
        with RawPeer(node.port, associate=False) as caller:
            caller.send(associate_request())
            kind, body = caller.read_pdu()
            return body[1:2] if kind == REJECTED else b""

    wait_until(lambda: answer() == bytes([TRANSIENT]), what="a transient rejection")
    wait_until(lambda: "disk" in node.log() and "full" in node.log().lower(), what="a word in the log")
    assert node.process is not None and node.process.poll() is None
    assert {job["state"] for job in node.jobs()} <= {"running", "waiting"}
    make_room(disk)
    wait_until(lambda: answer() == b"", what="an association when there is room again")
    node.wait_for_jobs({"delivered"}, count=1)
    assert len(counting_pacs.held) == count and set(counting_pacs.stored.values()) == {1}
    assert node.command("audit", "verify").returncode == 0
    assert node.stop() == 0
