"""C-STORE of stored instances to a peer: each as it is stored where the peer takes that, each with its answer."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dicomnode.call import Patience
from dicomnode.contexts import MOST_CONTEXTS, WITH_PIXELS, wanted_syntaxes
from dicomnode.errors import AssociationBroken, PeerRejected, PeerUnreachable
from dicomnode.lines import Lines
from dicomnode.negotiation import Offer
from dicomnode.part10 import DataSet, ReadAhead, data_set_of, open_data_set, read_meta
from dicomnode.peer import Peer
from dicomnode.recode import compressible, recoded
from dicomnode.requestor import VERIFICATION_OFFER, OutgoingAssociation
from dicomnode.tls import TlsIdentity
from storage.deliveries import LedgerState, Result

LOG = logging.getLogger(__name__)
MOST_BREAKS = 3
"""How often a peer may break the association in one try; PACS are known to abort at one bad image."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """An instance on its way out."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path


def outbound(path: Path) -> Outbound:
    """The instance in a Part 10 file, as its File Meta Information names it.

    Raises OSError and pydicom's InvalidDicomError for a file that is none.
    """
    meta = read_meta(path)
    return Outbound(meta.sop_instance_uid, meta.sop_class_uid, meta.transfer_syntax_uid, path)


class Line(Protocol):
    """An association on which the other side takes instances, whoever opened it."""

    @property
    def contexts(self) -> Mapping[Offer, int]:
        """What the other side takes -> presentation context."""

    def store(self, data_set: DataSet, *, meanwhile: Callable[[], None] | None = None) -> int:
        """The status of C-STORE, as OutgoingAssociation gives it."""


def store_instances(
    peer: Peer,
    instances: Sequence[Outbound],
    *,
    ae_title: str,
    lines: Lines | None = None,
    originator: tuple[str, int] | None = None,
) -> Iterator[Result]:
    """Sends the instances over one association and gives each answer as it comes.

    lines: the associations that wait, one of which may serve; without them one is opened and released.
    originator: AE title and message ID of the C-MOVE that asked for it.
    An instance at which the peer breaks the association is set aside and tried again after the others.
    Raises PeerUnreachable when there is no association or it breaks too often; what was not answered is then still
    missing. Raises PeerRejected when the peer takes none of it.
    """
    with nullcontext(lines) if lines is not None else Lines(idle_s=0) as kept:
        groups = _groups(instances, peer)
        for group, offers in groups:
            try:
                yield from _store_group(
                    group, peer, ae_title=ae_title, offers=offers, lines=kept, originator=originator
                )
            except PeerRejected as fault:
                if len(groups) == 1:
                    raise
                LOG.error("send: %s", fault)
                yield from (Result(one.sop_instance_uid, LedgerState.REJECTED, None) for one in group)


def _groups(instances: Sequence[Outbound], peer: Peer) -> list[tuple[list[Outbound], frozenset[Offer]]]:
    """The instances in their order, with what is offered for them: nearly always all in one association."""
    groups: list[tuple[list[Outbound], set[Offer]]] = []
    for one in instances:
        wanted = {(one.sop_class_uid, syntax) for syntax in _ways_out(one, peer)}
        if not groups or len(groups[-1][1] | wanted) > MOST_CONTEXTS:
            groups.append(([], set()))
        groups[-1][0].append(one)
        groups[-1][1].update(wanted)
    return [(group, frozenset(offers)) for group, offers in groups]


def _store_group(
    group: Sequence[Outbound],
    peer: Peer,
    *,
    ae_title: str,
    offers: frozenset[Offer],
    lines: Lines,
    originator: tuple[str, int] | None,
) -> Iterator[Result]:
    waiting, broke_at, given_up, ahead = deque(group), set[str](), None, ReadAhead()
    line = lines.take(peer, ae_title=ae_title, offers=offers)
    answered_before, breaks = line.answered, 0
    try:
        while waiting:
            one, line.originator = waiting.popleft(), originator
            try:
                following = waiting[0].path if waiting else None
                meanwhile = None if following is None else partial(ahead.read, following)
                result = store_on(line, one, peer, ahead, meanwhile)
            except AssociationBroken as fault:
                if answered_before and line.answered == answered_before:
                    LOG.info("send: %s; it had waited for this delivery, a new association takes its place", fault)
                    waiting.appendleft(one)
                else:
                    LOG.warning("send: %s; break %d of this try", fault, breaks := breaks + 1)
                    if breaks >= MOST_BREAKS:
                        raise
                    if one.sop_instance_uid in broke_at:
                        given_up = fault
                    else:
                        broke_at.add(one.sop_instance_uid)
                        waiting.append(one)  # after the others: they are not held up by it
                if waiting:
                    line = _opened_anew(peer, ae_title=ae_title, offers=offers, lines=lines)
                    answered_before = 0
                continue
            yield result
    finally:
        lines.give_back(line, peer, ae_title=ae_title)
    if given_up is not None:
        raise given_up


def _opened_anew(peer: Peer, *, ae_title: str, offers: frozenset[Offer], lines: Lines) -> OutgoingAssociation:
    """A new association in the place of one that broke; a peer that now takes nothing has taken something before."""
    try:
        return lines.open(peer, ae_title=ae_title, offers=offers)
    except PeerRejected as fault:
        raise PeerUnreachable(str(fault)) from fault


def _ways_out(one: Outbound, peer: Peer) -> tuple[str, ...]:
    """The transfer syntaxes to offer; whether its pixels allow the compressed ones is looked at when it matters."""
    return wanted_syntaxes(
        one.transfer_syntax_uid, compressible=one.sop_class_uid in WITH_PIXELS, compression=peer.compression
    )


def store_on(
    line: Line, one: Outbound, peer: Peer, ahead: ReadAhead, meanwhile: Callable[[], None] | None = None
) -> Result:
    """Sent as it is stored where that is taken, else recoded without loss; the answer. Raises as `line.store` does."""
    ways = [syntax for syntax in _ways_out(one, peer) if (one.sop_class_uid, syntax) in line.contexts]
    if ways[:1] == [one.transfer_syntax_uid]:
        with ahead.open(one.path) as data_set:
            code = line.store(_checked(data_set, one, one.transfer_syntax_uid), meanwhile=meanwhile)
    else:
        try:
            code = _store_recoded(line, one, peer, ways)
        except PeerRejected as fault:
            LOG.error("send: %s cannot be given to %s: %s", one.sop_instance_uid, peer.name, fault)
            return Result(one.sop_instance_uid, LedgerState.REJECTED, None)
    return Result(one.sop_instance_uid, ledger_state(code), code)


def _store_recoded(line: Line, one: Outbound, peer: Peer, ways: Sequence[str]) -> int:
    """Sent in the first of the transfer syntaxes that keeps its pixels exactly."""
    can = compressible(one.path)
    exact = wanted_syntaxes(one.transfer_syntax_uid, compressible=can, compression=peer.compression)
    faults = ["the peer takes it in none of the transfer syntaxes that we can make without loss"]
    for syntax in ways:
        if syntax not in exact:
            continue
        if syntax == one.transfer_syntax_uid:
            with open_data_set(one.path) as data_set:
                return line.store(_checked(data_set, one, syntax))
        try:
            content = recoded(one.path, syntax)
        except PeerRejected as fault:
            LOG.warning("send: %s", fault)
            faults.insert(0, str(fault))
        else:
            return line.store(_checked(data_set_of(content), one, syntax))
    raise PeerRejected(faults[0])


def _checked(data_set: DataSet, one: Outbound, transfer_syntax_uid: str) -> DataSet:
    """The data set, once it is known to be that instance in that encoding. Raises ValueError otherwise."""
    meta = data_set.meta
    found = (meta.sop_instance_uid, meta.sop_class_uid, meta.transfer_syntax_uid)
    if found != (one.sop_instance_uid, one.sop_class_uid, transfer_syntax_uid):
        raise ValueError(f"the file of {one.sop_instance_uid} holds another instance than it did, or in another form")
    return data_set


def ledger_state(status: int) -> LedgerState:
    """What a C-STORE status means for the ledger (PS3.4 Table B.2-1, PS3.7 Annex C)."""
    if status in (0x0000, 0x0111):  # 0x0111: the peer has it already
        return LedgerState.DONE
    if status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000:
        return LedgerState.WARNING
    if status & 0xFF00 == 0xA700:
        return LedgerState.WAITING
    return LedgerState.REJECTED


def echo_peer(
    peer: Peer, *, ae_title: str, identity: TlsIdentity | None = None, patience: Patience | None = None
) -> float:
    """Seconds the peer took to answer C-ECHO; raises PeerUnreachable when it did not, PeerRejected when it will not."""
    offers = frozenset({VERIFICATION_OFFER})
    association = OutgoingAssociation.open(peer, ae_title=ae_title, offers=offers, identity=identity, patience=patience)
    begun = time.monotonic()
    status = association.echo()
    took_s = time.monotonic() - begun
    association.release()
    if status != 0x0000:
        raise PeerUnreachable(f"{peer.ae_title} did not answer C-ECHO with success")
    return took_s
