"""The event-driven upper layer of an accepted association: it sleeps in poll(2) and reads P-DATA under deadlines."""

# pynetdicom keeps negotiation, the state machine (PS3.8 9.2), every other DIMSE service and the handling of errors.
# Replaced is how its thread waits (poll instead of naps of 1 ms) and what it does with P-DATA in state Sta6.
# It leans on pynetdicom's internals: the pin in pyproject.toml holds it, and test_fast_store.py says when it breaks.

from __future__ import annotations

import logging
import os
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT

from dicomnode.fast_message import Messages, OpenStore
from dicomnode.fast_pdu import KNOWN_PDUS, P_DATA_TF, PDU_HEAD, PduFault
from dicomnode.fast_tls import end_politely

LOG = logging.getLogger(__name__)
LONGEST_ACSE_PDU = 1 << 20
"""Longest PDU that is no P-DATA: it is held in memory."""
PDU_SLACK = 12
"""Some senders count the heads of PDU and PDV beside the maximum length (PS3.8 D.1.1)."""
WAKE_S = 5.0
AWAITING_REQUEST, ESTABLISHED, CLOSING = "Sta2", "Sta6", "Sta13"
CLOSED, TIMED_OUT, INVALID_PDU = "Evt17", "Evt18", "Evt19"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take."""

    stall_s: float = 30.0
    """Without a byte, in the middle of a PDU."""
    pdu_s: float = 60.0
    """For a whole PDU."""
    negotiation_s: float = 30.0
    """Until the association request is here."""


class _ConnectionEnded(Exception):
    """The peer has closed the connection."""


class _Interrupted(Exception):
    """Our own side wants to abort while a PDU is being read."""


class _Octets:
    """What waits to be sent as it is."""

    def __init__(self, octets: bytes) -> None:
        self.octets, self.sent = octets, threading.Event()


class WakingQueue(queue.Queue):  # type: ignore[type-arg]
    """A queue that says so when something was put into it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class _Alarm:
    """Wakes a thread that waits in poll(2); a number that was closed is never written to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        with self._lock:
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def heard(self) -> None:
        os.eventfd_read(self.descriptor)

    def close(self) -> None:
        with self._lock:
            os.close(self.descriptor)
            self.descriptor = -1


class FastDUL(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of one accepted connection; its thread reads, stores and answers."""

    def __init__(
        self, association: Any, *, deadlines: Deadlines, open_store: OpenStore, over_tls: bool = False
    ) -> None:
        super().__init__(association)
        self._deadlines, self._over_tls = deadlines, over_tls
        self._recv_flags = 0 if over_tls else socket.MSG_WAITALL  # TLS gives a record of at most 16 KiB at a time
        self._alarm: _Alarm | None = None
        self.to_provider_queue = WakingQueue(self._wake)
        self._head = memoryview(bytearray(PDU_HEAD.size))
        self._messages = Messages(
            association, open_store=open_store, fill=self._fill, send=lambda octets: self.socket.send(octets)
        )
        self._reading = False
        self._pdu_ends_at = 0.0

    def _wake(self) -> None:
        if self._alarm is not None:
            self._alarm.ring()

    def kill_dul(self) -> None:
        """The thread ends soon."""
        super().kill_dul()
        self._wake()

    def idle_timer_expired(self) -> bool:
        """Whether nothing came for too long; within a PDU its own deadlines hold."""
        return not self._reading and bool(super().idle_timer_expired())

    def send_octets(self, octets: bytes) -> None:
        """Whole PDUs of P-DATA go out as they are; returns when the kernel took them or the peer is gone.

        OpenSSL does not let one thread send while another reads: over TLS the thread of this layer sends them.
        """
        if not self._over_tls:
            if self.state_machine.current_state == ESTABLISHED:
                self.socket.send(octets)
                self._idle_timer.restart()
            return
        waiting = _Octets(octets)
        self.to_provider_queue.put(waiting)
        while self.is_alive() and not waiting.sent.wait(WAKE_S):
            pass

    def _process_recv_primitive(self) -> bool:
        """As pynetdicom's; octets need no state machine, only an association."""
        first = self.to_provider_queue.queue[0] if self.to_provider_queue.queue else None
        if not isinstance(first, _Octets):
            return bool(super()._process_recv_primitive())
        self.to_provider_queue.get(False)
        if self.state_machine.current_state == ESTABLISHED:
            self.socket.send(first.octets)
            self._idle_timer.restart()
        first.sent.set()
        return True

    # The thread

    def run_reactor(self) -> None:
        """Runs until the connection has ended, and leaves nothing behind."""
        self._alarm = _Alarm()
        try:
            self._idle_timer.start()
            self._prepare(self.socket.socket)
            self.assoc._dul_ready.set()
            self._react(self.socket.socket, self._alarm)
        except Exception:  # a fault of ours or of pynetdicom: the association ends, the node stays
            LOG.exception("receive: an association failed and is aborted")
            self._abandon()
        finally:
            self._messages.drop()
            self._kill_thread = True
            self.socket._shutdown_socket()
            self._alarm.close()
            self.assoc._dul_ready.set()
            self.to_user_queue.put(None)  # whoever waits for the peer's word hears that none will come

    def _prepare(self, connection: socket.socket) -> None:
        """A blocking socket whose waits end by themselves often enough to look at the deadlines."""
        tick_s = min(1.0, self._deadlines.stall_s / 4, self._deadlines.pdu_s / 4)
        if self._over_tls:
            connection.settimeout(tick_s)  # OpenSSL takes the end of a wait in the kernel for no end
        else:
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(tick_s))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._deadlines.stall_s))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _react(self, connection: socket.socket, alarm: _Alarm) -> None:
        poller = select.poll()
        poller.register(alarm.descriptor, select.POLLIN)
        poller.register(connection, select.POLLIN)
        while not self._kill_thread:
            try:
                self.state_machine.do_action(self.event_queue.get_nowait())
                continue
            except queue.Empty:
                pass
            state, patience_s = self.state_machine.current_state, WAKE_S
            if state == CLOSING:
                self._linger(connection)
                continue
            if state == AWAITING_REQUEST:
                if self.artim_timer.expired:
                    self.event_queue.put(TIMED_OUT)
                    continue
                patience_s = min(WAKE_S, max(0.01, self.artim_timer.remaining))
            if self._process_recv_primitive():
                continue
            if self._over_tls and connection.pending():  # type: ignore[attr-defined]
                self._read_pdu_data()  # deciphered already, so that poll(2) knows nothing of it
                continue
            for descriptor, _ in poller.poll(patience_s * 1000):
                if descriptor == alarm.descriptor:
                    alarm.heard()
                else:
                    self._read_pdu_data()

    def _linger(self, connection: socket.socket) -> None:
        """Sta13: the peer may read our last words, then the connection closes."""
        end_politely(connection, given_up=lambda: self._kill_thread)
        self.socket.close()

    def _abandon(self) -> None:
        """The state machine cannot be trusted any more: abort without it."""
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 0x02, 0x00
        if self.socket.socket is not None:
            self.socket.send(pdu.encode())
        if self.assoc.requestor.primitive is not None:
            self.to_user_queue.put(A_P_ABORT())

    # Reading

    def _read_pdu_data(self) -> None:
        """One PDU: a C-STORE goes to its sink, anything else to pynetdicom."""
        now = time.monotonic()
        allowed_s = self._deadlines.pdu_s
        if self.state_machine.current_state == AWAITING_REQUEST:
            allowed_s = min(allowed_s, self._deadlines.negotiation_s)
        self._pdu_ends_at = now + allowed_s
        self._reading = True
        try:
            self._read_pdu()
        except PduFault as fault:
            LOG.warning("receive: association with %s is aborted: %s", self._peer(), fault)
            self._messages.drop()
            self.event_queue.put(INVALID_PDU)
        except _Interrupted:
            self._messages.drop()
        except (_ConnectionEnded, OSError) as fault:
            if self._messages.in_store or isinstance(fault, OSError):
                LOG.warning("receive: connection with %s was lost: %s", self._peer(), fault or "closed in an instance")
            self._messages.drop()
            self.event_queue.put(CLOSED)
        finally:
            self._idle_timer.restart()
            self._reading = False

    def _read_pdu(self) -> None:
        head = self._head
        self._fill(head)
        kind, _, length = PDU_HEAD.unpack(head)
        if kind == P_DATA_TF and self.state_machine.current_state == ESTABLISHED:
            if length > self.assoc.acceptor.maximum_length + PDU_SLACK:
                raise PduFault(f"a P-DATA PDU of {length} bytes is over the maximum that was negotiated")
            self._messages.read_p_data(length)
            self.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return
        if kind not in KNOWN_PDUS:
            raise PduFault(f"a PDU of unknown type 0x{kind:02X}")
        if length > LONGEST_ACSE_PDU:
            raise PduFault(f"a PDU of type 0x{kind:02X} with {length} bytes")
        whole = bytearray(head) + bytearray(length)
        with memoryview(whole) as view:
            self._fill(view[PDU_HEAD.size :])
        try:
            pdu, event = self._decode_pdu(whole)
        except Exception as fault:  # whatever hostile bytes make pynetdicom raise
            raise PduFault(f"a PDU of type 0x{kind:02X} that cannot be read: {type(fault).__name__}") from fault
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _fill(self, view: memoryview) -> None:
        """Fills the view from the connection. Raises _ConnectionEnded, or PduFault when a deadline passes."""
        connection, filled, last_byte_at = self.socket.socket, 0, 0.0
        while filled < len(view):
            try:
                count = connection.recv_into(view[filled:], len(view) - filled, self._recv_flags)
            except (BlockingIOError, TimeoutError):  # the tick of a plain socket, and of TLS
                count = -1
            if count == 0:
                raise _ConnectionEnded
            filled += max(count, 0)
            if filled == len(view):
                return
            now = time.monotonic()
            if count > 0 or not last_byte_at:
                last_byte_at = now
            self._look_at_deadlines(now, last_byte_at)

    def _look_at_deadlines(self, now: float, last_byte_at: float) -> None:
        if now - last_byte_at > self._deadlines.stall_s:
            raise PduFault(f"no byte came for {self._deadlines.stall_s:g} s in the middle of a PDU")
        if now > self._pdu_ends_at:
            raise PduFault("a PDU took too long")
        if self._kill_thread or any(isinstance(one, A_ABORT | A_P_ABORT) for one in self.to_provider_queue.queue):
            raise _Interrupted

    def _peer(self) -> str:
        return f"{self.assoc.requestor.ae_title.strip() or 'a peer'} at {self.assoc.requestor.address}"


def _timeval(seconds: float) -> bytes:
    """A `struct timeval` for SO_RCVTIMEO and SO_SNDTIMEO."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
