"""C-STORE in: an instance is durable before its sender hears success."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from pynetdicom import AE, _config, evt

from dicomnode.contexts import accepted_contexts
from dicomnode.errors import DatasetUnfit, InstanceTooLong
from dicomnode.fast_message import StoreSink
from dicomnode.fast_pdu import PduFault, StoreRequest
from dicomnode.fast_server import FastServer, PlainServer, open_listener
from dicomnode.fast_store import Deadlines
from dicomnode.incoming import Incoming
from dicomnode.peer import Peer
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.errors import InstanceConflict, StorageFull
from storage.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)
_config.LOG_HANDLER_LEVEL = "none"  # its own log of every PDU costs 11-18 % and holds patients' names

Happening = Callable[[str, str, Mapping[str, Any]], None]
"""Told of what the audit must know: (event, peer, details)."""
ReceivePath = Literal["fast", "plain"]

REFUSAL_ROW_S = 60.0
LOOK_S = 0.1
LONGEST_INSTANCE = 4 << 30
PERMANENT, TRANSIENT = (0x01, 0x01), (0x02, 0x03)
"""PS3.8 Table 9-21: rejected permanent by the service user; rejected transient by the provider (presentation)."""

SUCCESS, NOT_AUTHORISED, DUPLICATE = 0x0000, 0x0124, 0x0111
OUT_OF_RESOURCES, DATASET_DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0xA700, 0xA900, 0xC000
FAULT_STATUS: Mapping[type[Exception], int] = {
    StorageFull: OUT_OF_RESOURCES,
    InstanceTooLong: OUT_OF_RESOURCES,
    InstanceConflict: DUPLICATE,
    DatasetUnfit: DATASET_DOES_NOT_MATCH,
}
"""PS3.4 Table B.2-1: the only place where a fault becomes a C-STORE status; what is not named is 0xC000."""
CONFLICT_STATUS: Mapping[str, int] = {"duplicate": DUPLICATE, "success": SUCCESS}
"""What `conflict_status` of node.toml means; success is for senders that stop at a refusal."""


@dataclass(slots=True)
class _Caller:
    """Who is at the other end of an association, and how many of its instances were kept and refused."""

    name: str
    peer: Peer
    kept: int = 0
    refused: int = 0
    unauthorised: int = 0


class Receiver:
    """The C-ECHO and C-STORE provider on one port."""

    def __init__(
        self,
        *,
        ae_title: str,
        peers: Mapping[str, Peer],
        files: InstanceFiles,
        arrived: threading.Event,
        happened: Happening,
        maximum_associations: int,
        maximum_pdu: int,
        idle_s: float,
        conflict_status: int = DUPLICATE,
        has_room: Callable[[], bool] = lambda: True,
        receive_path: ReceivePath = "fast",
        maximum_instance_bytes: int = LONGEST_INSTANCE,
        deadlines: Deadlines | None = None,
    ) -> None:
        """arrived: set after each kept instance, so that the catalogue looks at once.

        conflict_status: the answer to an instance that is here with another data set.
        has_room: whether the disk has room for more; asked of every association request.
        receive_path: fast streams a data set from the socket to its file; plain is pynetdicom's own way.
        deadlines: those of the fast path; the plain one knows only that of the negotiation.
        """
        self._has_room = has_room
        self._receive_path, self._maximum_bytes = receive_path, maximum_instance_bytes
        self._deadlines = deadlines or Deadlines()
        self._statuses = {**FAULT_STATUS, InstanceConflict: conflict_status}
        self._ae_title, self._files, self._arrived, self._happened = ae_title, files, arrived, happened
        self.accept_peers(peers)
        self._entity = AE(ae_title)
        self._entity.maximum_associations = maximum_associations
        self._entity.maximum_pdu_size = maximum_pdu
        self._entity.network_timeout = idle_s
        self._entity.acse_timeout = self._deadlines.negotiation_s
        self._entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._server: Any = None
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._callers: WeakKeyDictionary[Any, _Caller] = WeakKeyDictionary()

    def accept_peers(self, peers: Mapping[str, Peer]) -> None:
        """From now on these may call, and no other."""
        self._peers = {peer.ae_title: (name, peer) for name, peer in peers.items()}

    def start(self, host: str, port: int) -> int:
        """The port listened on (`port`, or a free one where it is 0). Raises OSError when it cannot be had."""
        return self.serve(open_listener(host, port))

    def serve(self, listener: socket.socket) -> int:
        """Accepts at a listening socket, which may be shared with other processes; the port it is bound to."""
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_end, ["association released"]),
            (evt.EVT_ABORTED, self._on_end, ["association aborted"]),
        ]
        fast = {"deadlines": self._deadlines, "open_store": self._open_store}
        self._server = self._entity.make_server(
            listener.getsockname()[:2],
            evt_handlers=handlers,
            contexts=accepted_contexts(),
            server_class=FastServer if self._receive_path == "fast" else PlainServer,
            listener=listener,
            **(fast if self._receive_path == "fast" else {}),
        )
        self._entity._servers.append(self._server)
        port = int(listener.getsockname()[1])
        threading.Thread(target=self._server.serve_forever, args=(LOOK_S,), name=f"receive {port}", daemon=True).start()
        return port

    def stop(self, *, drain_s: float) -> None:
        """No new association is accepted; those open have `drain_s` seconds to end, then they are aborted."""
        if self._server is None:
            return
        self._server.shutdown()
        open_ones = list(self._server.active_associations)
        deadline = time.monotonic() + drain_s
        while any(one.is_alive() and one.is_established for one in open_ones) and time.monotonic() < deadline:
            time.sleep(0.05)
        for one in open_ones:
            if one.is_alive():
                one.abort()
        self._server = None

    @property
    def open_associations(self) -> int:
        """How many associations are open now."""
        server = self._server
        return 0 if server is None else sum(bool(one.is_established) for one in server.active_associations)

    def _on_requested(self, event: evt.Event) -> None:
        """Only known peers are answered; a fault in the question counts as no."""
        association = event.assoc
        try:
            calling = association.requestor.primitive.calling_ae_title.strip()
            called = association.requestor.primitive.called_ae_title.strip()
            address = str(association.requestor.address)
            refusal = self._refusal(calling, called, address)
            if refusal is None:
                self._callers[association] = _Caller(*self._peers[calling])
                return
        except Exception as fault:  # fail closed: pynetdicom would log this and go on to accept
            LOG.exception("receive: an association request could not be judged")
            calling, address = "", ""
            refusal = (*PERMANENT, 0x03, f"internal fault {type(fault).__name__}")
        result, source, diagnostic, reason = refusal
        LOG.warning("receive: association from %r at %s refused: %s", calling, address, reason)
        if time.monotonic() >= self._quiet_until.get((calling, address), 0.0):
            # One row a minute and caller: a stranger in a loop must not fill the audit.
            self._quiet_until = {one: until for one, until in self._quiet_until.items() if until > time.monotonic()}
            self._quiet_until[calling, address] = time.monotonic() + REFUSAL_ROW_S
            self._happened(
                "association refused", "", {"calling_ae_title": calling[:16], "address": address, "reason": reason}
            )
        association.acse.send_reject(result, source, diagnostic)
        association.is_rejected = True
        association.kill()

    def _refusal(self, calling: str, called: str, address: str) -> tuple[int, int, int, str] | None:
        """Result, source and diagnostic of the reject (PS3.8 9.3.4) and why, or None when the association may begin."""
        if called != self._ae_title:
            return *PERMANENT, 0x07, f"called AE title {called!r} is not ours ({self._ae_title})"
        if calling not in self._peers:
            return *PERMANENT, 0x03, f"calling AE title {calling!r} is not a peer in node.toml"
        if not self._peers[calling][1].calls_from(address):
            return (
                *PERMANENT,
                0x03,
                f"{calling!r} may not call from {address}: it is in none of its networks in node.toml",
            )
        if not self._has_room():
            return *TRANSIENT, 0x01, "too little room on the disk: it is below the watermark"
        return None

    def _on_store(self, event: evt.Event) -> int:
        """The plain path: pynetdicom has read the data set into memory."""
        asked = event.request
        request = StoreRequest(asked.MessageID, str(asked.AffectedSOPClassUID), str(asked.AffectedSOPInstanceUID))
        sink = self._open_store(event.assoc, request, str(event.context.transfer_syntax))
        with asked.DataSet.getbuffer() as received:
            sink.take(received)
            return sink.finish()

    def _open_store(self, association: Any, request: StoreRequest, transfer_syntax_uid: str) -> StoreSink:
        """Where the data set of one C-STORE goes, on either path."""
        caller = self._callers[association]
        if "store" not in caller.peer.may:
            if not caller.unauthorised:
                self._happened("store refused", caller.name, {"reason": f'"store" is not in what {caller.name} may'})
            caller.unauthorised += 1
            return _Unwanted()
        incoming = Incoming(
            self._files,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            calling_ae_title=caller.peer.ae_title,
            maximum_bytes=self._maximum_bytes,
        )
        return _Wanted(incoming, self._maximum_bytes, lambda fault: self._answer(caller, request, incoming, fault))

    def _answer(self, caller: _Caller, request: StoreRequest, incoming: Incoming, fault: Exception | None) -> int:
        """The status of the response; what was not kept is told."""
        if fault is None:
            caller.kept += 1
            self._arrived.set()
            return SUCCESS
        status = self._statuses.get(type(fault), CANNOT_UNDERSTAND)
        caller.refused += 1
        LOG.log(
            logging.WARNING if type(fault) in FAULT_STATUS else logging.ERROR,
            "receive: instance %s from %s answered 0x%04X: %s",
            request.sop_instance_uid[:64],
            caller.name,
            status,
            fault,
            exc_info=None if type(fault) in FAULT_STATUS else fault,
        )
        self._happened(
            "conflict" if isinstance(fault, InstanceConflict) else "instance refused",
            caller.name,
            {
                "sop_instance_uid": request.sop_instance_uid[:64],
                "series_instance_uid": incoming.series_instance_uid,
                "status": f"0x{status:04X}",
                "reason": str(fault)[:200],
            },
        )
        return status

    def _on_end(self, event: evt.Event, how: str) -> None:
        caller = self._callers.get(event.assoc)
        if caller is not None and (caller.kept or caller.refused):
            self._happened(how, caller.name, {"instances_kept": caller.kept, "instances_refused": caller.refused})


class _Wanted:
    """An instance that may come: the first fault stops the writing, never the reading, and becomes the status."""

    def __init__(self, incoming: Incoming, maximum_bytes: int, answer: Callable[[Exception | None], int]) -> None:
        self._incoming, self._maximum_bytes, self._answer = incoming, maximum_bytes, answer
        self._fault: Exception | None = None
        self._received = 0

    def take(self, piece: memoryview) -> None:
        """The next bytes, written while nothing has failed; far beyond the longest instance nobody listens."""
        self._received += len(piece)
        if self._received - len(piece) > 2 * self._maximum_bytes:
            raise PduFault(f"an instance of more than twice {self._maximum_bytes} bytes")
        if self._fault is None:
            self._attempt(lambda: self._incoming.take(piece))

    def finish(self) -> int:
        """An instance is durable before its sender hears success."""
        if self._fault is None:
            self._attempt(lambda: self._incoming.keep())
        self._attempt(self._incoming.close)
        return self._answer(self._fault)

    def drop(self) -> None:
        """Nothing is left of it."""
        self._attempt(self._incoming.close)

    def _attempt(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as fault:  # FAULT_STATUS decides
            self._fault = self._fault or fault
            with suppress(OSError):
                self._incoming.close()


class _Unwanted:
    """An instance of a peer that may not store: read to its end and forgotten."""

    def take(self, piece: memoryview) -> None:
        """Nothing is kept."""

    def finish(self) -> int:
        """PS3.7 C.5.19: refused, not authorised."""
        return NOT_AUTHORISED

    def drop(self) -> None:
        """Nothing was kept."""
