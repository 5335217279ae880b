"""A peer that is called and answers byte by byte as it is told, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicomnode.call import Patience
from dicomnode.fast_pdu import read_command
from dicomnode.peer import Peer
from tests.builders_receive import element, fragment, p_data

HASTY = Patience(connect_s=2.0, negotiation_s=0.4, answer_s=0.4, stall_s=0.4, release_s=0.4)
"""For peers that are slow on purpose."""
ABORT_PDU = b"\x07\0\0\0\0\x04\0\0\x02\x01"
HANG_UP: list[bytes] = []
"""An answer that is none: the connection is closed."""


@dataclass
class Heard:
    """A message that came: its command set, its data set and the lengths of its PDUs."""

    number: int
    context_id: int
    command: dict[int, bytes]
    data_set: bytes = b""
    pdu_lengths: list[int] = field(default_factory=list)

    def response(self, status: int = 0x0000, *, more: bytes = b"", message_id: int | None = None) -> bytes:
        """The command set of the response to it."""
        responded = self.command[0x0110] if message_id is None else struct.pack("<H", message_id)
        kind = struct.unpack("<H", self.command[0x0100])[0] | 0x8000
        body = element(0x0002, self.command[0x0002]) + element(0x0100, struct.pack("<H", kind))
        body += element(0x0120, responded) + element(0x0800, b"\x01\x01") + element(0x0900, struct.pack("<H", status))
        body += more
        return element(0x0000, struct.pack("<I", len(body))) + body

    def done(self, status: int = 0x0000) -> list[bytes]:
        """The response in one PDU, as nearly every peer sends it."""
        return [p_data(fragment(3, self.response(status), context_id=self.context_id))]


Answer = Callable[[Heard], Sequence[bytes]]
"""What is sent, piece by piece; HANG_UP closes the connection; an answer of [b""] is silence."""


class ScriptedPeer:
    """Takes every association and context, keeps what it hears and answers it by `answer`."""

    def __init__(
        self,
        answer: Answer = Heard.done,
        *,
        maximum_length: int = 16384,
        welcome: bytes | None = None,
        refused: Callable[[bytes], bool] = lambda syntax: False,
        abort_inside: int | None = None,
        takes_bytes: bool = True,
    ) -> None:
        """welcome: sent in the place of an A-ASSOCIATE-AC; abort_inside: aborts after so many PDUs of a message."""
        self.heard: list[Heard] = []
        self.associations = self.released = 0
        self._answer, self._maximum_length, self._welcome = answer, maximum_length, welcome
        self._refused, self._abort_inside, self._takes_bytes = refused, abort_inside, takes_bytes
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> ScriptedPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Every connection is closed."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.settimeout(60)
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            connection.settimeout(20)
            _, body = _pdu(connection)
            self.associations += 1
            if self._welcome is not None:
                connection.sendall(self._welcome)
                connection.recv(1)
                return
            connection.sendall(acceptance(body, maximum_length=self._maximum_length, refused=self._refused))
            if not self._takes_bytes:
                self._over.wait(20)
            while (heard := self._message(connection)) is not None:
                self.heard.append(heard)
                answer = self._answer(heard)
                if answer is HANG_UP:
                    return
                for piece in answer:
                    connection.sendall(piece)

    def _message(self, connection: socket.socket) -> Heard | None:
        command, lengths, heard = b"", [], None
        while True:
            kind, body = _pdu(connection)
            if kind == 0x05:
                self.released += 1
                connection.sendall(b"\x06\0\0\0\0\x04\0\0\0\0")
            if kind != 0x04:
                return None
            lengths.append(len(body))
            if len(lengths) == self._abort_inside:
                connection.sendall(ABORT_PDU)
                return None
            at = 0
            while at < len(body):
                length, context_id, flags = struct.unpack_from(">IBB", body, at)
                content = body[at + 6 : at + 4 + length]
                at += 4 + length
                if flags & 1:
                    command += content
                elif heard is not None:
                    heard.data_set += content
                if flags == 3:
                    values = read_command(command).values
                    heard = Heard(len(self.heard) + 1, context_id, values, pdu_lengths=lengths)
                if heard is not None and (flags == 2 or heard.command[0x0800] == b"\x01\x01"):
                    return heard


def acceptance(body: bytes, *, maximum_length: int, refused: Callable[[bytes], bool] = lambda syntax: False) -> bytes:
    """The A-ASSOCIATE-AC to the body of a request (PS3.8 9.3.3)."""
    answer, at = body[:68] + _item(0x10, b"1.2.840.10008.3.1.1.1"), 68
    while at < len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        content = body[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 0x20:
            syntax = content[content.index(b"\x40\0", 4) + 4 :]
            result = 4 if refused(syntax) else 0
            answer += _item(0x21, bytes((content[0], 0, result, 0)) + _item(0x40, syntax))
    answer += _item(0x50, _item(0x51, struct.pack(">I", maximum_length)) + _item(0x52, b"1.2.3.4"))
    return struct.pack(">BBI", 2, 0, len(answer)) + answer


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _pdu(connection: socket.socket) -> tuple[int, bytes]:
    kind, _, length = struct.unpack(">BBI", _exactly(connection, 6))
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    octets = b""
    while len(octets) < count:
        more = connection.recv(count - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets
