"""A receiver on a free port, and a peer that speaks to it byte by byte."""

from __future__ import annotations

import io
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from dicomnode.fast_server import open_listener
from dicomnode.fast_store import Deadlines
from dicomnode.peer import Peer
from dicomnode.receive import Receiver
from dicomnode.tls import client_context, server_context
from storage.instance_files import InstanceFiles
from tests.builders_tls import Authority, peer_over_tls

PEERS = {
    "scanner": Peer(name="scanner", ae_title="SCANNER", may=("store",)),
    "viewer": Peer(name="viewer", ae_title="VIEWER", may=("query",)),
    "far": Peer(name="far", ae_title="FAR", may=("store",), networks=("10.0.0.0/8",)),
}
QUICK = Deadlines(stall_s=1.0, pdu_s=2.0, negotiation_s=3.0)
"""For peers that are slow on purpose; a busy machine is not as slow as this, or honest ones would be dropped too."""


class Station:
    """A receiver on a free port, and what it told; with an authority on a second one, over TLS."""

    def __init__(
        self,
        files: InstanceFiles,
        *,
        receive_path: str = "fast",
        authority: Authority | None = None,
        peers: Mapping[str, Peer] = PEERS,
        **options: Any,
    ) -> None:
        self.files, self.arrived = files, threading.Event()
        self.told: list[tuple[str, str, Mapping[str, Any]]] = []
        settings: dict[str, Any] = {"maximum_associations": 8, "maximum_pdu": 131072, "idle_s": 30, **options}
        self.receiver = Receiver(
            ae_title="DICOMNODE",
            peers=peers,
            files=files,
            arrived=self.arrived,
            happened=lambda event, peer, details: self.told.append((event, peer, details)),
            receive_path=receive_path,  # type: ignore[arg-type]
            **settings,
        )
        self.port, self.tls_port = self.receiver.start("127.0.0.1", 0), 0
        self._tls: ssl.SSLContext | None = None
        if authority is not None:
            context = server_context(authority.certified("node").identity, clients_required=True)
            self.tls_port = self.receiver.serve(open_listener("127.0.0.1", 0), tls=context)
            self._tls = client_context(authority.certified("scanner").identity, peer_over_tls(self.tls_port))

    def call(self, **options: Any) -> RawPeer:
        """A connection of a peer, over TLS where that is spoken."""
        return RawPeer(self.tls_port or self.port, tls=self._tls, **options)

    def send(self, dataset: Dataset, *, calling: str = "SCANNER", syntaxes: Any = None) -> int | None:
        """The status of one C-STORE; None when the association was not accepted."""
        entity = AE(calling)
        entity.add_requested_context(CTImageStorage, syntaxes or [dataset.file_meta.TransferSyntaxUID])
        association = entity.associate("127.0.0.1", self.port, ae_title="DICOMNODE")
        if not association.is_established:
            return None
        status = association.send_c_store(dataset)
        association.release()
        return int(status.Status)

    def events(self) -> list[str]:
        """What was told, by name."""
        return [event for event, _, _ in self.told]


def encoded_data_set(path: Path) -> bytes:
    """A file's data set as it goes over the wire."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


class RawPeer:
    """A peer that sends what it is told, right or wrong."""

    def __init__(
        self, port: int, *, associate: bool = True, maximum_pdu: int = 16384, tls: ssl.SSLContext | None = None
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        if associate:
            self.send(associate_request(maximum_pdu=maximum_pdu))
            kind, _ = self.read_pdu()
            assert kind == 0x02, f"the association was not accepted: PDU 0x{kind:02X}"

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> None:
        """These bytes; raises ConnectionError when the node has closed the connection."""
        try:
            self.socket.sendall(octets)
        except ssl.SSLError as fault:
            raise ConnectionError from fault

    def send_fragment(self, flags: int, content: bytes, *, context_id: int = 1) -> None:
        """One fragment in a PDU of its own; flags: 1 command, 2 last."""
        self.send(p_data(fragment(flags, content, context_id=context_id)))

    def read_pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; (-1, b"") when the connection was closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return -1, b""
        kind, _, length = struct.unpack(">BBI", head)
        return kind, self._exactly(length)

    def read_status(self) -> int:
        """The status of the next response."""
        kind, body = self.read_pdu()
        assert kind == 0x04, f"PDU 0x{kind:02X} instead of a response"
        at = body.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return int.from_bytes(body[at + 8 : at + 10], "little")

    def ends(self) -> int:
        """The type of the last PDU before the connection was closed; -1 when there was none."""
        last = -1
        while True:
            kind, _ = self.read_pdu()
            if kind < 0:
                return last
            last = kind

    def _exactly(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            try:
                more = self.socket.recv(count - len(octets))
            except (ConnectionError, ssl.SSLError):
                return b""
            if not more:
                return b""
            octets += more
        return octets


def associate_request(*, maximum_pdu: int = 16384, more: bytes = b"") -> bytes:
    """An A-ASSOCIATE-RQ of SCANNER for CT in Explicit VR Little Endian (PS3.8 9.3.2)."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = b"\x01\0\0\0" + item(0x30, CTImageStorage.encode()) + item(0x40, b"1.2.840.10008.1.2.1")
    user = item(0x51, struct.pack(">I", maximum_pdu)) + item(0x52, b"1.2.3.4") + more
    body = struct.pack(">HH", 1, 0) + b"DICOMNODE".ljust(16) + b"SCANNER".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


def fragment(flags: int, content: bytes, *, context_id: int = 1) -> bytes:
    """A presentation data value item (PS3.8 9.3.5.1)."""
    return struct.pack(">IBB", len(content) + 2, context_id, flags) + content


def p_data(*fragments: bytes) -> bytes:
    """A P-DATA-TF PDU (PS3.8 9.3.5)."""
    body = b"".join(fragments)
    return struct.pack(">BBI", 4, 0, len(body)) + body


def element(number: int, value: bytes) -> bytes:
    """An element of a command set."""
    return struct.pack("<HHI", 0, number, len(value)) + value


def store_command(sop_instance_uid: str, *, sop_class_uid: str = CTImageStorage, message_id: int = 7) -> bytes:
    """A C-STORE-RQ's command set (PS3.7 9.3.1.1)."""

    def uid(value: str) -> bytes:
        return value.encode() + b"\0" * (len(value) % 2)

    body = element(0x0002, uid(sop_class_uid)) + element(0x0100, struct.pack("<H", 1))
    body += element(0x0110, struct.pack("<H", message_id)) + element(0x0700, struct.pack("<H", 0))
    body += element(0x0800, struct.pack("<H", 1)) + element(0x1000, uid(sop_instance_uid))
    return element(0x0000, struct.pack("<I", len(body))) + body


def sop_instance_uid_of(path: Path) -> str:
    """The SOP Instance UID of a file."""
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def explicit(dataset: Dataset) -> bytes:
    """A data set in Explicit VR Little Endian."""
    encoded = io.BytesIO()
    dataset.save_as(encoded, implicit_vr=False, little_endian=True)
    return encoded.getvalue()
