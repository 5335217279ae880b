"""Command sets are read or refused, never half understood; a response is what pynetdicom would have sent."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import CTImageStorage

from dicomnode.fast_pdu import Command, PduFault, StoreRequest, read_command, store_response
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
