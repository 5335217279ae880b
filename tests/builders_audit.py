"""Rows of the audit, and a syslog receiver that may be away, refuse, or never end a connection."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lxml import etree

from dicomnode.audit_message import Reporter
from dicomnode.peer import Peer
from storage.audit import Entry
from storage.audit_spool import Waiting

SCHEMA = etree.RelaxNG(etree.parse(str(Path(__file__).with_name("audit_message.rng"))))
AT = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
SERIES, STUDY = "1.2.3.4", "1.2.3"
PEERS = {
    "scanner": Peer(name="scanner", ae_title="CT1", host="10.1.2.3", port=104, may=("store",)),
    "pacs": Peer(name="pacs", ae_title="PACS", host="pacs.hospital", port=104),
}
REPORTER = Reporter("DICOMNODE", "node-1", "DICOMNODE", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", peers=PEERS)


def row(
    event: str, details: Mapping[str, Any] | None = None, *, peer: str = "", series: str = "", **more: Any
) -> Waiting:
    """A row as the spool gives it; sane by default."""
    entry = Entry(7, AT, event, series, more.pop("job_id", None), peer, dict(details or {}), "0" * 64, "ab" * 32)
    if series and "study_instance_uid" not in more:
        more["study_instance_uid"] = STUDY
    return Waiting(entry, **more)


def parsed(message: bytes) -> etree._Element:
    """The message, which the schema of PS3.15 A.5.1 allows."""
    found = etree.fromstring(message)
    assert SCHEMA.validate(found), SCHEMA.error_log
    return found


def details_of(found: etree._Element, identifier: str = "Security Audit Log") -> dict[str, str]:
    """The details of the object with that name, or that ID."""
    for one in found.iter("ParticipantObjectIdentification"):
        if identifier in (one.findtext("ParticipantObjectName"), one.get("ParticipantObjectID")):
            return {
                pair.get("type"): base64.b64decode(pair.get("value")).decode()
                for pair in one.iter("ParticipantObjectDetail")
            }
    raise AssertionError(f"there is no object {identifier}")


SYSLOG = re.compile(
    rb"<(?P<priority>8[45])>1 (?P<at>\S+) (?P<host>\S+) dicomnode (?P<process>\d+) DICOM\+RFC3881 "
    rb'\[meta sequenceId="(?P<seq>\d+)"\] (?P<body><\?xml .*)',
    re.DOTALL,
)


def seq_of(message: bytes) -> int:
    """The number of the row that a syslog message of RFC 5424 tells of."""
    found = SYSLOG.fullmatch(message)
    assert found, message[:200]
    return int(found["seq"])


@dataclass
class Receiver:
    """A syslog receiver on loopback: what it has read, in the order of its coming."""

    port: int
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def seqs(self) -> list[int]:
        """The numbers of the rows it heard of."""
        return [seq_of(one) for one in self.messages]


@contextmanager
def stream_receiver(
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    drop_after: int | None = None,
    ends: bool = True,
    notifies: bool = True,
) -> Iterator[Receiver]:
    """Over TCP or TLS. drop_after: each connection is reset after so many messages; ends: whether it ends its side.

    notifies: whether it ends TLS with its own word, close_notify.
    """
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.05)
        heard = Receiver(listener.getsockname()[1])
        stop = threading.Event()

        def serve() -> None:
            held: list[socket.socket] = []
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                connection.settimeout(10)
                held.append(connection)
                heard.connections += 1
                with contextlib.suppress(OSError):
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                        held.append(connection)
                    whole = _read_frames(connection, heard, drop_after)
                    if not whole:  # a reset: what lies unread is gone
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    elif isinstance(connection, ssl.SSLSocket) and notifies:
                        connection.unwrap().close()
                if ends:
                    connection.close()
            for one in held:
                one.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join(10)


def _read_frames(connection: socket.socket, heard: Receiver, drop_after: int | None) -> bool:
    """Every frame by its octet count (RFC 6587 3.4.1); whether the connection was read to its end."""
    left, count = b"", 0
    while piece := connection.recv(65536):
        left += piece
        while (blank := left.find(b" ")) > 0 and len(left) > blank + int(left[:blank]):
            end = blank + 1 + int(left[:blank])
            heard.messages.append(left[blank + 1 : end])
            left, count = left[end:], count + 1
            if count == drop_after:
                return False
    assert not left, "the last frame is not whole"
    return True


@contextmanager
def datagram_receiver() -> Iterator[Receiver]:
    """Over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.05)
        heard = Receiver(listener.getsockname()[1])
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    heard.messages.append(listener.recv(65536))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join(10)


def eventually(holds: Callable[[], bool], *, within_s: float = 10.0) -> bool:
    """Whether it holds before the time is over."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
