"""An association that we open, without threads: it is negotiated, asks, and has each answer before it asks again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from dicomnode.association import OpenedAssociation
from dicomnode.call import Call, Patience, call_peer, ending
from dicomnode.errors import AssociationBroken, PeerRejected
from dicomnode.fast_pdu import (
    IS_COMMAND,
    IS_LAST,
    LONGEST_COMMAND,
    P_DATA_TF,
    PDV_HEAD,
    Command,
    PduFault,
    cut,
    echo_request,
    read_command,
    store_request,
)
from dicomnode.negotiation import ABORT, LONGEST_TO_US, Offer
from dicomnode.part10 import DataSet
from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity
from dicomnode.wire import Part

VERIFICATION_OFFER = ("1.2.840.10008.1.1", "1.2.840.10008.1.2")


class OutgoingAssociation(OpenedAssociation):
    """One association to store over."""

    def __init__(self, call: Call, *, offers: frozenset[Offer], patience: Patience) -> None:
        super().__init__(call, patience=patience)
        self.offers, self.answered = offers, 0
        self.originator: tuple[str, int] | None = None
        """AE title and message ID of the C-MOVE for which is stored."""

    @classmethod
    def open(
        cls,
        peer: Peer,
        *,
        ae_title: str,
        offers: frozenset[Offer],
        identity: TlsIdentity | None = None,
        patience: Patience | None = None,
    ) -> OutgoingAssociation:
        """An association with the peer; identity: who we are over TLS.

        Raises NoAssociation saying how it was refused, PeerRejected when the peer takes none of the offers.
        """
        patience = patience or Patience()
        call = call_peer(peer, ae_title=ae_title, offers=offers, identity=identity, patience=patience)
        association = cls(call, offers=offers, patience=patience)
        if not association.contexts:
            association.release()
            raise PeerRejected(f"{association.where} accepts none of the offered SOP classes and transfer syntaxes")
        return association

    @property
    def can_go_on(self) -> bool:
        """Whether it is open and the peer, which has nothing to say now, has said nothing."""
        return self.is_open and self._wire.silent

    def store(self, data_set: DataSet, *, meanwhile: Callable[[], None] | None = None) -> int:
        """The status of C-STORE; the bytes go out as they are. meanwhile: done while the peer is at work on them.

        Raises AssociationBroken when there is no answer, ValueError for what does not fit an accepted context, and
        OSError when the bytes cannot be read: the association is aborted then, half a data set is no data set.
        """
        meta = data_set.meta
        context_id = self.contexts.get((meta.sop_class_uid, meta.transfer_syntax_uid))
        if context_id is None:
            raise ValueError(f"{meta.sop_instance_uid} is encoded as the peer has not accepted it")
        command = store_request(self._next_id(), meta.sop_class_uid, meta.sop_instance_uid, self.originator)
        return self._ask(command, context_id, data_set, f"instance {meta.sop_instance_uid}", meanwhile)

    def echo(self) -> int:
        """The status of C-ECHO. Raises AssociationBroken when there is no answer."""
        return self._ask(echo_request(self._next_id()), self.contexts[VERIFICATION_OFFER], None, "C-ECHO", None)

    def _ask(
        self,
        command: bytes,
        context_id: int,
        data_set: DataSet | None,
        what: str,
        meanwhile: Callable[[], None] | None,
    ) -> int:
        """Sends the message and gives the status of its response."""
        if not self.is_open:
            raise AssociationBroken(f"the association with {self.where} has ended")
        try:
            parts = cut(command, context_id=context_id, flags=IS_COMMAND | IS_LAST, longest=self._longest)
            if data_set is None:
                self._send(parts, what)
            else:
                left = data_set.length
                for piece in data_set.pieces:
                    left -= len(piece)
                    if left < 0:
                        raise OSError(f"the file of {what} grew while it was sent")
                    parts += cut(piece, context_id=context_id, flags=0 if left else IS_LAST, longest=self._longest)
                    self._send(parts, what)
                    parts = []
                if left:
                    raise OSError(f"the file of {what} shrank while it was sent")
            if meanwhile is not None:
                meanwhile()
            status = self._read_status(read_command(command), what)
        except BaseException:
            self.abort()
            raise
        self.answered += 1
        return status

    def _send(self, parts: list[Part], what: str) -> None:
        try:
            self._wire.send(parts)
        except TimeoutError as fault:
            raise AssociationBroken(f"{self.where} took the bytes of {what} too slowly or not at all") from fault
        except OSError as fault:
            self._tell_abort(what)
            raise AssociationBroken(f"{self.where} {ending(fault)} while {what} was sent") from fault

    def _tell_abort(self, what: str) -> None:
        """Raises AssociationBroken with the words of the A-ABORT that came before the connection ended, if one did."""
        ends_at = time.monotonic() + 0.1
        with contextlib.suppress(OSError, PduFault):
            kind = P_DATA_TF
            while kind == P_DATA_TF:
                kind, body = self._wire.read_pdu(longest=LONGEST_TO_US, within_s=ends_at - time.monotonic())
            if kind == ABORT:
                self._ended(kind, body, what)

    def _read_status(self, request: Command, what: str) -> int:
        """The status of the response: however many fragments and PDUs it comes in."""
        encoded = bytearray()
        ends_at = time.monotonic() + self._patience.answer_s
        try:
            while True:
                left_s = ends_at - time.monotonic()
                kind, body = self._wire.read_pdu(longest=LONGEST_TO_US, within_s=left_s)
                if kind != P_DATA_TF:
                    self._ended(kind, body, what)
                if _gathered(body, encoded):
                    return read_command(bytes(encoded)).status_of(request)
        except TimeoutError as fault:
            silence = f"did not answer {what} within {self._patience.answer_s:g} s"
            raise AssociationBroken(f"{self.where} {silence}") from fault
        except OSError as fault:
            raise AssociationBroken(f"{self.where} {ending(fault)} before it answered {what}") from fault
        except PduFault as fault:
            raise AssociationBroken(f"{self.where} answered {what} with {fault}") from fault


def _gathered(body: bytes, encoded: bytearray) -> bool:
    """Whether the command set is whole with this P-DATA-TF PDU; raises PduFault for what cannot be a response."""
    at = 0
    while at < len(body):
        if len(body) - at < PDV_HEAD.size:
            raise PduFault("a P-DATA PDU that ends inside the head of a fragment")
        length, _, flags = PDV_HEAD.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise PduFault("a fragment that is longer than its PDU")
        if not flags & IS_COMMAND:
            raise PduFault("a fragment of a data set")
        encoded += body[at + PDV_HEAD.size : end]
        if len(encoded) > LONGEST_COMMAND:
            raise PduFault(f"a command set of more than {LONGEST_COMMAND} bytes")
        if flags & IS_LAST:
            if end != len(body):
                raise PduFault("more than one answer")
            return True
        at = end
    return False
