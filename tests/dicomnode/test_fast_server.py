"""Many connections at once, and very many one after the other, cost little and leave nothing."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from pynetdicom import AE

from dicomnode.fast_server import ENDED
from dicomnode.fast_store import FastDUL
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import QUICK, RawPeer, Station, associate_request, encoded_data_set, store_command
from tests.peers import wait_until

REJECTED = 0x03
MANY, PROBES = 200, 1000


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(InstanceFiles(tmp_path / "var"), maximum_associations=MANY, idle_s=300)
    yield station
    station.receiver.stop(drain_s=5)


def probe(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=20).close()


def reset(port: int) -> None:
    """Connects and resets, as a port scanner does."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_two_hundred_associations_at_once_are_served_and_cost_next_to_nothing_while_idle(
    station: Station, tmp_path: Path
) -> None:
    files = write_ct_series(tmp_path / "ct", slices=MANY)
    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        peers = [stack.enter_context(peer) for peer in pool.map(RawPeer, [station.port] * MANY)]
        wait_until(lambda: station.receiver.open_associations == MANY, seconds=30, what="the last one being counted")
        with RawPeer(station.port, associate=False) as one_more:
            one_more.send(associate_request())
            assert one_more.read_pdu()[0] == REJECTED

        def store(peer: RawPeer, number: int) -> int:
            content = encoded_data_set(files[number])
            uid = content.split(b"\x08\x00\x18\x00UI")[1]
            peer.send_fragment(3, store_command(uid[2 : 2 + int.from_bytes(uid[:2], "little")].rstrip(b"\0").decode()))
            peer.send_fragment(2, content)
            return peer.read_status()

        assert set(pool.map(store, peers, range(MANY))) == {0x0000}

        def switches_in_2_s() -> int:
            before = context_switches()
            time.sleep(2.0)
            return context_switches() - before

        # 400 sleeping threads; with naps of 1 ms they would be woken 800,000 times, in every one of the five looks.
        # On a busy machine what was begun by the stores is still being done at the first.
        assert any(switches_in_2_s() < 5_000 for _ in range(5))
    assert len(station.files.arrivals()) == MANY


def context_switches() -> int:
    """How often the threads of this process were put to sleep."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            text = (task / "status").read_text()
        except FileNotFoundError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("voluntary_ctxt"))
    return total


def test_a_thousand_probes_leave_no_thread_no_file_and_no_memory(station: Station) -> None:
    process = psutil.Process()

    def knock(times: int) -> None:
        for number in range(times):
            (probe, reset)[number % 2](station.port)

    knock(100)
    wait_until(lambda: threading.active_count() < 20, seconds=30, what="the threads of the probes ended")
    gc.collect()
    memory, threads, files = process.memory_info().rss, threading.active_count(), process.num_fds()
    knock(PROBES)
    wait_until(lambda: threading.active_count() <= threads, seconds=30, what="the threads of the probes ended")
    wait_until(lambda: process.num_fds() <= files, seconds=30, what="the sockets of the probes closed")
    gc.collect()
    # What a probe left in stock pynetdicom, an association of 200 KB or so, would be a hundred times this.
    assert process.memory_info().rss - memory < 4 << 20
    with RawPeer(station.port):
        pass


def test_probes_make_nobody_wait_for_the_collection_of_garbage_and_associations_share_one(station: Station) -> None:
    asked: list[int] = []

    def collected(phase: str, details: dict[str, int]) -> None:
        if phase == "start" and details["generation"] == 2:
            asked.append(threading.get_ident())

    gc.disable()  # what is left are the collections that somebody asks for
    gc.callbacks.append(collected)
    try:
        for _ in range(2 * ENDED):
            probe(station.port)
        with RawPeer(station.port) as peer:  # when it is answered they have had their turn
            assert asked == []
            peer.send(struct.pack(">BBI", 5, 0, 4) + bytes(4))
        for _ in range(ENDED - 1):
            with RawPeer(station.port) as peer:
                peer.send(struct.pack(">BBI", 5, 0, 4) + bytes(4))
        wait_until(lambda: len(asked) == 1, seconds=20, what="the one collection")
    finally:
        gc.callbacks.remove(collected)
        gc.enable()


def test_associations_one_after_the_other_leave_no_thread_and_no_file(station: Station) -> None:
    def associate_and_go(_: int) -> None:
        with RawPeer(station.port) as peer:
            peer.send(struct.pack(">BBI", 5, 0, 4) + bytes(4))
            assert peer.read_pdu()[0] == 0x06

    associate_and_go(0)
    wait_until(lambda: station.receiver.open_associations == 0, seconds=30, what="the association ended")
    threads, files = threading.active_count(), psutil.Process().num_fds()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(associate_and_go, range(200)))
    wait_until(lambda: threading.active_count() <= threads, seconds=30, what="their threads ended")
    wait_until(lambda: psutil.Process().num_fds() <= files, seconds=30, what="their sockets closed")


def test_connections_are_bounded_and_silent_ones_make_room_again(tmp_path: Path) -> None:
    station = Station(InstanceFiles(tmp_path / "var"), maximum_associations=2, deadlines=QUICK)
    silent = [RawPeer(station.port, associate=False) for _ in range(60)]  # 2 x 2 + 16 have room
    refused = [peer for peer in silent if peer.socket.recv(1) == b""]
    assert len(refused) == len(silent)  # the others when their time was over
    with RawPeer(station.port):
        wait_until(lambda: station.receiver.open_associations == 1, seconds=30, what="the one being counted")
    for peer in silent:
        peer.socket.close()
    station.receiver.stop(drain_s=5)


def test_a_silent_connection_does_not_keep_the_node_from_stopping(station: Station) -> None:
    with RawPeer(station.port, associate=False) as silent:
        station.receiver.stop(drain_s=5)
        assert silent.ends() == -1


def test_a_stop_lets_open_associations_end_and_takes_no_new_ones(tmp_path: Path) -> None:
    station = Station(InstanceFiles(tmp_path / "var"))
    with RawPeer(station.port) as peer:
        stopping = threading.Thread(target=station.receiver.stop, kwargs={"drain_s": 20})
        stopping.start()
        wait_until(lambda: not listens(station.port), seconds=30, what="the port closed")
        peer.send(struct.pack(">BBI", 5, 0, 4) + bytes(4))
        assert peer.read_pdu()[0] == 0x06
    stopping.join(20)
    assert not stopping.is_alive()


def test_a_connection_for_which_there_is_no_thread_is_closed_at_once(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def no_more_threads(thread: threading.Thread) -> None:
        if isinstance(thread, FastDUL):
            raise RuntimeError("can't start new thread")
        start(thread)

    gc.disable()  # it must not be what closes the connection
    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    try:
        with RawPeer(station.port, associate=False) as peer:
            peer.send(associate_request())
            assert peer.ends() == -1
    finally:
        gc.enable()


def listens(port: int) -> bool:
    try:
        probe(port)
    except ConnectionError:  # refused, or reset when it was just being closed
        return False
    return True


def test_an_echo_is_answered_by_pynetdicom_beside_the_stores(station: Station) -> None:
    entity = AE("SCANNER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", station.port, ae_title="DICOMNODE")
    assert [association.send_c_echo().Status for _ in range(20)] == [0x0000] * 20
    association.release()
