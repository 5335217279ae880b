"""Fragments go to their sink in order and whole; anything out of order ends the association."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import build_context

from dicomnode.fast_message import BUFFER_BYTES, LONGEST_FORWARDED, Messages
from dicomnode.fast_pdu import LONGEST_COMMAND, PduFault, StoreRequest
from tests.builders_receive import element, fragment, store_command

COMMAND, LAST = 1, 2
SYNTAX = "1.2.840.10008.1.2.1"
FIND = element(0x0100, struct.pack("<H", 0x0020)) + element(0x0800, struct.pack("<H", 1))


class Sink:
    def __init__(self, request: StoreRequest, syntax: str) -> None:
        self.request, self.syntax = request, syntax
        self.pieces: list[bytes] = []
        self.ended = ""

    def take(self, piece: memoryview) -> None:
        self.pieces.append(bytes(piece))

    def finish(self) -> int:
        self.ended = "finished"
        return 0x0000

    def drop(self) -> None:
        self.ended = "dropped"


class Line:
    """Messages that read from bytes at hand, and what came of them."""

    def __init__(self) -> None:
        self.octets = memoryview(b"")
        self.sinks: list[Sink] = []
        self.sent: list[bytes] = []
        self.forwarded: list[bytes] = []
        context = build_context("1.2.840.10008.5.1.4.1.1.2", SYNTAX)
        dimse = SimpleNamespace(receive_primitive=self._forward)
        association = SimpleNamespace(_accepted_cx={1: context}, dimse=dimse)
        self.messages = Messages(association, open_store=self._open, fill=self._fill, send=self.sent.append)

    def read(self, *fragments: bytes) -> None:
        """One P-DATA PDU with these fragments."""
        self.octets = memoryview(b"".join(fragments))
        self.messages.read_p_data(len(self.octets))
        assert not self.octets

    def _open(self, association: Any, request: StoreRequest, syntax: str) -> Sink:
        self.sinks.append(Sink(request, syntax))
        return self.sinks[-1]

    def _fill(self, view: memoryview) -> None:
        view[:] = self.octets[: len(view)]
        self.octets = self.octets[len(view) :]

    def _forward(self, primitive: Any) -> None:
        self.forwarded += [data for _, data in primitive.presentation_data_value_list]


@pytest.mark.parametrize("size", [1, 1000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES + 5])
@pytest.mark.parametrize("part", [50_000, 131_060])
def test_a_data_set_reaches_its_sink_whole_in_pieces_of_the_buffer(size: int, part: int) -> None:
    content, line = os.urandom(size), Line()
    line.read(fragment(COMMAND | LAST, store_command("1.2.3")))
    parts = [content[at : at + part] for at in range(0, size, part)]
    for one in parts[:-1]:
        line.read(fragment(0, one))
    assert line.sent == []
    line.read(fragment(LAST, parts[-1]))
    (sink,) = line.sinks
    assert (sink.request.sop_instance_uid, sink.syntax, sink.ended) == ("1.2.3", SYNTAX, "finished")
    assert b"".join(sink.pieces) == content
    assert all(len(piece) == BUFFER_BYTES for piece in sink.pieces[:-1])
    assert len(line.sent) == 1 and not line.messages.in_store


def test_commands_and_data_sets_may_share_a_pdu_and_come_in_fragments_of_any_size() -> None:
    line, command = Line(), store_command("1.2.3")
    whole = [
        fragment(COMMAND, command[:5]),
        fragment(COMMAND, b""),
        fragment(COMMAND | LAST, command[5:]),
        fragment(0, b"pix"),
        fragment(0, b""),
        fragment(LAST, b"els"),
    ]
    line.read(*whole, *whole)
    assert [b"".join(sink.pieces) for sink in line.sinks] == [b"pixels", b"pixels"]
    assert len(line.sent) == 2


def test_other_services_go_to_pynetdicom_with_their_data_sets() -> None:
    line = Line()
    line.read(fragment(COMMAND | LAST, FIND), fragment(0, b"iden"), fragment(LAST, b"tifier"))
    assert line.forwarded == [b"\x03" + FIND, b"\x00iden", b"\x02tifier"]
    line.read(fragment(COMMAND | LAST, store_command("1.2.3")), fragment(LAST, b"pixels"))
    assert len(line.sent) == 1


@pytest.mark.parametrize(
    "fragments",
    [
        [fragment(LAST, b"no command before")],
        [fragment(COMMAND | LAST, store_command("1.2.3")), fragment(COMMAND | LAST, store_command("1.2.4"))],
        [fragment(COMMAND | LAST, FIND), fragment(COMMAND | LAST, store_command("1.2.4"))],
        [fragment(COMMAND | LAST, store_command("1.2.3")), fragment(0, b"x", context_id=3)],
        [fragment(COMMAND | LAST, store_command("1.2.3"), context_id=3)],
        [fragment(COMMAND | LAST, b"garbage")],
        [fragment(COMMAND | LAST, b"")],
        [fragment(COMMAND, bytes(LONGEST_COMMAND)), fragment(COMMAND, b"x")],
        [fragment(COMMAND | LAST, FIND), fragment(0, bytes(LONGEST_FORWARDED)), fragment(0, b"x")],
        [fragment(COMMAND | LAST, store_command("1.2.3"))[:-1]],
        [struct.pack(">IBB", 1, 1, 0)],
        [struct.pack(">IBB", 0xFFFFFFFF, 1, 0), b"x"],
        [b"\0\0\0"],
    ],
)
def test_what_is_out_of_order_is_a_fault_and_forgetting_it_lets_the_next_begin(fragments: list[bytes]) -> None:
    line = Line()
    with pytest.raises(PduFault):
        line.read(*fragments)
    line.messages.drop()
    assert [sink.ended for sink in line.sinks] == ["dropped"] * len(line.sinks)
    line.read(fragment(COMMAND | LAST, store_command("1.2.3")), fragment(LAST, b"pixels"))
    assert line.sinks[-1].ended == "finished"


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=6))
def test_garbage_is_read_or_a_fault_and_nothing_else(garbage: list[tuple[int, bytes]]) -> None:
    line = Line()
    try:
        line.read(*(fragment(flags, content) for flags, content in garbage))
    except PduFault:
        line.messages.drop()
    assert not any(sink.ended == "finished" for sink in line.sinks)
