"""The bytes of a C-STORE on the wire (PS3.8 9.3.5, PS3.7 9.3.1): command sets are read, responses are made."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PDU_HEAD = struct.Struct(">BBI")
"""Type, reserved, length of what follows (PS3.8 9.3.1)."""
PDV_HEAD = struct.Struct(">IBB")
"""Length of what follows, presentation context, message control header (PS3.8 9.3.5.1 and E.2)."""
P_DATA_TF = 0x04
KNOWN_PDUS = range(0x01, 0x08)
IS_COMMAND, IS_LAST = 0x01, 0x02
LONGEST_COMMAND = 1 << 16

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")
_C_STORE_RQ, _C_STORE_RSP, _NO_DATA_SET = 0x0001, 0x8001, 0x0101
_SOP_CLASS_UID, _COMMAND_FIELD, _MESSAGE_ID, _RESPONDED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _SOP_INSTANCE_UID = 0x0800, 0x0900, 0x1000


class PduFault(Exception):
    """What the peer sent breaks the protocol or a limit: the association is aborted."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command set (PS3.7 6.3.1): element number of group 0000 -> value."""

    values: dict[int, bytes]

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows; raises PduFault when that is not said."""
        return self._number(_DATA_SET_TYPE) != _NO_DATA_SET

    @property
    def is_store(self) -> bool:
        """Whether it is a C-STORE-RQ; raises PduFault when it does not say what it is."""
        return self._number(_COMMAND_FIELD) == _C_STORE_RQ

    def store_request(self) -> StoreRequest:
        """The C-STORE-RQ it is; raises PduFault when it is none that could be answered."""
        if not self.has_data_set:
            raise PduFault("a C-STORE-RQ without a data set")
        return StoreRequest(self._number(_MESSAGE_ID), self._uid(_SOP_CLASS_UID), self._uid(_SOP_INSTANCE_UID))

    def _number(self, element: int) -> int:
        value = self.values.get(element, b"")
        if len(value) != _US.size:
            raise PduFault(f"a command without (0000,{element:04x})")
        return int(_US.unpack(value)[0])

    def _uid(self, element: int) -> str:
        try:
            uid = self.values.get(element, b"").rstrip(b"\0 ").decode("ascii")
        except UnicodeDecodeError:
            uid = ""
        if not uid:
            raise PduFault(f"a C-STORE-RQ without a UID in (0000,{element:04x})")
        return uid


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE-RQ names; the UIDs are the peer's words and unchecked."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def read_command(encoded: bytes) -> Command:
    """The command set of a message: always Implicit VR Little Endian; raises PduFault for anything else."""
    values: dict[int, bytes] = {}
    at = 0
    while at < len(encoded):
        if len(encoded) - at < _ELEMENT.size:
            raise PduFault("a command set that ends inside an element")
        group, element, length = _ELEMENT.unpack_from(encoded, at)
        at += _ELEMENT.size
        if group != 0x0000 or length > len(encoded) - at:
            raise PduFault("a command set with an element that is none")
        values[element] = encoded[at : at + length]
        at += length
    return Command(values)


def store_response(context_id: int, request: StoreRequest, status: int) -> bytes:
    """The C-STORE-RSP to a request, as one P-DATA-TF PDU."""
    body = b"".join(
        (
            _element(_SOP_CLASS_UID, _padded(request.sop_class_uid)),
            _element(_COMMAND_FIELD, _US.pack(_C_STORE_RSP)),
            _element(_RESPONDED_ID, _US.pack(request.message_id)),
            _element(_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
            _element(_STATUS, _US.pack(status)),
            _element(_SOP_INSTANCE_UID, _padded(request.sop_instance_uid)),
        )
    )
    command = _element(0x0000, len(body).to_bytes(4, "little")) + body
    head = PDU_HEAD.pack(P_DATA_TF, 0, len(command) + 6)
    return head + PDV_HEAD.pack(len(command) + 2, context_id, IS_COMMAND | IS_LAST) + command


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0x0000, element, len(value)) + value


def _padded(uid: str) -> bytes:
    """A UID of even length (PS3.5 9.1: padded with a zero byte)."""
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)
