"""Whole PDUs go out and come in, however the network cuts them; nothing follows a PDU that went out in part."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dicomnode.fast_pdu import PduFault
from dicomnode.wire import Closed, Wire


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the peer's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        wire = Wire.connect(host, port, connect_s=5, stall_s=0.3, tls=None, tls_name="")
        other, _ = listener.accept()
    with other:
        yield wire, other
        wire.close()


def test_thousands_of_parts_arrive_in_order(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    parts = [bytes([number % 251]) * (number % 4000) for number in range(5000)]
    got = bytearray()

    def read() -> None:
        while more := other.recv(1 << 16):
            got.extend(more)

    reader = threading.Thread(target=read)
    reader.start()
    wire.send(parts)
    wire.close()
    reader.join(20)
    assert got == b"".join(parts)


def test_after_a_pdu_that_went_out_in_part_nothing_more_is_sent(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    with pytest.raises(TimeoutError):
        wire.send([b"image" * (4 << 20)])
    wire.send_last(b"abort")
    wire.close()
    got = bytearray()
    while more := other.recv(1 << 20):
        got += more
    assert bytes(got) == (b"image" * (4 << 20))[: len(got)] and b"abort" not in got


def test_a_last_word_is_sent_when_all_before_it_was(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    wire.send([b"whole"])
    wire.send_last(b"abort")
    wire.close()
    assert other.recv(100, socket.MSG_WAITALL) == b"wholeabort"


def test_pdus_that_come_together_are_read_one_by_one(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    assert wire.silent
    other.sendall(b"\x04\0\0\0\0\x03one\x05\0\0\0\0\x00\x04\0\0\0\0\x03two")
    found = [wire.read_pdu(longest=10, within_s=5) for _ in range(3)]
    assert found == [(4, b"one"), (5, b""), (4, b"two")] and wire.silent


def test_a_deadline_is_for_the_whole_pdu_and_not_for_each_byte(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    over = threading.Event()

    def drip() -> None:
        for octet in b"\x04\0\0\0\0\xff" + bytes(255):
            if over.wait(0.05):
                return
            other.sendall(bytes([octet]))

    threading.Thread(target=drip, daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        wire.read_pdu(longest=1000, within_s=0.4)
    assert time.monotonic() - begun < 5
    over.set()


@pytest.mark.parametrize("head", [b"\x04\0\0\0\0\x0b", b"\x08\0\0\0\0\x01", b"\x00\0\0\0\0\x01"])
def test_what_is_too_long_or_no_pdu_is_refused_before_it_is_read(ends: tuple[Wire, socket.socket], head: bytes) -> None:
    wire, other = ends
    other.sendall(head)
    with pytest.raises(PduFault):
        wire.read_pdu(longest=10, within_s=5)


def test_a_closed_connection_is_told_from_silence(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    other.sendall(b"\x04\0\0")
    other.close()
    with pytest.raises(Closed):
        wire.read_pdu(longest=10, within_s=5)
    assert not wire.silent


def test_small_writes_leave_at_once(ends: tuple[Wire, socket.socket]) -> None:
    wire, _ = ends
    assert wire._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
