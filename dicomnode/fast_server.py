"""The port of the event-driven receive path: accepted connections become associations when their first byte is here."""

from __future__ import annotations

import gc
import itertools
import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicomnode.fast_message import OpenStore
from dicomnode.fast_pdu import Command
from dicomnode.fast_store import WAKE_S, Deadlines, FastDUL, WakingQueue
from dicomnode.fast_tls import end_politely, shake_hands
from dicomnode.tls import in_words, names_of

LOG = logging.getLogger(__name__)
LOOK_S = 1.0
SPARE_CONNECTIONS = 16
BACKLOG = 256
ENDED = 60
"""So many associations leave their garbage before it is collected."""


class FastSocket(AssociationSocket):  # type: ignore[misc]
    """A socket that is closed even when its peer was faster, and on which several threads may send."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self._sending = threading.RLock()

    def send(self, bytestream: bytes) -> None:
        """All of it in one piece, or the connection has ended."""
        with self._sending:
            super().send(bytestream)

    def _shutdown_socket(self) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class TlsSocket(FastSocket):
    """Sends under the deadline of a stall; the timeout of the connection itself is the tick of reading."""

    def __init__(self, association: Any, *, client_socket: ssl.SSLSocket, stall_s: float) -> None:
        super().__init__(association, client_socket=client_socket)
        self._stall_s = stall_s

    def send(self, bytestream: bytes) -> None:
        """All of it, or the connection has ended."""
        connection = self.socket
        if connection is None:
            return
        tick_s = connection.gettimeout()
        with suppress(OSError):
            connection.settimeout(self._stall_s)
        super().send(bytestream)
        with suppress(OSError):
            connection.settimeout(tick_s)


class FastAssociation(Association):  # type: ignore[misc]
    """An accepted association that sleeps until something happens."""

    is_established: bool

    def __init__(self, server: FastServer) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self._signal = threading.Event()
        self._server = server
        self.certificate_names: frozenset[str] | None = None
        """What the caller's certificate bears; None: it does not call over TLS."""
        self.store_responses: SimpleQueue[Command] = SimpleQueue()
        """What the peer answers to the instances that it asked for by C-GET."""
        self.afterwards: deque[Callable[[], None]] = deque()
        """What is to be done on this association once the request that is being answered has its response."""
        over_tls = server.tls is not None
        self.dul = FastDUL(self, deadlines=server.deadlines, open_store=server.open_store, over_tls=over_tls)
        self.dul._idle_timer.timeout = self.network_timeout
        self.dul.artim_timer.timeout = self.acse_timeout = server.deadlines.negotiation_s
        self.dul.to_user_queue = WakingQueue(self._signal.set)
        self.dimse.msg_queue = WakingQueue(self._signal.set)

    def run_reactor(self) -> None:
        """As pynetdicom's; whatever happens, connection and thread end with it."""
        try:
            super().run_reactor()
        except Exception:  # whatever a hostile request makes pynetdicom raise
            LOG.exception("receive: an association could not be negotiated")
        finally:
            self.dul.kill_dul()
            if self.dul.is_alive():
                self.dul.join()
            self.dul.socket._shutdown_socket()  # its thread does that, unless it could not be started
            self._server.release_connection()
            self._server.association_ended()

    def _run_reactor(self) -> None:
        """Association._run_reactor of pynetdicom 3.0, woken by an event instead of a nap of 1 ms."""
        self._is_paused = False
        while not self._kill:
            self._is_paused = True
            self._signal.wait(min(WAKE_S, max(0.05, self.dul._idle_timer.remaining)))
            self._signal.clear()
            self._reactor_checkpoint.wait()
            self._is_paused = False
            context_id, message = self.dimse.get_msg(block=False)
            while message:
                self._serve_request(message, context_id)
                while self.afterwards and self.is_established:
                    self._is_paused = True  # on this thread nobody else takes the answer to what is asked here
                    self.afterwards.popleft()()
                    self._is_paused = False
                context_id, message = self.dimse.get_msg(block=False)
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released, self.is_established = True, False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted():
                self.dul.receive_pdu(wait=False)
                self.is_aborted, self.is_established = True, False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()
            elif not self.dul.is_alive():
                self.kill()
            elif self.dul.idle_timer_expired():
                LOG.warning("receive: nothing came for %g s; the association is aborted", self.network_timeout)
                self.abort()
                self.kill()


class FastRequestHandler(RequestHandler):  # type: ignore[misc]
    """One accepted connection, on a thread of its own until its first byte is here."""

    server: FastServer
    request: Any

    def handle(self) -> None:
        """A probe that connects and closes ends here: it costs one short thread and never was an association."""
        begun, ends_at = False, time.monotonic() + self.server.deadlines.negotiation_s
        try:
            if self._first_byte_came(ends_at) and self._is_trusted(ends_at):
                association = self._create_association()
                evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
                association.start()
                begun = True
        finally:
            if not begun:
                self.server.shutdown_request(self.request)
                self.server.release_connection()

    def _first_byte_came(self, ends_at: float) -> bool:
        poller = select.poll()
        poller.register(self.request, select.POLLIN)
        while (left_s := ends_at - time.monotonic()) > 0 and not self.server.closing:
            if poller.poll(min(left_s, LOOK_S) * 1000):
                try:
                    return bool(self.request.recv(1, socket.MSG_PEEK)) and not self.server.closing
                except OSError:
                    return False
        if self.server.tls is not None and not self.server.closing:
            self.server.refused(self.client_address[0], "no word of a TLS handshake came in time")
        return False

    def _is_trusted(self, ends_at: float) -> bool:
        """The TLS handshake, on this thread and not on the one that accepts: a silent peer keeps nobody out."""
        tls = self.server.tls
        if tls is None:
            return True
        try:
            self.request = tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            shake_hands(self.request, ends_at=ends_at, given_up=lambda: self.server.closing)
        except OSError as fault:
            if not self.server.closing:
                self.server.refused(self.client_address[0], in_words(fault))
                end_politely(self.request, given_up=lambda: self.server.closing)
            return False
        return not self.server.closing

    def _create_association(self) -> FastAssociation:
        """As pynetdicom's, with our classes, and without a copy of 170 contexts that takes 6 ms."""
        server = self.server
        association = FastAssociation(server)
        association.name = f"AcceptorThread@{self.client_address[0]}:{self.client_address[1]}"
        if isinstance(self.request, ssl.SSLSocket):
            association.certificate_names = names_of(self.request.getpeercert())
            stall_s = server.deadlines.stall_s
            association.set_socket(TlsSocket(association, client_socket=self.request, stall_s=stall_s))
        else:
            association.set_socket(FastSocket(association, client_socket=self.request))
        acceptor = association.acceptor
        acceptor.maximum_length = server.ae.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = server.ae.implementation_class_uid
        acceptor.implementation_version_name = server.ae.implementation_version_name
        acceptor.supported_contexts = list(server.contexts)
        association.requestor.address_info = self.remote
        for event, bound in server._handlers.items():
            for handler, arguments in [bound] if event.is_intervention else bound:
                if handler is not None:
                    association.bind(event, handler, arguments)
        return association


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens there (at a free port where it is 0). Raises OSError when that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


class PlainServer(ThreadedAssociationServer):  # type: ignore[misc]
    """pynetdicom's own server, at a socket that listens already."""

    socket: Any

    def __init__(self, *positional: Any, listener: socket.socket, **named: Any) -> None:
        self._listener = listener
        super().__init__(*positional, **named)

    def server_bind(self) -> None:
        """The listening socket takes the place of the one that was just made."""
        self.socket.close()
        self._listener.setblocking(False)  # another process may be faster at accept
        self.socket, self.server_address = self._listener, self._listener.getsockname()

    def server_activate(self) -> None:
        """It listens already."""

    def server_close(self) -> None:
        """Not shut down: other processes may go on accepting at it."""
        self.socket.close()


class FastServer(PlainServer):
    """Listens, and bounds how many connections are open at once."""

    daemon_threads = True

    def __init__(
        self,
        *positional: Any,
        deadlines: Deadlines,
        open_store: OpenStore,
        tls: ssl.SSLContext | None,
        refused: Callable[[str, str], None],
        **named: Any,
    ) -> None:
        """tls: what connections must begin with. refused: told (address, reason) when such a beginning failed."""
        self.deadlines, self.open_store, self.tls, self.refused = deadlines, open_store, tls, refused
        self.closing = False
        self._ended = itertools.count(1)
        super().__init__(*positional, request_handler=FastRequestHandler, **named)
        # Twice the associations: those over the limit must get far enough to hear that it is reached.
        self._connections = threading.Semaphore(2 * self.ae.maximum_associations + SPARE_CONNECTIONS)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more connection."""
        room = self._connections.acquire(blocking=False)
        if not room:
            LOG.warning("receive: too many connections are open; one from %s is closed at once", client_address[0])
        return room

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, or no connection."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self.release_connection()
            raise

    def service_actions(self) -> None:
        """Nothing: pynetdicom collects garbage here, also of probes that leave none, and the port waits for it."""

    def association_ended(self) -> None:
        """What associations leave is collected, of many at once: their parts hold each other."""
        if next(self._ended) % ENDED == 0:
            gc.collect()

    def release_connection(self) -> None:
        """One connection has ended."""
        self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A fault on a connection's thread; the connection ends and the node stays."""
        LOG.exception("receive: a connection from %s failed", client_address[0])

    def shutdown(self) -> None:
        """No new connection; those that are associations stay."""
        self.closing = True
        super().shutdown()
