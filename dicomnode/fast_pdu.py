"""The bytes of C-STORE and C-ECHO on the wire (PS3.8 9.3.5, PS3.7 9.3): command sets are read, made and cut."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

PDU_HEAD = struct.Struct(">BBI")
"""Type, reserved, length of what follows (PS3.8 9.3.1)."""
PDV_HEAD = struct.Struct(">IBB")
"""Length of what follows, presentation context, message control header (PS3.8 9.3.5.1 and E.2)."""
P_DATA_TF = 0x04
KNOWN_PDUS = range(0x01, 0x08)
IS_COMMAND, IS_LAST = 0x01, 0x02
LONGEST_COMMAND = 1 << 16
LONGEST_FRAGMENT = 128 << 10
"""What we put into one PDU of ours, also where the peer would take more: longer ones are no faster."""

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")
_C_STORE_RQ, _C_STORE_RSP, _C_ECHO_RQ, _IS_RESPONSE = 0x0001, 0x8001, 0x0030, 0x8000
_C_CANCEL_RQ, _MOVE_DESTINATION = 0x0FFF, 0x0600
_NO_DATA_SET, _HAS_DATA_SET, _MEDIUM = 0x0101, 0x0001, 0x0000
_SOP_CLASS_UID, _COMMAND_FIELD, _MESSAGE_ID, _RESPONDED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_MOVE_TITLE, _MOVE_MESSAGE_ID = 0x1030, 0x1031
_PRIORITY, _DATA_SET_TYPE, _STATUS, _SOP_INSTANCE_UID = 0x0700, 0x0800, 0x0900, 0x1000
_VERIFICATION = "1.2.840.10008.1.1"


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

    @property
    def is_store_response(self) -> bool:
        """Whether it is a C-STORE-RSP: the answer to an instance that a C-GET asked for."""
        return self._number(_COMMAND_FIELD) == _C_STORE_RSP

    def store_request(self) -> StoreRequest:
        """The C-STORE-RQ it is; raises PduFault when it is none that could be answered."""
        if not self.has_data_set:
            raise PduFault("a C-STORE-RQ without a data set")
        return StoreRequest(self._number(_MESSAGE_ID), self._uid(_SOP_CLASS_UID), self._uid(_SOP_INSTANCE_UID))

    def status_of(self, request: Command) -> int:
        """The status with which it answers the request; raises PduFault when it is not the answer to that."""
        if self._number(_COMMAND_FIELD) != request._number(_COMMAND_FIELD) | _IS_RESPONSE:
            raise PduFault(f"a command 0x{self._number(_COMMAND_FIELD):04X} instead of the response")
        if self._number(_RESPONDED_ID) != request._number(_MESSAGE_ID):
            raise PduFault(f"a response to message {self._number(_RESPONDED_ID)}, which was not the last one")
        if self.has_data_set:
            raise PduFault("a response with a data set")
        named = self.values.get(_SOP_INSTANCE_UID, b"").strip(b"\0 ")
        if named and named != request.values.get(_SOP_INSTANCE_UID, b"").strip(b"\0 "):
            raise PduFault("a response that names another instance")
        return self._number(_STATUS)

    def answered_by(self, request: Command) -> int:
        """The status of an answer that may bear a data set; as `status_of` (PS3.7 9.1.2-4)."""
        data_set_type = {_DATA_SET_TYPE: _US.pack(_NO_DATA_SET)}
        return Command({**self.values, **data_set_type}).status_of(request)

    def count(self, element: int) -> int | None:
        """A number that may be absent, as those of sub-operations are."""
        value = self.values.get(element, b"")
        return int(_US.unpack(value)[0]) if len(value) == _US.size else None

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


def store_request(
    message_id: int, sop_class_uid: str, sop_instance_uid: str, originator: tuple[str, int] | None = None
) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1.1).

    originator: AE title and message ID of the C-MOVE that it is a part of.
    """
    asked_by: tuple[tuple[int, bytes], ...] = ()
    if originator is not None:
        title = originator[0].encode("ascii")
        asked_by = (_MOVE_TITLE, title + b" " * (len(title) % 2)), (_MOVE_MESSAGE_ID, _US.pack(originator[1]))
    return _command_set(
        (_SOP_CLASS_UID, _padded(sop_class_uid)),
        (_COMMAND_FIELD, _US.pack(_C_STORE_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)),
        (_PRIORITY, _US.pack(_MEDIUM)),
        (_DATA_SET_TYPE, _US.pack(_HAS_DATA_SET)),
        (_SOP_INSTANCE_UID, _padded(sop_instance_uid)),
        *asked_by,
    )


def echo_request(message_id: int) -> bytes:
    """The command set of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return _command_set(
        (_SOP_CLASS_UID, _padded(_VERIFICATION)),
        (_COMMAND_FIELD, _US.pack(_C_ECHO_RQ)),
        (_MESSAGE_ID, _US.pack(message_id)),
        (_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
    )


def query_request(message_id: int, sop_class_uid: str, *, field: int, destination: str | None = None) -> bytes:
    """The command set of a C-FIND-RQ, C-MOVE-RQ or C-GET-RQ (PS3.7 9.3.2-4); destination: that of a C-MOVE."""
    title = b"" if destination is None else destination.encode("ascii")
    where = () if destination is None else ((_MOVE_DESTINATION, title + b" " * (len(title) % 2)),)
    return _command_set(
        (_SOP_CLASS_UID, _padded(sop_class_uid)),
        (_COMMAND_FIELD, _US.pack(field)),
        (_MESSAGE_ID, _US.pack(message_id)),
        *where,
        (_PRIORITY, _US.pack(_MEDIUM)),
        (_DATA_SET_TYPE, _US.pack(_HAS_DATA_SET)),
    )


def cancel_request(message_id: int) -> bytes:
    """The command set of a C-CANCEL-RQ (PS3.7 9.3.2.3)."""
    return _command_set(
        (_COMMAND_FIELD, _US.pack(_C_CANCEL_RQ)),
        (_RESPONDED_ID, _US.pack(message_id)),
        (_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
    )


def store_response(context_id: int, request: StoreRequest, status: int) -> bytes:
    """The C-STORE-RSP to a request, as one P-DATA-TF PDU."""
    command = _command_set(
        (_SOP_CLASS_UID, _padded(request.sop_class_uid)),
        (_COMMAND_FIELD, _US.pack(_C_STORE_RSP)),
        (_RESPONDED_ID, _US.pack(request.message_id)),
        (_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
        (_STATUS, _US.pack(status)),
        (_SOP_INSTANCE_UID, _padded(request.sop_instance_uid)),
    )
    return _head(context_id, IS_COMMAND | IS_LAST, len(command)) + command


def longest_fragment(maximum_length: int) -> int:
    """Bytes of one fragment for a peer that takes PDUs of this maximum length (PS3.8 D.1: 0 is no maximum).

    Raises PduFault for one that leaves no room for a fragment.
    """
    room = maximum_length - PDV_HEAD.size if maximum_length else LONGEST_FRAGMENT
    if room < 2:
        raise PduFault(f"a maximum length of {maximum_length} bytes, into which no fragment fits")
    return min(room, LONGEST_FRAGMENT) & ~1


def cut(content: bytes | memoryview, *, context_id: int, flags: int, longest: int) -> list[bytes | memoryview]:
    """The content as P-DATA-TF PDUs of one fragment each: heads and views in turn, nothing is copied.

    flags: those of the last fragment; the ones before it are not the last of their message.
    """
    view = memoryview(content)
    last_at = max(0, (len(view) - 1) // longest * longest)
    before = _head(context_id, flags & ~IS_LAST, longest)
    parts: list[bytes | memoryview] = []
    for at in range(0, last_at, longest):
        parts += (before, view[at : at + longest])
    parts += (_head(context_id, flags, len(view) - last_at), view[last_at:])
    return parts


def _head(context_id: int, flags: int, length: int) -> bytes:
    """What stands before so many bytes of a fragment that is alone in its PDU."""
    head = PDU_HEAD.pack(P_DATA_TF, 0, length + PDV_HEAD.size)
    return head + PDV_HEAD.pack(length + 2, context_id, flags)


def command_set(values: Mapping[int, bytes]) -> bytes:
    """The command set of these elements of group 0000, padded already, in the order of their numbers."""
    return _command_set(*sorted(values.items()))


def _command_set(*elements: tuple[int, bytes]) -> bytes:
    """A command set with its group length (PS3.7 E.1)."""
    body = b"".join(_element(number, value) for number, value in elements)
    return _element(0x0000, len(body).to_bytes(4, "little")) + body


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0x0000, element, len(value)) + value


def _padded(uid: str) -> bytes:
    """A UID of even length (PS3.5 9.1: padded with a zero byte)."""
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)
