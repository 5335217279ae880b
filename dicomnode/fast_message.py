"""The fragments of DIMSE messages: a C-STORE's data set goes to its sink 256 KiB at a time, the rest to pynetdicom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pynetdicom.pdu_primitives import P_DATA

from dicomnode.fast_pdu import (
    IS_COMMAND,
    IS_LAST,
    LONGEST_COMMAND,
    PDV_HEAD,
    PduFault,
    StoreRequest,
    read_command,
    store_response,
)

BUFFER_BYTES = 256 << 10
LONGEST_FORWARDED = 4 << 20
"""Longest data set that is no C-STORE's: it is held in memory. Storage commitment of 20,000 instances needs 3 MB."""

MOST_RESPONSES = 8
"""C-STORE responses that wait to be read; who asked by C-GET is sent one instance at a time."""


class StoreSink(Protocol):
    """Where one data set goes; a fault of its own is remembered, and told as the status."""

    def take(self, piece: memoryview) -> None:
        """The next bytes; the view is good during the call only. Raises PduFault to end the association."""

    def finish(self) -> int:
        """The status of the response, once the data set is whole and durable."""

    def drop(self) -> None:
        """The association ended before the data set did."""


OpenStore = Callable[[Any, StoreRequest, str], StoreSink]
"""(association, request, transfer syntax UID) -> the sink of its data set."""


class Messages:
    """What is known of the message that is being read on one association."""

    def __init__(
        self,
        association: Any,
        *,
        open_store: OpenStore,
        fill: Callable[[memoryview], None],
        send: Callable[[bytes], None],
    ) -> None:
        """fill: fills the view with the next bytes from the peer; send: sends them to it."""
        self._association, self._open_store, self._fill, self._send = association, open_store, fill, send
        self._head = memoryview(bytearray(PDV_HEAD.size))
        self._buffer: memoryview | None = None
        self._filled = 0
        self._command = bytearray()
        self._store: tuple[int, StoreRequest, StoreSink] | None = None
        self._forwarded: int | None = None

    @property
    def in_store(self) -> bool:
        """Whether the data set of a C-STORE has begun and not ended."""
        return self._store is not None

    def read_p_data(self, left: int) -> None:
        """The fragments of a P-DATA-TF PDU (PS3.8 9.3.5)."""
        head = self._head
        while left:
            if left < PDV_HEAD.size:
                raise PduFault("a P-DATA PDU that ends inside the head of a fragment")
            self._fill(head)
            length, context_id, flags = PDV_HEAD.unpack(head)
            if length < 2 or length + 4 > left:
                raise PduFault("a fragment that is longer than its PDU")
            left -= length + 4
            length -= 2
            if flags & IS_COMMAND:
                self._read_command(context_id, flags, length)
            elif self._forwarded is not None:
                self._forward(context_id, flags, length)
            elif self._store is None or self._store[0] != context_id:
                raise PduFault("a fragment of a data set without its command")
            else:
                self._read_fragment(length)
                if flags & IS_LAST:
                    self._answer()

    def _read_command(self, context_id: int, flags: int, length: int) -> None:
        if self._store is not None or self._forwarded is not None:
            raise PduFault("a command inside a data set")
        begin = len(self._command)
        if begin + length > LONGEST_COMMAND:
            raise PduFault(f"a command set of more than {LONGEST_COMMAND} bytes")
        self._command += bytes(length)
        with memoryview(self._command) as view, view[begin:] as rest:
            self._fill(rest)
        if not flags & IS_LAST:
            return
        encoded, self._command = bytes(self._command), bytearray()
        command = read_command(encoded)
        context = self._association._accepted_cx.get(context_id)
        if context is None:
            raise PduFault(f"a command in presentation context {context_id}, which was not accepted")
        if command.is_store:
            request = command.store_request()
            self._store = (
                context_id,
                request,
                self._open_store(self._association, request, str(context.transfer_syntax[0])),
            )
            self._filled = 0
        elif command.is_store_response and not command.has_data_set:
            if self._association.store_responses.qsize() >= MOST_RESPONSES:
                raise PduFault("responses to instances that nobody sent")
            self._association.store_responses.put(command)
        else:
            self._forwarded = 0 if command.has_data_set else None
            self._to_dimse(context_id, flags, encoded)

    def _read_fragment(self, length: int) -> None:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BUFFER_BYTES))
        while length:
            count = min(length, BUFFER_BYTES - self._filled)
            self._fill(self._buffer[self._filled : self._filled + count])
            self._filled += count
            length -= count
            if self._filled == BUFFER_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._store is not None and self._buffer is not None and self._filled:
            self._store[2].take(self._buffer[: self._filled])
        self._filled = 0

    def _answer(self) -> None:
        """The data set is whole: its sink decides, and the peer hears it at once."""
        self._flush()
        if self._store is not None:
            context_id, request, sink = self._store
            status = sink.finish()
            self._store = None
            self._send(store_response(context_id, request, status))

    def _forward(self, context_id: int, flags: int, length: int) -> None:
        """A fragment of another service's data set: pynetdicom takes it from here."""
        self._forwarded = (self._forwarded or 0) + length
        if self._forwarded > LONGEST_FORWARDED:
            raise PduFault(f"a data set of more than {LONGEST_FORWARDED} bytes that is not a C-STORE's")
        fragment = bytearray(length)
        with memoryview(fragment) as view:
            self._fill(view)
        if flags & IS_LAST:
            self._forwarded = None
        self._to_dimse(context_id, flags, bytes(fragment))

    def _to_dimse(self, context_id: int, flags: int, fragment: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, bytes((flags,)) + fragment))
        try:
            self._association.dimse.receive_primitive(primitive)
        except Exception as fault:  # whatever hostile bytes make pynetdicom raise
            raise PduFault(f"a message that cannot be read: {type(fault).__name__}") from fault

    def drop(self) -> None:
        """What was not whole is forgotten."""
        if self._store is not None:
            sink, self._store = self._store[2], None
            sink.drop()
        self._command, self._forwarded, self._filled, self._buffer = bytearray(), None, 0, None
