"""An association that we open: stored instances go out over it one by one, each with its answer."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import FileDataset, dcmread
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from dicomnode.contexts import offered_contexts, wanted_syntaxes
from dicomnode.errors import NoAssociation, PeerRejected, PeerUnreachable
from dicomnode.peer import Peer
from dicomnode.recode import recoded
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.deliveries import LedgerState, Result

LOG = logging.getLogger(__name__)
COMPRESSIBLE_BITS = (8, 16)
COMPRESSIBLE_COLOURS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB")
CONNECT_S, RESPONSE_S = 10.0, 60.0
QUICKACK = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True)
class Outbound:
    """An instance on its way out. compressible: it has pixels that our lossless encoders take."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path
    compressible: bool = False


def outbound(path: Path) -> Outbound:
    """The instance in a Part 10 file, as its File Meta Information names it."""
    header = dcmread(path, specific_tags=["BitsAllocated", "PhotometricInterpretation"], stop_before_pixels=True)
    meta = header.file_meta
    return Outbound(
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.MediaStorageSOPClassUID),
        str(meta.TransferSyntaxUID),
        path,
        # Bit-packed segments and float maps have other numbers of bits; documents have none.
        compressible=header.get("BitsAllocated") in COMPRESSIBLE_BITS
        and header.get("PhotometricInterpretation") in COMPRESSIBLE_COLOURS,
    )


def store_instances(peer: Peer, instances: Sequence[Outbound], *, ae_title: str) -> Iterator[Result]:
    """Sends the instances over one association and gives each answer as it comes.

    Raises PeerUnreachable when there is no association or it breaks; what was not answered is then still missing.
    """
    if not instances:
        return
    offered = {(one.sop_class_uid, syntax) for one in instances for syntax in _ways_out(one, peer)}
    association = open_association(peer, ae_title=ae_title, contexts=offered_contexts(offered))
    try:
        for one in instances:
            yield _store(association, one, peer)
        association.release()
    finally:
        if association.is_established:
            association.abort()


def open_association(peer: Peer, *, ae_title: str, contexts: Sequence[Any]) -> Association:
    """An association with the peer.

    Raises NoAssociation saying how it was refused, PeerRejected when the peer takes none of the contexts.
    """
    entity = AE(ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout, entity.acse_timeout = CONNECT_S, CONNECT_S
    entity.dimse_timeout, entity.network_timeout = RESPONSE_S, RESPONSE_S
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    try:
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once)],
        )
    except OSError as fault:  # a host name that cannot be resolved, among others
        raise NoAssociation(f"{where} cannot be reached: {fault.strerror or fault}") from fault
    if association.is_established:
        _keep_responses_for_the_sender(association)
        return association
    if association.is_rejected:
        answer = association.acceptor.primitive
        raise NoAssociation(f"{where} rejected the association: {answer.result_str}, {answer.reason_str}")
    if association.acceptor.primitive is not None and association.rejected_contexts:
        raise PeerRejected(f"{where} accepts none of the offered SOP classes and transfer syntaxes")
    raise NoAssociation(f"{where} cannot be reached; is it running, and are host and port right?")


def _send_at_once(event: evt.Event) -> None:
    """Small writes leave at once and are acknowledged at once: against a peer with Nagle on this is 2-4 x faster."""
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if QUICKACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)


def _keep_responses_for_the_sender(association: Association) -> None:
    """pynetdicom's reactor can take a response that a sender waits for (seen under CPU load): it puts it back."""
    dimse, checkpoint = association.dimse, association._reactor_checkpoint
    take = dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        if block:
            return take(block=True)
        if not checkpoint.is_set():
            return None, None
        taken = take(block=False)
        if taken[1] is not None and not checkpoint.is_set():
            dimse.msg_queue.put(taken)
            return None, None
        return taken

    dimse.get_msg = get_msg


def _ways_out(one: Outbound, peer: Peer) -> tuple[str, ...]:
    return wanted_syntaxes(one.transfer_syntax_uid, compressible=one.compressible, compression=peer.compression)


def _store(association: Association, one: Outbound, peer: Peer) -> Result:
    contexts = [cx for cx in association.accepted_contexts if cx.abstract_syntax == one.sop_class_uid]
    accepted = {str(cx.transfer_syntax[0]) for cx in contexts}
    if QUICKACK is not None:
        association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
    try:
        message = _encoded_for(one, [syntax for syntax in _ways_out(one, peer) if syntax in accepted])
    except PeerRejected as fault:
        LOG.error("send: %s cannot be given to %s: %s", one.sop_instance_uid, peer.name, fault)
        return Result(one.sop_instance_uid, LedgerState.REJECTED, None)
    try:
        status = association.send_c_store(message)
    except RuntimeError as fault:  # pynetdicom: the association is gone
        raise PeerUnreachable(f"{peer.ae_title} ended the association") from fault
    code = status.get("Status")
    if code is None:
        raise PeerUnreachable(f"{peer.ae_title} did not answer or broke the association at {one.sop_instance_uid}")
    return Result(one.sop_instance_uid, ledger_state(code), code)


def _encoded_for(one: Outbound, syntaxes: Sequence[str]) -> Path | FileDataset:
    """What to send: the stored file, or the first of the transfer syntaxes that keeps its pixels exactly."""
    faults = ["the peer takes it in none of the transfer syntaxes that we can make without loss"]
    for syntax in syntaxes:
        if syntax == one.transfer_syntax_uid:
            return one.path
        try:
            return recoded(one.path, syntax)
        except PeerRejected as fault:
            LOG.warning("send: %s", fault)
            faults.insert(0, str(fault))
    raise PeerRejected(faults[0])


def ledger_state(status: int) -> LedgerState:
    """What a C-STORE status means for the ledger (PS3.4 Table B.2-1, PS3.7 Annex C)."""
    if status in (0x0000, 0x0111):  # 0x0111: the peer has it already
        return LedgerState.DONE
    if status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000:
        return LedgerState.WARNING
    if status & 0xFF00 == 0xA700:
        return LedgerState.WAITING
    return LedgerState.REJECTED


def echo_peer(peer: Peer, *, ae_title: str) -> float:
    """Seconds the peer took to answer C-ECHO; raises PeerUnreachable when it did not."""
    association = open_association(peer, ae_title=ae_title, contexts=[build_context(Verification)])
    begun = time.monotonic()
    status = association.send_c_echo()
    took = time.monotonic() - begun
    association.release()
    if status.get("Status") != 0x0000:
        raise PeerUnreachable(f"{peer.ae_title} did not answer C-ECHO with success")
    return took
