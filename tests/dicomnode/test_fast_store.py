"""Whatever a peer sends, however slowly: the node stays up, keeps only what was whole, and serves the next one."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.errors import StorageFull
from storage.instance_files import Arrival, InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import (
    QUICK,
    RawPeer,
    Station,
    associate_request,
    element,
    encoded_data_set,
    fragment,
    p_data,
    sop_instance_uid_of,
    store_command,
)
from tests.builders_tls import Authority
from tests.peers import wait_until

ABORT = 0x07
COMMAND, LAST = 1, 2


@pytest.fixture(params=["plain TCP", "TLS"])
def station(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[Station]:
    """A node with short deadlines; afterwards nothing half-written, no thread and no file is left."""
    before = open_files()
    called = authority if request.param == "TLS" else None
    station = Station(InstanceFiles(tmp_path / "var"), deadlines=QUICK, authority=called)
    yield station
    station.receiver.stop(drain_s=5)
    assert list((tmp_path / "var" / "incoming").iterdir()) == []
    wait_until(lambda: open_files() <= before, seconds=30, what="every connection closed")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct_series(tmp_path_factory.mktemp("ct"), slices=1, rows=256, columns=256)[0]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def assert_serves(station: Station, image: Path) -> None:
    """A right C-STORE, in fragments, is answered 0x0000."""
    with station.call() as peer:
        assert store(peer, image) == 0x0000
        peer.send(struct.pack(">BBI", 5, 0, 4) + bytes(4))
        assert peer.read_pdu()[0] == 0x06
    assert len(station.files.arrivals()) == 1


def store(peer: RawPeer, image: Path, *, part: int = 16000) -> int:
    content = encoded_data_set(image)
    peer.send_fragment(COMMAND | LAST, store_command(sop_instance_uid_of(image)))
    for at in range(0, len(content), part):
        peer.send_fragment(LAST if at + part >= len(content) else 0, content[at : at + part])
    return peer.read_status()


def test_an_instance_in_fragments_is_kept_as_it_came(station: Station, image: Path) -> None:
    assert_serves(station, image)
    (kept,) = station.files.arrivals()
    assert encoded_data_set(kept) == encoded_data_set(image)


@pytest.mark.parametrize("part", [100, 4000, 131060])
def test_the_size_of_fragments_does_not_matter(station: Station, image: Path, part: int) -> None:
    with station.call() as peer:
        assert store(peer, image, part=part) == 0x0000


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "an unknown PDU": lambda content: b"\x63" + bytes(40),
    "garbage": lambda content: random.Random(1).randbytes(5000),
    "a second association request": lambda content: associate_request(),
    "a PDU over the negotiated maximum": lambda content: struct.pack(">BBI", 4, 0, 200_000) + bytes(200_000),
    "a PDU of four gigabytes": lambda content: struct.pack(">BBI", 4, 0, 0xFFFFFFFF) + bytes(70_000),
    "a release of 400 megabytes": lambda content: struct.pack(">BBI", 5, 0, 400 << 20) + bytes(70_000),
    "a fragment without command": lambda content: p_data(fragment(LAST, content)),
    "a command inside a data set": lambda content: p_data(
        fragment(3, store_command("1.2.3")), fragment(0, content[:100]), fragment(3, store_command("1.2.4"))
    ),
    "a fragment longer than its PDU": lambda content: p_data(struct.pack(">IBB", 500, 1, 0) + b"x"),
    "a fragment with no room for its flags": lambda content: p_data(struct.pack(">I", 1) + b"\x01\x00"),
    "a PDU that ends in the head of a fragment": lambda content: struct.pack(">BBI", 4, 0, 3) + bytes(3),
    "a context that was not accepted": lambda content: p_data(fragment(3, store_command("1.2.3"), context_id=99)),
    "a command set that is none": lambda content: p_data(fragment(3, random.Random(2).randbytes(80))),
    "a command set without end": lambda content: b"".join(p_data(fragment(1, bytes(16_000))) for _ in range(5)),
    "a C-STORE without UIDs": lambda content: p_data(
        fragment(3, element(0x0100, b"\x01\x00") + element(0x0110, b"\x01\x00") + element(0x0800, b"\x01\x00"))
    ),
    "an unknown command": lambda content: p_data(
        fragment(3, element(0x0100, b"\x77\x77") + element(0x0800, b"\x01\x01"))
    ),
    "a find in a context of storage": lambda content: p_data(
        fragment(3, element(0x0002, b"1.2.3\0") + element(0x0100, b"\x20\x00") + element(0x0800, b"\x01\x00")),
        fragment(LAST, random.Random(3).randbytes(500)),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_breaks_the_protocol_is_aborted_and_the_node_serves_the_next(
    station: Station, image: Path, what: str
) -> None:
    with station.call() as peer:
        try:
            peer.send(WRONG[what](encoded_data_set(image)))
            if what != "a find in a context of storage":
                assert peer.ends() in (ABORT, -1)
        except ConnectionError:  # it was closed while we still sent
            pass
    assert_serves(station, image)


@pytest.mark.parametrize("seed", range(25))
def test_a_stream_with_flipped_bytes_never_ends_the_node_and_keeps_only_what_was_sent(
    station: Station, image: Path, seed: int
) -> None:
    chance = random.Random(seed)
    content = encoded_data_set(image)[:6000]
    stream = bytearray(p_data(fragment(3, store_command(sop_instance_uid_of(image)))))
    stream += b"".join(p_data(fragment(0, content[at : at + 1000])) for at in range(0, 6000, 1000))
    for _ in range(chance.randrange(1, 8)):
        stream[chance.randrange(len(stream))] = chance.randrange(256)
    with station.call(associate=chance.random() < 0.8) as peer:
        try:
            peer.send(bytes(stream[chance.randrange(3) * 7 :]))
            peer.socket.shutdown(socket.SHUT_WR)
            peer.ends()
        except OSError:
            pass
    assert_serves(station, image)


@pytest.mark.parametrize("length", [0, 1, 5, 7, 60, 150])
def test_a_broken_association_request_is_nothing(station: Station, image: Path, length: int) -> None:
    with station.call(associate=False) as peer:
        peer.send(associate_request()[:length])
        peer.socket.shutdown(socket.SHUT_WR)
        peer.ends()
    assert_serves(station, image)


def test_an_association_request_of_400_megabytes_is_refused_before_it_is_read(station: Station, image: Path) -> None:
    with station.call(associate=False) as peer:
        peer.send(struct.pack(">BBI", 1, 0, 400 << 20) + bytes(1000))
        assert peer.ends() in (ABORT, -1)
    assert_serves(station, image)


def test_an_association_request_whose_items_are_garbage_is_refused(station: Station, image: Path) -> None:
    whole = associate_request()
    for seed in range(10):
        chance = random.Random(seed)
        with station.call(associate=False) as peer:
            peer.send(whole[:74] + chance.randbytes(len(whole) - 74))
            assert peer.ends() in (ABORT, 0x02, 0x03, -1)
    assert_serves(station, image)


def slowly_connected(peer: RawPeer) -> None:
    """Nothing at all."""


def slowly_asked(peer: RawPeer) -> None:
    peer.send(associate_request()[:100])


def half_a_head(peer: RawPeer) -> None:
    peer.send(b"\x04\x00")


def half_a_pdu(peer: RawPeer) -> None:
    peer.send_fragment(3, store_command("1.2.3"))
    peer.send(p_data(fragment(0, bytes(9000)))[:4000])


def byte_by_byte(peer: RawPeer) -> None:
    pdu = p_data(fragment(0, bytes(9000)))
    peer.send_fragment(3, store_command("1.2.3"))
    for at in range(100):
        peer.send(pdu[at : at + 1])
        time.sleep(0.05)


@pytest.mark.parametrize("slow", [slowly_connected, slowly_asked, half_a_head, half_a_pdu, byte_by_byte])
def test_a_peer_that_is_too_slow_is_dropped(station: Station, image: Path, slow: Callable[[RawPeer], None]) -> None:
    with station.call(associate=slow not in (slowly_connected, slowly_asked)) as peer:
        try:
            slow(peer)
            assert peer.ends() in (ABORT, -1)
        except ConnectionError:  # it was closed while we still sent
            pass
    assert_serves(station, image)


def test_an_idle_association_is_ended(tmp_path: Path) -> None:
    station = Station(InstanceFiles(tmp_path / "var"), idle_s=0.5)
    with RawPeer(station.port) as peer:
        assert peer.ends() == ABORT
    station.receiver.stop(drain_s=5)


def test_a_pause_between_pdus_is_no_stall(station: Station, image: Path) -> None:
    content = encoded_data_set(image)
    with station.call() as peer:
        peer.send_fragment(3, store_command(sop_instance_uid_of(image)))
        peer.send_fragment(0, content[:1000])
        time.sleep(1.1 * QUICK.pdu_s)
        peer.send_fragment(0, content[1000:100_000])
        peer.send_fragment(LAST, content[100_000:])
        assert peer.read_status() == 0x0000


@pytest.mark.parametrize("half", [False, True], ids=["closed", "aborted"])
def test_an_instance_that_breaks_off_leaves_nothing_and_can_come_again(
    station: Station, image: Path, half: bool
) -> None:
    with station.call() as peer:
        peer.send_fragment(3, store_command(sop_instance_uid_of(image)))
        for at in range(0, 90_000, 15_000):
            peer.send_fragment(0, encoded_data_set(image)[at : at + 15_000])
        if half:
            peer.send(struct.pack(">BBI", ABORT, 0, 4) + bytes(4))
            peer.ends()
    assert_serves(station, image)


class DiskThatFillsUp(InstanceFiles):
    """Takes the first bytes of an instance and no more."""

    def open_arrival(self, sop_instance_uid: str) -> Arrival:
        arrival = super().open_arrival(sop_instance_uid)
        write, left = arrival.write, [300_000]

        def refuse(chunk: bytes | memoryview) -> None:
            left[0] -= len(chunk)
            if left[0] < 0:
                raise StorageFull("the disk is full")
            write(chunk)

        arrival.write = refuse  # type: ignore[method-assign]
        return arrival


def test_a_disk_that_fills_up_in_an_instance_is_out_of_resources_and_the_association_goes_on(tmp_path: Path) -> None:
    files = DiskThatFillsUp(tmp_path / "var")
    station = Station(files)
    long = write_ct_series(tmp_path / "long", slices=1, rows=512, columns=512)[0]
    short = write_ct_series(tmp_path / "short", slices=1)[0]
    with RawPeer(station.port) as peer:
        assert [store(peer, long), store(peer, short), store(peer, long)] == [0xA700, 0x0000, 0xA700]
    station.receiver.stop(drain_s=5)
    assert len(files.arrivals()) == 1
    assert list((tmp_path / "var" / "incoming").iterdir()) == []


def test_a_peer_that_never_ends_its_instance_is_aborted_at_twice_the_longest(tmp_path: Path) -> None:
    station = Station(InstanceFiles(tmp_path / "var"), maximum_instance_bytes=1 << 20)
    with RawPeer(station.port) as peer:
        peer.send_fragment(3, store_command("1.2.3"))
        try:
            for _ in range(60):
                peer.send_fragment(0, bytes(100_000))
            assert peer.ends() == ABORT
        except ConnectionError:  # it was closed while we still sent
            pass
    station.receiver.stop(drain_s=5)
    assert station.files.arrivals() == []


def test_a_stop_does_not_wait_for_a_peer_in_the_middle_of_a_pdu(tmp_path: Path) -> None:
    station = Station(InstanceFiles(tmp_path / "var"))  # a stall may take 30 s
    with RawPeer(station.port) as peer:
        half_a_pdu(peer)
        stopping = threading.Thread(target=station.receiver.stop, kwargs={"drain_s": 0.2})
        stopping.start()
        stopping.join(15)
        assert not stopping.is_alive()
        assert peer.ends() in (ABORT, -1)
    assert list((tmp_path / "var" / "incoming").iterdir()) == []
