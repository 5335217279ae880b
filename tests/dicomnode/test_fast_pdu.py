"""Command sets are read or refused, never half understood; a response is what pynetdicom would have sent."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import CTImageStorage, Verification

from dicomnode.fast_pdu import (
    LONGEST_FRAGMENT,
    Command,
    PduFault,
    StoreRequest,
    cut,
    echo_request,
    longest_fragment,
    read_command,
    store_request,
    store_response,
)
from tests.builders_receive import element, store_command


def test_a_store_request_is_read() -> None:
    command = read_command(store_command("1.2.3", message_id=4711))
    assert command.is_store and command.has_data_set
    assert command.store_request() == StoreRequest(4711, CTImageStorage, "1.2.3")


def test_an_echo_is_no_store_and_has_no_data_set() -> None:
    command = read_command(element(0x0100, struct.pack("<H", 0x0030)) + element(0x0800, struct.pack("<H", 0x0101)))
    assert not command.is_store and not command.has_data_set


@pytest.mark.parametrize("missing", [0x0002, 0x0110, 0x0800, 0x1000])
def test_a_store_request_without_its_parts_is_refused(missing: int) -> None:
    values = dict(read_command(store_command("1.2.3")).values)
    del values[missing]
    with pytest.raises(PduFault):
        Command(values).store_request()


def test_a_store_request_that_says_it_has_no_data_set_is_refused() -> None:
    values = {**read_command(store_command("1.2.3")).values, 0x0800: b"\x01\x01"}
    with pytest.raises(PduFault, match="without a data set"):
        Command(values).store_request()


@pytest.mark.parametrize("uid", [b"", b"\0", b"  ", b"1.2.\xff"])
def test_a_uid_that_is_none_is_refused(uid: bytes) -> None:
    values = {**read_command(store_command("1.2.3")).values, 0x1000: uid}
    with pytest.raises(PduFault, match="without a UID"):
        Command(values).store_request()


@given(st.binary(max_size=200))
def test_garbage_is_a_command_set_or_a_fault_and_nothing_else(garbage: bytes) -> None:
    try:
        command = read_command(garbage)
        assert command.is_store in (True, False)
        command.store_request()
    except PduFault:
        pass


@pytest.mark.parametrize("cut", range(1, 110, 7))
def test_a_command_set_that_was_cut_is_refused_or_lacks_something(cut: int) -> None:
    with pytest.raises(PduFault):
        read_command(store_command("1.2.3")[:-cut]).store_request()


def test_an_element_of_another_group_is_refused() -> None:
    with pytest.raises(PduFault):
        read_command(struct.pack("<HHI", 8, 0x0018, 0))


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xA700, 0xA900, 0xC000])
def test_the_response_is_byte_for_byte_that_of_pynetdicom(status: int) -> None:
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo = 4711
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CTImageStorage, "1.2.34"
    primitive.Status = status
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    (data,) = message.encode_msg(3, 16384)
    assert store_response(3, StoreRequest(4711, CTImageStorage, "1.2.34"), status) == P_DATA_TF(data).encode()


def sent_by_pynetdicom(message: C_STORE_RQ | C_ECHO_RQ, primitive: C_STORE | C_ECHO) -> bytes:
    """The command set that pynetdicom makes of a primitive."""
    message.primitive_to_message(primitive)
    return b"".join(
        value[1:] for one in message.encode_msg(1, 16384) for _, value in one.presentation_data_value_list
        if value[0] & 1
    )  # fmt: skip


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_a_store_request_is_what_pynetdicom_would_have_sent(uid: str) -> None:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 4711, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CTImageStorage, uid
    primitive.DataSet = io.BytesIO(b"\0\0")
    assert store_request(4711, CTImageStorage, uid) == sent_by_pynetdicom(C_STORE_RQ(), primitive)


def test_an_echo_request_is_what_pynetdicom_would_have_sent() -> None:
    primitive = C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = 65535, Verification
    assert echo_request(65535) == sent_by_pynetdicom(C_ECHO_RQ(), primitive)


def test_only_the_response_to_the_last_request_is_its_answer() -> None:
    asked = read_command(store_request(5, CTImageStorage, "1.2.3"))
    answer = store_response(1, StoreRequest(5, CTImageStorage, "1.2.3"), 0xB000)
    assert read_command(answer[12:]).status_of(asked) == 0xB000
    for other in (StoreRequest(6, CTImageStorage, "1.2.3"), StoreRequest(5, CTImageStorage, "1.2.4")):
        with pytest.raises(PduFault):
            read_command(store_response(1, other, 0)[12:]).status_of(asked)
    with pytest.raises(PduFault, match="instead of the response"):
        asked.status_of(asked)


@given(
    content=st.binary(max_size=300),
    longest=st.integers(1, 60).map(lambda half: 2 * half),
    flags=st.sampled_from([0, 2, 3]),
)
def test_what_is_cut_is_whole_again_and_only_its_end_is_the_last(content: bytes, longest: int, flags: int) -> None:
    parts = cut(content, context_id=7, flags=flags, longest=longest)
    wire, joined, ends = b"".join(parts), b"", []
    while wire:
        pdu = P_DATA_TF()
        length = 6 + int.from_bytes(wire[2:6], "big")
        pdu.decode(wire[:length])
        wire = wire[length:]
        (item,) = pdu.presentation_data_value_items
        assert item.presentation_context_id == 7 and len(item.presentation_data_value) <= longest + 1
        joined += item.presentation_data_value[1:]
        ends.append(item.presentation_data_value[0])
    assert joined == content and ends[-1] == flags and set(ends[:-1]) <= {flags & 1}


@pytest.mark.parametrize(
    ("maximum_length", "longest"), [(0, LONGEST_FRAGMENT), (16384, 16378), (4099, 4092), (1 << 31, LONGEST_FRAGMENT)]
)
def test_a_fragment_fits_into_the_peers_pdu(maximum_length: int, longest: int) -> None:
    assert longest_fragment(maximum_length) == longest


@pytest.mark.parametrize("maximum_length", [1, 6, 7])
def test_a_maximum_that_no_fragment_fits_is_a_fault(maximum_length: int) -> None:
    with pytest.raises(PduFault, match="no fragment fits"):
        longest_fragment(maximum_length)
