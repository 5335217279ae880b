"""The answers to one C-FIND, C-MOVE or C-GET request: those that are pending as they come, then the last one."""

from __future__ import annotations

import queue
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dicomnode.errors import AssociationBroken
from dicomnode.fast_pdu import (
    IS_COMMAND,
    IS_LAST,
    Command,
    PduFault,
    command_set,
    cut,
    longest_fragment,
    read_command,
    store_request,
)
from dicomnode.negotiation import Offer
from dicomnode.part10 import DataSet

PENDING, PENDING_WITH_IGNORED_KEYS, CANCELLED, SUCCESS = 0xFF00, 0xFF01, 0xFE00, 0x0000
SEVERAL = (PENDING, PENDING_WITH_IGNORED_KEYS)
OUT_OF_RESOURCES, DOES_NOT_MATCH, UNABLE = 0xA700, 0xA900, 0xC000
LOOK_S = 0.5
TOGETHER_BYTES, TOGETHER_S = 32 << 10, 0.05
LONGEST_COMMENT = 64
_US = struct.Struct("<H")
_NO_DATA_SET, _HAS_DATA_SET = 0x0101, 0x0001


@dataclass(frozen=True, slots=True)
class Counts:
    """How far the sub-operations of a C-MOVE or C-GET are (PS3.7 9.1.3, 9.1.4)."""

    remaining: int | None
    completed: int
    failed: int
    warning: int


class Answering:
    """One request on one association; what it sends goes out as whole PDUs, in order."""

    def __init__(self, association: Any, request: Any, context: Any) -> None:
        """request, context: pynetdicom's own."""
        self.association, self.request, self.context = association, request, context
        self.is_implicit = str(context.transfer_syntax[0]) == "1.2.840.10008.1.2"
        self._field = {"C_FIND": 0x8020, "C_GET": 0x8010, "C_MOVE": 0x8021}[type(request).__name__]
        self._longest = longest_fragment(association.requestor.maximum_length)
        self._waiting: list[bytes | memoryview] = []
        self._waiting_bytes, self._sent_at = 0, time.monotonic()

    @property
    def identifier(self) -> bytes:
        """The request's data set."""
        held = self.request.Identifier
        return b"" if held is None else bytes(held.getvalue())

    @property
    def is_cancelled(self) -> bool:
        """Whether the peer wants no more of it."""
        return self.request.MessageID in self.association.dimse.cancel_req

    @property
    def is_open(self) -> bool:
        """Whether the peer is there to hear the answers."""
        association = self.association
        return bool(
            association.is_established
            and association.dul.is_alive()
            and association.dul.peek_next_pdu() is None  # an abort or a release
        )

    @property
    def is_given_up(self) -> bool:
        """Whether nobody wants the further answers."""
        return self.is_cancelled or not self.is_open

    def answer(
        self,
        status: int,
        *,
        identifier: bytes | None = None,
        counts: Counts | None = None,
        comment: str = "",
        offending: int | None = None,
    ) -> None:
        """One response. comment: words without a patient in them; offending: the tag at fault."""
        values: dict[int, bytes] = {
            0x0002: _uid(str(self.request.AffectedSOPClassUID)),
            0x0100: _US.pack(self._field),
            0x0120: _US.pack(self.request.MessageID),
            0x0800: _US.pack(_NO_DATA_SET if identifier is None else _HAS_DATA_SET),
            0x0900: _US.pack(status),
        }
        if offending is not None:
            values[0x0901] = struct.pack("<HH", offending >> 16, offending & 0xFFFF)
        if comment:
            words = comment.encode("ascii", "replace")[:LONGEST_COMMENT]
            values[0x0902] = words + b" " * (len(words) % 2)
        if counts is not None:
            numbers = {
                0x1020: counts.remaining,
                0x1021: counts.completed,
                0x1022: counts.failed,
                0x1023: counts.warning,
            }
            values |= {element: _US.pack(number) for element, number in numbers.items() if number is not None}
        self._send(command_set(values), identifier, at_once=status not in SEVERAL or counts is not None)

    def _send(self, command: bytes, identifier: bytes | None, *, at_once: bool) -> None:
        """Many answers that are found at once go out together, so that each costs no packet of its own."""
        number = self.context.context_id
        self._waiting += cut(command, context_id=number, flags=IS_COMMAND | IS_LAST, longest=self._longest)
        if identifier is not None:
            self._waiting += cut(identifier, context_id=number, flags=IS_LAST, longest=self._longest)
        self._waiting_bytes += len(command) + len(identifier or b"")
        if at_once or self._waiting_bytes > TOGETHER_BYTES or time.monotonic() - self._sent_at > TOGETHER_S:
            octets, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
            send_octets(self.association, octets)
            self._sent_at = time.monotonic()


class AskedLine:
    """The association of a C-GET, on which its caller takes instances (PS3.4 C.4.3); as OutgoingAssociation stores."""

    def __init__(self, association: Any, *, answer_s: float) -> None:
        """answer_s: how long the peer may take to store one instance."""
        self._association, self._answer_s = association, answer_s
        self._longest = longest_fragment(association.requestor.maximum_length)
        self._message_id = 0
        # The fast path gives responses as they come; pynetdicom's own way takes half a millisecond for one.
        self._heard: Any = getattr(association, "store_responses", None) or association.dimse.msg_queue
        self.contexts: Mapping[Offer, int] = {
            (str(one.abstract_syntax), str(one.transfer_syntax[0])): number
            for number, one in association._accepted_cx.items()
            if one.as_scu
        }

    def store(self, data_set: DataSet, *, meanwhile: Callable[[], None] | None = None) -> int:
        """The status of one C-STORE. Raises AssociationBroken when the peer does not answer it, and OSError."""
        meta = data_set.meta
        context_id = self.contexts[meta.sop_class_uid, meta.transfer_syntax_uid]
        self._message_id = self._message_id % 0xFFFF + 1
        command = store_request(self._message_id, meta.sop_class_uid, meta.sop_instance_uid)
        parts = cut(command, context_id=context_id, flags=IS_COMMAND | IS_LAST, longest=self._longest)
        left = data_set.length
        try:
            for piece in data_set.pieces:
                left -= len(piece)
                if left < 0:
                    raise OSError(f"the file of {meta.sop_instance_uid} grew while it was sent")
                parts += cut(piece, context_id=context_id, flags=0 if left else IS_LAST, longest=self._longest)
                send_octets(self._association, b"".join(parts))
                parts = []
            if left:
                raise OSError(f"the file of {meta.sop_instance_uid} shrank while it was sent")
        except OSError:  # half a data set is no data set
            self._association.abort()
            raise
        if meanwhile is not None:
            meanwhile()
        try:
            return self._status(read_command(command))
        except PduFault as fault:
            raise AssociationBroken(f"the peer answered a C-STORE with {fault}") from fault

    def _status(self, request: Command) -> int:
        ends_at = time.monotonic() + self._answer_s
        while time.monotonic() < ends_at:
            try:
                heard = self._heard.get(timeout=LOOK_S)
            except queue.Empty:
                if not self._association.dul.is_alive() or self._association.dul.peek_next_pdu() is not None:
                    break
                continue
            if isinstance(heard, Command):
                return heard.status_of(request)
            if type(heard[1]).__name__ == "C_STORE" and heard[1].MessageIDBeingRespondedTo == self._message_id:
                return int(heard[1].Status)
        raise AssociationBroken("the peer did not answer a C-STORE that it had asked for by C-GET")


def send_octets(association: Any, octets: bytes) -> None:
    """Whole PDUs go out: on the fast path by the thread that owns the connection, else at once."""
    own = getattr(association.dul, "send_octets", None)
    if own is not None:
        own(octets)
    else:
        association.dul.socket.send(octets)
        association.dul._idle_timer.restart()


def _uid(uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return value + b"\0" * (len(value) % 2)
