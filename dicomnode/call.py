"""A peer is called: connection, TLS and negotiation, each under its deadline, or the words why not."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass

from dicomnode.errors import NoAssociation, TlsFault
from dicomnode.fast_pdu import PduFault, longest_fragment
from dicomnode.negotiation import (
    ABORT,
    ABORT_BY_US,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    LONGEST_ANSWER,
    Agreed,
    Offer,
    abort,
    association_request,
    numbered_offers,
    read_acceptance,
    rejection,
)
from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity, client_context, in_words
from dicomnode.wire import Closed, Wire

BY_USER = b"\x01"
"""Source of a rejection: the application itself, because of titles mostly (PS3.8 Table 9-21)."""
HUNG_UP = "does it listen for DICOM there, with or without TLS as `tls` of the peer says, and does it know our address?"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer may take: to be connected (with TLS), to negotiate, to answer, to take bytes, to release."""

    connect_s: float = 10.0
    negotiation_s: float = 30.0
    answer_s: float = 60.0
    stall_s: float = 60.0
    release_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """A peer that took the call: the connection, what was agreed, and who it is, in words."""

    wire: Wire
    agreed: Agreed
    where: str


def call_peer(
    peer: Peer,
    *,
    ae_title: str,
    offers: frozenset[Offer],
    identity: TlsIdentity | None,
    patience: Patience,
    takes: frozenset[str] = frozenset(),
) -> Call:
    """An association with the peer, whatever of the offers it took; identity: who we are over TLS.

    takes: SOP classes whose instances it is to send us over this association.

    Raises NoAssociation saying how it was refused, ValueError for more offers than one association can hold.
    """
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    numbered = numbered_offers(offers)
    request = association_request(numbered, calling=ae_title, called=peer.ae_title, takes=takes)
    wire = _connect(peer, where, identity, patience)
    try:
        wire.send([request])
        kind, body = wire.read_pdu(longest=LONGEST_ANSWER, within_s=patience.negotiation_s)
        if kind == ASSOCIATE_AC:
            agreed = read_acceptance(body, numbered)
            longest_fragment(agreed.maximum_length)
            return Call(wire, agreed, where)
        why = f"answered the association request with a PDU of type 0x{kind:02X}"
        known = f"check there that our AE title {ae_title} and our address are known, here that its AE title is right"
        if kind == ASSOCIATE_RJ:
            by_its_settings = body[2:3] == BY_USER
            why = f"refused the association: {rejection(body)}; {known if by_its_settings else 'look at its log'}"
        elif kind == ABORT:
            why = f"aborted the association while it was negotiated ({abort(body)}); {known}"
        fault: Exception | None = None
    except TimeoutError as silence:
        why, fault = f"did not answer the association request within {patience.negotiation_s:g} s", silence
    except OSError as lost:
        why, fault = f"{ending(lost)} when it was asked for an association; {HUNG_UP}", lost
    except PduFault as wrong:
        why, fault = f"answered the association request with {wrong}", wrong
    with contextlib.suppress(OSError):
        wire.send_last(ABORT_BY_US)
    wire.close()
    raise NoAssociation(f"{where} {why}") from fault


def _connect(peer: Peer, where: str, identity: TlsIdentity | None, patience: Patience) -> Wire:
    """A connection to the peer. Raises NoAssociation saying why there is none."""
    tls = None
    if peer.tls:
        if identity is None:
            raise NoAssociation(f"{where} is called over TLS, and node.toml has no [tls] table")
        try:
            tls = client_context(identity, peer)
        except TlsFault as fault:
            raise NoAssociation(f"{where} cannot be called over TLS: {fault}") from fault
    try:
        return Wire.connect(
            peer.host,
            peer.port,
            connect_s=patience.connect_s,
            stall_s=patience.stall_s,
            tls=tls,
            tls_name=peer.certificate_host,
        )
    except ssl.SSLError as fault:
        raise NoAssociation(f"{where} cannot be called over TLS: {in_words(fault)}") from fault
    except OSError as fault:  # a host name that cannot be resolved, among others
        why = fault.strerror or str(fault)
        raise NoAssociation(f"{where} cannot be reached: {why}; is it running, and are host and port right?") from fault


def ending(fault: OSError) -> str:
    """How a connection ended, in words."""
    if isinstance(fault, Closed | ConnectionError):
        return "closed the connection"
    return f"lost the connection ({fault.strerror or type(fault).__name__})"
