"""Senders that are many, slow, wrong or hostile, all at once and one after the other: the node stays up and serves."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom import dcmread

from storage import catalog
from storage.database import Database
from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, associate_request, encoded_data_set, fragment, p_data, store_command
from tests.builders_stream import store
from tests.peers import NODE_AE, SCANNER_AE, RunningNode, free_port, program, storescu, wait_until

pytestmark = pytest.mark.peer
MANY, DEPTH = 200, 3000
QUICK = "maximum_associations = 200\nnegotiation_s = 3.0\npdu_stall_s = 3.0\npdu_limit_s = 6.0\n"
NO_UIDS = {
    "a path": "../../../../tmp/escaped",
    "an absolute path": "/tmp/escaped",
    "65 characters": "1." * 32 + "1",
    "letters": "1.2.evil",
    "a NUL in the middle": "1.2\0.3",
    "nothing": "",
}


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def listed(node: RunningNode, uids: list[str]) -> set[str]:
    """Which of these instances the catalogue knows."""
    database = Database.open(f"sqlite:///{node.folder / 'var' / 'node.sqlite'}")
    with database.read() as connection:
        known = catalog.known_instances(connection, uids)
    database.close()
    return known


def stored(node: RunningNode, path: Path) -> int:
    """The status of one C-STORE over an association of its own."""
    with RawPeer(node.port) as peer:
        return store(peer, uid_of(path), encoded_data_set(path))


def status_or_abort(node: RunningNode, uid: str, content: bytes) -> int | None:
    """The status of a C-STORE; None when the association was aborted instead."""
    with RawPeer(node.port) as peer:
        try:
            return store(peer, uid, content)
        except (AssertionError, OSError):  # something else came, or nothing
            return None


def associated(node: RunningNode) -> RawPeer:
    """An open association, as soon as there is room for it."""
    found: list[RawPeer] = []

    def ask() -> bool:
        try:
            found.append(RawPeer(node.port))
        except (AssertionError, OSError):
            return False
        return True

    wait_until(ask, what="an association")
    return found[0]


def nested_deeply(path: Path) -> bytes:
    """A data set that holds a sequence in a sequence in a sequence, 3,000 deep, before anything of its series."""
    content = encoded_data_set(path)
    # ReferencedImageSequence (0008,1140) and its item, both of undefined length (PS3.5 7.5.1)
    opened = bytes.fromhex("08004011") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
    closed = bytes.fromhex("feff0de000000000") + bytes.fromhex("feffdde000000000")
    at = content.index(bytes.fromhex("10001000"))  # PatientName (0010,0010)
    return content[:at] + opened * DEPTH + closed * DEPTH + content[at:]


def test_two_hundred_associations_beside_slow_and_broken_ones_are_all_served(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(free_port(), rules="", more_node=QUICK).start()
    files = write_ct_series(tmp_path / "ct", slices=MANY, rows=32, columns=32)
    begun = p_data(fragment(3, store_command("1.2.3"))) + p_data(fragment(0, bytes(9000)))[:4000]
    wrong = {
        "garbage": random.Random(4).randbytes(5000),
        "an oversize PDU": struct.pack(">BBI", 4, 0, 0xFFFFFFFF) + bytes(70_000),
        "an association request of 400 megabytes": struct.pack(">BBI", 1, 0, 400 << 20) + bytes(1000),
    }
    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        slow = [stack.enter_context(RawPeer(node.port)) for _ in range(20)]
        for peer in slow:
            peer.send(begun)  # and never goes on
        for octets in wrong.values():
            with RawPeer(node.port, associate=False) as peer:
                try:
                    peer.send(octets)
                    assert peer.ends() in (0x07, -1)
                except ConnectionError:  # it was closed while we still sent
                    pass
        assert [peer.ends() in (0x07, -1) for peer in slow] == [True] * 20  # aborted at their deadline

        peers = [stack.enter_context(peer) for peer in pool.map(associated, [node] * MANY)]
        with RawPeer(node.port, associate=False) as one_more:
            one_more.send(associate_request())
            assert one_more.read_pdu()[0] != 0x02

        def send(peer: RawPeer, path: Path) -> int:
            return store(peer, uid_of(path), encoded_data_set(path))

        assert set(pool.map(send, peers, files)) == {0x0000}
    uids = [uid_of(path) for path in files]
    wait_until(lambda: listed(node, uids) == set(uids), what="all of them in the catalogue")
    assert node.stop() == 0


def test_what_is_hostile_or_twice_is_answered_clearly_and_the_node_serves_on_also_after_a_restart(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(free_port(), rules="", more_node=QUICK).start()
    good, other, deep, last = write_ct_series(tmp_path / "ct", slices=4)
    before = {path.name for path in tmp_path.iterdir()}

    heard = {what: status_or_abort(node, uid, encoded_data_set(good)) for what, uid in NO_UIDS.items()}
    assert 0x0000 not in heard.values(), heard
    assert {path.name for path in tmp_path.iterdir()} == before and not Path("/tmp/escaped").exists()

    assert [stored(node, good), stored(node, good)] == [0x0000, 0x0000]
    changed = dcmread(good)
    changed.SeriesDescription = "changed"
    changed.save_as(tmp_path / "changed.dcm")
    assert stored(node, tmp_path / "changed.dcm") == 0x0111
    wait_until(lambda: [row for row in node.audit() if row["event"] == "conflict"], what="the conflict in the audit")

    # Refused at once, or kept and found unreadable: never an instance of the catalogue, and never the node's end.
    with RawPeer(node.port) as peer:
        answer = store(peer, uid_of(deep), nested_deeply(deep))
    quarantine = node.folder / "var" / "quarantine"
    if answer == 0x0000:
        wait_until(lambda: list(quarantine.glob("*.dcm")), what="the quarantine")
    assert stored(node, other) == 0x0000

    storescu(node.port, [good, other], options=["--abort"])
    assert storescu(node.port, [good], options=["--repeat", "3"]).returncode == 0
    assert storescu(node.port, [good], options=["+II", "--repeat", "3"]).returncode == 0
    every_context = ["--propose-ts", "38", "--propose-pc", "128"]
    echo = [program("echoscu"), "-aet", SCANNER_AE, "-aec", NODE_AE, *every_context, "127.0.0.1", str(node.port)]
    assert subprocess.run(echo, timeout=60, env={**os.environ, "TCP_NODELAY": "1"}).returncode == 0

    assert node.stop() == 0
    node.start()
    assert stored(node, last) == 0x0000
    uids = [uid_of(path) for path in (good, other, last)]
    wait_until(lambda: listed(node, uids) == set(uids), what="all of them in the catalogue")
    assert listed(node, [uid_of(deep)]) == set()
    assert (
        len(list((node.folder / "var" / "instances").rglob("*.dcm"))) == 3 + 3
    )  # ours, and those to which storescu gave UIDs of their own
    assert node.command("audit", "verify").returncode == 0
    assert node.stop() == 0
