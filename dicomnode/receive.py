"""C-STORE in: an instance is durable before its sender hears success."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from dicomnode.peek import shown_uid
from dicomnode.peer import Peer
from dicomnode.service import NOT_AUTHORISED, Happening, Service
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.errors import InstanceConflict, StorageFull
from storage.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)
_config.LOG_HANDLER_LEVEL = "none"  # its own log of every PDU costs 11-18 % and holds patients' names

ReceivePath = Literal["fast", "plain"]

REFUSAL_ROW_S, MOST_REFUSAL_ROWS = 60.0, 100
LOOK_S, ABORT_S = 0.1, 3.0
LONGEST_INSTANCE = 4 << 30
PERMANENT, TRANSIENT = (0x01, 0x01), (0x02, 0x03)
"""PS3.8 Table 9-21: rejected permanent by the service user; rejected transient by the provider (presentation)."""

SUCCESS, DUPLICATE = 0x0000, 0x0111
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
    """The C-ECHO and C-STORE provider, on one port or on two (one over TLS), where other services answer as well."""

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
        has_place: Callable[[], bool] = lambda: True,
        receive_path: ReceivePath = "fast",
        maximum_instance_bytes: int = LONGEST_INSTANCE,
        deadlines: Deadlines | None = None,
        services: Sequence[Service] = (),
    ) -> None:
        """arrived: set after each kept instance, so that the catalogue looks at once.

        conflict_status: the answer to an instance that is here with another data set.
        has_room: whether the disk has room for more; has_place: whether other processes at the same port leave a
        place for one more association. Both are asked of every association request.
        receive_path: fast streams a data set from the socket to its file; plain is pynetdicom's own way.
        deadlines: those of the fast path; the plain one knows only that of the negotiation.
        services: what is answered beside C-ECHO and C-STORE.
        """
        self._services = tuple(services)
        self._has_room, self._has_place = has_room, has_place
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
        self._servers: list[Any] = []
        self._quiet_until: dict[tuple[str, str, str], float] = {}
        self._refusals = threading.Lock()
        self._asking = threading.Lock()
        """Held from the question for a place until it is taken: of two who ask at once one gets the last."""
        self._callers: WeakKeyDictionary[Any, _Caller] = WeakKeyDictionary()

    def accept_peers(self, peers: Mapping[str, Peer]) -> None:
        """From now on these may call, and no other."""
        self._peers = {peer.ae_title: (name, peer) for name, peer in peers.items()}

    def start(self, host: str, port: int) -> int:
        """The port listened on (`port`, or a free one where it is 0). Raises OSError when it cannot be had."""
        return self.serve(open_listener(host, port))

    def serve(self, listener: socket.socket, *, tls: ssl.SSLContext | None = None) -> int:
        """Accepts at a listening socket, which may be shared with other processes; the port it is bound to.

        tls: who calls there must speak TLS. Limits and `stop` are for all that is served together.
        """
        if tls is not None and self._receive_path != "fast":
            raise ValueError("only the fast receive path speaks TLS")
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_end, ["association released"]),
            (evt.EVT_ABORTED, self._on_end, ["association aborted"]),
            *(handler for service in self._services for handler in service.handlers(self._peer_of)),
        ]
        fast = {
            "deadlines": self._deadlines,
            "open_store": self._open_store,
            "tls": tls,
            "refused": lambda address, reason: self._tell_refusal("", address, reason),
        }
        server = self._entity.make_server(
            listener.getsockname()[:2],
            evt_handlers=handlers,
            contexts=[*accepted_contexts(), *(one for service in self._services for one in service.contexts())],
            server_class=FastServer if self._receive_path == "fast" else PlainServer,
            listener=listener,
            **(fast if self._receive_path == "fast" else {}),
        )
        self._entity._servers.append(server)
        self._servers.append(server)
        port = int(listener.getsockname()[1])
        threading.Thread(target=server.serve_forever, args=(LOOK_S,), name=f"receive {port}", daemon=True).start()
        return port

    def renew_tls(self, tls: ssl.SSLContext) -> None:
        """From now on connections over TLS begin with this one; those that are open stay."""
        for server in self._servers:
            if getattr(server, "tls", None) is not None:
                server.tls = tls

    def stop(self, *, drain_s: float) -> None:
        """No new association is accepted; those open have `drain_s` seconds to end, then they are aborted."""
        for server in self._servers:
            server.shutdown()
        open_ones = self._associations()
        deadline = time.monotonic() + drain_s
        while any(one.is_alive() and one.is_established for one in open_ones) and time.monotonic() < deadline:
            time.sleep(0.05)
        # Together, because an abort waits up to a second for the peer to read it.
        aborting = [threading.Thread(target=one.abort, daemon=True) for one in open_ones if one.is_alive()]
        for thread in aborting:
            thread.start()
        deadline = time.monotonic() + ABORT_S
        for thread in aborting:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._servers.clear()
        for service in self._services:
            service.end()

    @property
    def open_associations(self) -> int:
        """How many associations are open now, also those that were accepted and are just being told so."""
        accepted = (reference() for reference in self._callers.keyrefs())
        return sum(
            one is not None and one.is_alive() and not (one.is_released or one.is_aborted or one.is_rejected)
            for one in accepted
        )

    def _peer_of(self, association: Any) -> Peer:
        return self._callers[association].peer

    def _associations(self) -> list[Any]:
        return [one for server in list(self._servers) for one in server.active_associations]

    def _on_requested(self, event: evt.Event) -> None:
        """Only known peers are answered; a fault in the question counts as no."""
        association = event.assoc
        try:
            calling = association.requestor.primitive.calling_ae_title.strip()
            called = association.requestor.primitive.called_ae_title.strip()
            address = str(association.requestor.address)
            names = getattr(association, "certificate_names", None)  # pynetdicom's own has none: it knows no TLS
            with self._asking:
                refusal = self._refusal(calling, called, address, names)
                if refusal is None:
                    self._callers[association] = _Caller(*self._peers[calling])
                    return
        except Exception as fault:  # fail closed: pynetdicom would log this and go on to accept
            LOG.exception("receive: an association request could not be judged")
            calling, address = "", ""
            refusal = (*PERMANENT, 0x03, f"internal fault {type(fault).__name__}")
        result, source, diagnostic, reason = refusal
        self._tell_refusal(calling, address, reason)
        association.acse.send_reject(result, source, diagnostic)
        association.is_rejected = True
        association.kill()

    def _tell_refusal(self, calling: str, address: str, reason: str) -> None:
        """One row a minute, caller and reason, at most a hundred: a stranger in a loop must not fill the audit."""
        LOG.warning("receive: association from %r at %s refused: %s", calling, address, reason)
        now, caller = time.monotonic(), (calling, address, reason)
        with self._refusals:
            self._quiet_until = {one: until for one, until in self._quiet_until.items() if until > now}
            if caller in self._quiet_until or len(self._quiet_until) >= MOST_REFUSAL_ROWS:
                return
            self._quiet_until[caller] = now + REFUSAL_ROW_S
        details = {"calling_ae_title": calling[:16], "address": address, "reason": reason}
        self._happened("association refused", "", details)

    def _refusal(
        self, calling: str, called: str, address: str, names: frozenset[str] | None
    ) -> tuple[int, int, int, str] | None:
        """Result, source and diagnostic of the reject (PS3.8 9.3.4) and why, or None when the association may begin.

        names: those in the caller's certificate; None when it does not call over TLS.
        """
        if called != self._ae_title:
            return *PERMANENT, 0x07, f"called AE title {called!r} is not ours ({self._ae_title})"
        if calling not in self._peers:
            return *PERMANENT, 0x03, f"calling AE title {calling!r} is not a peer in node.toml"
        peer = self._peers[calling][1]
        if not peer.calls_from(address):
            why = f"{calling!r} may not call from {address}: it is in none of its networks in node.toml"
            return *PERMANENT, 0x03, why
        if peer.tls and names is None:
            return *PERMANENT, 0x03, f"{calling!r} calls without TLS, and node.toml says tls = true"
        if names is not None and not peer.shows(names):
            return *PERMANENT, 0x03, f"the certificate shown by {calling!r} bears none of its certificate_names"
        if not self._has_room():
            return *TRANSIENT, 0x01, "too little room on the disk: it is below the watermark"
        if not self._has_place():
            return *TRANSIENT, 0x02, "the limit on associations is reached"
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
        # What we did not foresee may repeat values of the data set: of that only its kind is said.
        foreseen = type(fault) in FAULT_STATUS
        reason = str(fault) if foreseen else type(fault).__name__
        LOG.log(
            logging.WARNING if foreseen else logging.ERROR,
            "receive: instance %s from %s answered 0x%04X: %s",
            shown_uid(request.sop_instance_uid),
            caller.name,
            status,
            reason,
            exc_info=None if foreseen else fault,
        )
        self._happened(
            "conflict" if isinstance(fault, InstanceConflict) else "instance refused",
            caller.name,
            {
                "sop_instance_uid": shown_uid(request.sop_instance_uid),
                "series_instance_uid": incoming.series_instance_uid,
                "status": f"0x{status:04X}",
                "reason": reason[:200],
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
