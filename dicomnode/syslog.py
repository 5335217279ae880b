"""Syslog out: messages of RFC 5424 to one receiver, over TLS (RFC 5425), TCP (RFC 6587) or UDP (RFC 5426)."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from dicomnode.errors import ReceiverAway
from dicomnode.tls import in_words

T = TypeVar("T")
Transport = Literal["tls", "tcp", "udp"]
PRIORITY = 85
"""PS3.15 A.6: facility 10 (security), severity 5 (normal but significant)."""
WARNING_PRIORITY = 84
"""Severity 4: for what did not work."""
MSGID = "DICOM+RFC3881"
LONGEST: dict[Transport, int] = {"tls": 32_000, "tcp": 32_000, "udp": 1_900}
"""Bytes of a message that every receiver takes: PS3.15 A.6, and RFC 5426 3.2."""
UDP_PAUSE_S, UDP_LISTEN_S = 0.002, 0.2
PIECE = 65_536
LARGEST_SEQUENCE = 2_147_483_647


@dataclass(frozen=True, slots=True)
class Place:
    """Where the receiver listens. tls_name: the name that its certificate must bear."""

    host: str
    port: int
    transport: Transport
    tls_name: str = ""
    timeout_s: float = 20.0


def syslog_message(body: bytes, *, at: datetime, host: str, seq: int, process: str, warns: bool = False) -> bytes:
    """One message (RFC 5424 6); its sequenceId is the row's number: the receiver sees what is missing or double.

    host, process: who sends; at: when it happened, not when it is sent.
    """
    moment = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    names = " ".join((_name(host, 255), "dicomnode", _name(process, 128), MSGID))
    sequence = (seq - 1) % LARGEST_SEQUENCE + 1
    head = f'<{WARNING_PRIORITY if warns else PRIORITY}>1 {moment} {names} [meta sequenceId="{sequence}"] '
    return head.encode("ascii") + body


def _name(text: str, longest: int) -> str:
    """PRINTUSASCII without blanks, or the NILVALUE."""
    return re.sub("[^!-~]", "_", text)[:longest] or "-"


def framed(message: bytes) -> bytes:
    """Octet counting (RFC 5425 4.3, RFC 6587 3.4.1): the length, a blank, the message."""
    return b"%d %b" % (len(message), message)


def send_messages(place: Place, messages: Sequence[bytes], *, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
    """Every message has been read by the receiver when this returns; ReceiverAway: some may have been, send all again.

    Syslog has no answers. Over TCP and TLS a connection carries one call's messages and is then ended in order: that
    the receiver ends its side says that it has read all of them. Over UDP nobody can know.
    """
    try:
        if place.transport == "udp":
            _send_datagrams(place, messages)
        else:
            _send_stream(place, b"".join(map(framed, messages)), tls)
    except ssl.SSLError as fault:
        raise ReceiverAway(f"syslog receiver {place.host}:{place.port}: {in_words(fault)}") from fault
    except OSError as fault:
        why = "it did not take it in time" if isinstance(fault, TimeoutError) else fault.strerror or str(fault)
        if place.transport == "tls" and isinstance(fault, ConnectionResetError):
            why += " (does it believe who signed our certificate?)"
        raise ReceiverAway(f"syslog receiver {place.host}:{place.port}: {why}") from fault


def _send_stream(place: Place, octets: bytes, tls: Callable[[], ssl.SSLContext] | None) -> None:
    if (place.transport == "tls") != (tls is not None):
        raise ValueError("a TLS context is given for TLS, and only then")
    with socket.create_connection((place.host, place.port), timeout=place.timeout_s) as plain:
        if tls is not None:
            secure = _SecureStream(plain, tls(), place.tls_name or place.host)
            secure.send(octets)
            secure.end()
            return
        plain.sendall(octets)
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(PIECE):  # a reset, when something lies unread: an end only when everything was read
            pass


class _SecureStream:
    """TLS over a connected socket, each step in our hands.

    SSLSocket.unwrap takes a fatal alert, by which a receiver refuses our certificate after the handshake of TLS 1.3,
    for an end in order: so the end is read here, as data would be.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, name: str) -> None:
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self._plain, self._received, self._to_send = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=name)
        self._until(self._tls.do_handshake)
        self._certificate_was_checked = self._tls.version() != "TLSv1.3"

    def send(self, octets: bytes) -> None:
        """All of it, encrypted, with the system."""
        self._tls.write(octets)
        self._flush()

    def end(self) -> None:
        """Our close_notify, then theirs (RFC 5425 4.4).

        Of a receiver that ends the connection without it, only the system's word remains that everything was read.
        That is enough when it is known that it took our certificate: TLS 1.2, or a ticket for a next session.
        """
        with suppress(ssl.SSLWantReadError):
            self._tls.read(PIECE)
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        try:
            while self._until(lambda: self._tls.read(PIECE)):
                pass
        except ssl.SSLZeroReturnError:
            return
        except ssl.SSLEOFError as fault:
            session = self._tls.session
            if not self._certificate_was_checked and not (session is not None and session.has_ticket):
                raise OSError(
                    "it ended the connection without close_notify (RFC 5425 4.4): whether it took our certificate "
                    "cannot be known"
                ) from fault

    def _until(self, step: Callable[[], T]) -> T:
        """What the step gives, once enough has been received for it."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                if piece := self._plain.recv(PIECE):
                    self._received.write(piece)
                else:
                    self._received.write_eof()
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if octets := self._to_send.read():
            self._plain.sendall(octets)


def _send_datagrams(place: Place, messages: Sequence[bytes]) -> None:
    """One each, not too fast. Where nobody listens its system may say so (ICMP): that is all we can hear."""
    family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sender:
        sender.connect(address)
        for message in messages:
            sender.send(message)
            time.sleep(UDP_PAUSE_S)
        time.sleep(UDP_LISTEN_S)
        if error := sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "nobody listens there")
