"""A connection that we opened to a peer: whole PDUs in, views of memory out, each under a deadline."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Sequence

from dicomnode.fast_pdu import KNOWN_PDUS, PDU_HEAD, PduFault

QUICKACK = getattr(socket, "TCP_QUICKACK", None)
MOST_PARTS = min(1024, os.sysconf("SC_IOV_MAX"))
SLOWEST_BYTES_S = 8 << 10
"""A peer that takes a message more slowly than this, for longer than it may stall, is given up."""
RECEIVE_BYTES = 1 << 16
ENCRYPTED_BYTES = 256 << 10
Part = bytes | memoryview


class Closed(ConnectionError):
    """The peer closed the connection."""


class Wire:
    """One connection, for one thread at a time. What goes wrong on it is an OSError."""

    def __init__(self, connection: socket.socket, *, stall_s: float) -> None:
        """stall_s: how long the peer may take nothing of what is sent."""
        self._socket, self._stall_s = connection, stall_s
        self._encrypted = isinstance(connection, ssl.SSLSocket)
        self._received, self._whole = bytearray(), True
        self._poller = select.poll()
        self._poller.register(connection, select.POLLIN)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._encrypted:  # blocking, with the kernel's own deadline: one call sends a whole image
            connection.settimeout(None)
            limit = struct.pack("ll", *divmod(int(stall_s * 1e6), 10**6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    @classmethod
    def connect(
        cls, host: str, port: int, *, connect_s: float, stall_s: float, tls: ssl.SSLContext | None, tls_name: str
    ) -> Wire:
        """A connection to there. Raises OSError (ssl.SSLError for TLS) when there is none in time."""
        connection = socket.create_connection((host, port), timeout=connect_s)
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_hostname=tls_name)
            return cls(connection, stall_s=stall_s)
        except BaseException:
            connection.close()
            raise

    def send(self, parts: Sequence[Part]) -> None:
        """All of it, in this order: whole PDUs. Raises TimeoutError when the peer takes them too slowly."""
        ends_at = time.monotonic() + self._stall_s + sum(map(len, parts)) / SLOWEST_BYTES_S
        self._whole = False
        if self._encrypted:
            self._send_encrypted(parts, ends_at)
        else:
            self._send_plain(list(parts), ends_at)
        self._whole = True

    def send_last(self, pdu: bytes) -> None:
        """As much of the PDU as goes out at once, before the connection is closed.

        Nothing when a PDU before it went out in part: these bytes would pass for the rest of an image.
        """
        if self._whole:
            self._socket.settimeout(0)
            self._socket.send(pdu)

    def _send_plain(self, left: list[Part], ends_at: float) -> None:
        at = 0
        while at < len(left):
            try:
                sent = self._socket.sendmsg(left[at : at + MOST_PARTS])
            except BlockingIOError:
                raise TimeoutError from None
            while at < len(left) and sent >= len(left[at]):
                sent -= len(left[at])
                at += 1
            if sent:
                left[at] = memoryview(left[at])[sent:]
            if at < len(left) and time.monotonic() > ends_at:
                raise TimeoutError

    def _send_encrypted(self, parts: Sequence[Part], ends_at: float) -> None:
        """Joined: a TLS record for each head would cost more than the copy."""
        self._socket.settimeout(self._stall_s)
        joined = bytearray()
        for number, part in enumerate(parts, 1):
            joined += part
            if len(joined) >= ENCRYPTED_BYTES or number == len(parts):
                if time.monotonic() > ends_at:
                    raise TimeoutError
                self._socket.sendall(joined)
                joined.clear()

    def read_pdu(self, *, longest: int, within_s: float) -> tuple[int, bytes]:
        """Type and body of the next PDU. Raises PduFault when it is none, or longer than that."""
        ends_at = time.monotonic() + within_s
        self._receive(PDU_HEAD.size, ends_at)
        kind, _, length = PDU_HEAD.unpack_from(self._received)
        if kind not in KNOWN_PDUS:
            raise PduFault(f"a PDU of the unknown type 0x{kind:02X}")
        if length > longest:
            raise PduFault(f"a PDU of {length} bytes, where {longest} are the most")
        end = PDU_HEAD.size + length
        self._receive(end, ends_at)
        body = bytes(self._received[PDU_HEAD.size : end])
        del self._received[:end]
        return kind, body

    def _receive(self, count: int, ends_at: float) -> None:
        """At least so many bytes are there."""
        while len(self._received) < count:
            if QUICKACK is not None:  # the kernel forgets it; a peer with Nagle on waits for the acknowledgement
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.settimeout(left_s)  # poll does not see what is decrypted already
            elif not self._poller.poll(left_s * 1000):
                raise TimeoutError
            more = self._socket.recv(RECEIVE_BYTES)
            if not more:
                raise Closed
            self._received += more

    @property
    def silent(self) -> bool:
        """Whether it is open and the peer has said nothing: nothing waits to be read."""
        decrypted = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        return not self._received and not decrypted and not self._poller.poll(0)

    def close(self) -> None:
        """What was not sent is lost."""
        self._socket.close()
