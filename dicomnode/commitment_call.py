"""Calls of Storage Commitment: a peer is asked to commit, or is told what we commit to, each over a new association."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import build_role

from dicomnode.commitment import REQUEST_ACTION, report_dataset, request_dataset
from dicomnode.contexts import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, UNCOMPRESSED
from dicomnode.errors import NoAssociation, PeerUnreachable, TlsFault
from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity, client_context
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.references import Reference, Report

_config.LOG_HANDLER_LEVEL = "none"  # its own log of every message is dear
CONNECT_S, NEGOTIATION_S, ANSWER_S = 10.0, 30.0, 60.0
LOOK_S = 0.1

Hear = Callable[[Dataset], int]
"""Takes the event information of a report that came on our own association -> the status it is answered with."""


def ask_commitment(
    peer: Peer,
    transaction_uid: str,
    references: Sequence[Reference],
    *,
    ae_title: str,
    identity: TlsIdentity | None,
    hear: Hear,
    is_reported: Callable[[], bool],
) -> None:
    """The peer has taken the request; the association stays open for its report as long as the peer's table says.

    is_reported: whether the report has come meanwhile, on this association or another. Raises NoAssociation when none
    could be opened, and PeerUnreachable when the peer did not take the request.
    """

    def on_report(event: evt.Event) -> tuple[int, None]:
        return hear(event.event_information), None

    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)]
    with _association(peer, ae_title=ae_title, identity=identity, handlers=handlers) as association:
        request = request_dataset(transaction_uid, references)
        answer, _ = association.send_n_action(request, REQUEST_ACTION, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
        if not is_reported():  # who has reported has taken the request
            _succeeded(answer, peer, "the request for storage commitment")
        ends_at = time.monotonic() + peer.commitment_wait_s
        while association.is_established and time.monotonic() < ends_at and not is_reported():
            time.sleep(LOOK_S)


def tell_commitment(peer: Peer, report: Report, *, ae_title: str, identity: TlsIdentity | None) -> None:
    """The peer has acknowledged the report. Raises NoAssociation or PeerUnreachable when it has not."""
    # The caller is the provider here: that is agreed by role selection (PS3.7 D.3.3.4).
    roles = [build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)]
    with _association(peer, ae_title=ae_title, identity=identity, roles=roles) as association:
        send_report(association, peer, report)


def send_report(association: Any, peer: Peer, report: Report) -> None:
    """The report, over an association that is open. Raises PeerUnreachable when it is not acknowledged."""
    event_type, information = report_dataset(report)
    try:
        answer, _ = association.send_n_event_report(
            information, event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
        )
    except (RuntimeError, ValueError) as fault:  # it has ended, or knows no such context
        raise PeerUnreachable(f"{peer.ae_title} took no report of storage commitment: {fault}") from fault
    _succeeded(answer, peer, "the report of storage commitment")


@contextmanager
def _association(
    peer: Peer, *, ae_title: str, identity: TlsIdentity | None, roles: Sequence[Any] = (), handlers: Sequence[Any] = ()
) -> Iterator[Any]:
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    entity = AE(ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout, entity.acse_timeout = CONNECT_S, NEGOTIATION_S
    entity.dimse_timeout = entity.network_timeout = ANSWER_S
    entity.add_requested_context(STORAGE_COMMITMENT, list(UNCOMPRESSED))
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        ext_neg=list(roles),
        evt_handlers=list(handlers),
        tls_args=_tls(peer, identity, where),
    )
    if not association.is_established:
        if association.rejected_contexts:
            raise PeerUnreachable(f"{where} does not take Storage Commitment; is it set up there for {ae_title}?")
        how = "refused the association" if association.is_rejected else "cannot be reached, or gave no association"
        raise NoAssociation(f"{where} {how}; is it running, and does it know {ae_title}?")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _tls(peer: Peer, identity: TlsIdentity | None, where: str) -> Any:
    if not peer.tls:
        return None
    if identity is None:
        raise NoAssociation(f"{where} is called over TLS, and node.toml has no [tls] table")
    try:
        return client_context(identity, peer), peer.certificate_host
    except TlsFault as fault:
        raise NoAssociation(f"{where} cannot be called over TLS: {fault}") from fault


def _succeeded(answer: Dataset, peer: Peer, what: str) -> None:
    """Raises PeerUnreachable unless the answer is success."""
    status = answer.get("Status")
    if status is None:
        raise PeerUnreachable(f"{peer.ae_title} did not answer {what} within {ANSWER_S:g} s")
    if status != 0x0000:
        raise PeerUnreachable(f"{peer.ae_title} answered {what} with 0x{status:04X}")
