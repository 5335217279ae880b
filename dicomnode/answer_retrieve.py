"""C-MOVE and C-GET: the stored instances that a request names go out as they are stored (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from dicomnode.answering import CANCELLED, PENDING, SUCCESS, Answering, AskedLine, Counts
from dicomnode.call import Patience
from dicomnode.errors import AssociationBroken, PeerRejected, PeerUnreachable
from dicomnode.identifier import Identifier, IdentifierFault, encode_identifier
from dicomnode.late_database import LateDatabase
from dicomnode.lines import Lines
from dicomnode.matching import MOST_VALUES
from dicomnode.outgoing import Outbound, store_instances, store_on
from dicomnode.part10 import ReadAhead
from dicomnode.peer import Peer
from dicomnode.query_levels import COLUMNS, UNIQUE, Level, placed
from dicomnode.source_image import UNREADABLE
from dicomnode.tls import TlsIdentity
from storage import queries
from storage.deliveries import Result
from storage.errors import ObjectUnfit, StorageFull
from storage.instance_files import InstanceFiles
from storage.ledger import LedgerState
from storage.name_keys import text_key
from storage.queries import HeldInstance, Term

LOG = logging.getLogger(__name__)
FAILED_UIDS = 0x00080058
CANNOT_COUNT, CANNOT_SEND, UNKNOWN_DESTINATION, SOME_FAILED = 0xA701, 0xA702, 0xA801, 0xB000
"""PS3.4 Table C.4-2 and C.4-3."""
MOST_INSTANCES = 0xFFFF
"""The counts of sub-operations are US."""
AT_ONCE = 100
"""Instances whose files are looked up together; from S3 they are fetched."""
TELL_S = 0.1
UNSENDABLE = (*UNREADABLE, OSError, ObjectUnfit)
"""What a file raises that is gone, damaged or holds another instance: it fails, and the others go out."""
Ended = tuple[str, LedgerState | None]
"""A SOP Instance UID and what became of it."""


@dataclass(slots=True)
class Progress:
    """What became of the sub-operations so far."""

    waiting: dict[str, None]
    """SOP Instance UIDs that are still to be sent, in their order."""
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)
    cancelled: bool = False
    reason: str = ""
    """Why those that were left could not be sent."""

    @classmethod
    def of(cls, held: Sequence[HeldInstance]) -> Progress:
        """Nothing of it is done yet."""
        return cls(dict.fromkeys(one.sop_instance_uid for one in held))

    def note(self, sop_instance_uid: str, state: LedgerState | None) -> None:
        """One more has come to its end; None: it could not be read here."""
        self.waiting.pop(sop_instance_uid, None)
        if state is LedgerState.DONE:
            self.completed += 1
        elif state is LedgerState.WARNING:
            self.warning += 1
        else:
            self.failed.append(sop_instance_uid)

    def fail_rest(self, reason: str) -> None:
        """What is left cannot be sent."""
        self.reason = reason
        for uid in list(self.waiting):
            self.note(uid, None)

    def counts(self, *, last: bool = False) -> Counts:
        """As they are told; the last answer tells what remains only when it was cancelled (C.4.2.1.6)."""
        remaining = len(self.waiting) if self.cancelled or not last else None
        return Counts(remaining, self.completed, len(self.failed), self.warning)

    @property
    def status(self) -> int:
        """That of the last answer (C.4.2.1.5)."""
        if self.cancelled:
            return CANCELLED
        if not self.failed:
            return SOME_FAILED if self.warning else SUCCESS
        return SOME_FAILED if self.completed or self.warning else CANNOT_SEND


def wanted_instances(
    identifier: Identifier, levels: Sequence[Level], database: LateDatabase
) -> tuple[list[str], list[HeldInstance]]:
    """The studies and the instances that a request names, those of one series together; one too many means too many.

    Raises IdentifierFault for a request that breaks its model's rules, DatabaseAway.
    """
    level, above = placed(identifier, levels)
    own = [str(one) for one in identifier.values_of(UNIQUE[level])]
    if not own or len(own) > MOST_VALUES or (level is Level.PATIENT and len(own) > 1):
        raise IdentifierFault(f"{UNIQUE[level]} must say what to retrieve")
    named = {keyword: [value] for keyword, value in above.items()} | {UNIQUE[level]: own}
    terms = {
        COLUMNS[keyword]: [Term(text_key(one)) for one in values]
        for keyword, values in named.items()
        if keyword in COLUMNS
    }
    issuers = [text_key(str(one)) for one in identifier.values_of("IssuerOfPatientID")]
    with database.read() as connection:
        places = [
            one for one in queries.find_studies(connection, terms) if not issuers or one.patient_issuer in issuers
        ]
        held = queries.held_instances(
            connection,
            [one.id for one in places],
            series_instance_uids=named.get(UNIQUE[Level.SERIES]),
            sop_instance_uids=named.get(UNIQUE[Level.IMAGE]),
            most=MOST_INSTANCES,
        )
    return list(dict.fromkeys(one.study_instance_uid for one in places)), held


def destination_of(title: str, asking: Peer, peers: Sequence[Peer]) -> Peer | None:
    """The peer to which `asking` may have instances moved; None: there is none of that AE title, or it may not."""
    wanted = next((one for one in peers if one.ae_title == title.strip() and one.reachable), None)
    if wanted is None:
        return None
    allowed = asking.move_to or (asking.name,)
    return wanted if wanted.name in allowed else None


def move(
    answering: Answering,
    progress: Progress,
    held: Sequence[HeldInstance],
    *,
    destination: Peer,
    originator: tuple[str, int],
    ae_title: str,
    files: InstanceFiles,
    identity: TlsIdentity | None,
) -> None:
    """Sends the instances to the destination and tells how far that is; what was not sent has failed."""
    with Lines(identity=identity) as lines:
        send = partial(store_instances, destination, ae_title=ae_title, lines=lines, originator=originator)
        try:
            _carry_out(answering, progress, _moved(held, files, send))
        except (PeerUnreachable, StorageFull) as fault:
            LOG.warning("move: to %s: %s", destination.name, fault)
            progress.fail_rest(str(fault))


def get(
    answering: Answering, progress: Progress, held: Sequence[HeldInstance], *, asking: Peer, files: InstanceFiles
) -> None:
    """Sends the instances back on the association of the request; raises AssociationBroken when its peer is gone."""
    try:
        _carry_out(answering, progress, _got(answering, held, asking, files))
    except StorageFull as fault:
        LOG.warning("get: %s", fault)
        progress.fail_rest(str(fault))


def _carry_out(answering: Answering, progress: Progress, results: Generator[Ended]) -> None:
    """Notes each result and tells how far it is, until the peer wants no more of it."""
    told_at = 0.0
    with closing(results):
        for uid, state in results:
            progress.note(uid, state)
            if not progress.waiting:
                return
            if answering.is_given_up:
                progress.cancelled = True
                return
            if time.monotonic() - told_at > TELL_S:
                told_at = time.monotonic()
                answering.answer(PENDING, counts=progress.counts())


def _moved(
    held: Sequence[HeldInstance], files: InstanceFiles, send: Callable[[list[Outbound]], Iterator[Result]]
) -> Generator[Ended]:
    for chunk in _portions(held):
        waiting = {one.sop_instance_uid: one for one in chunk}
        try:
            for result in send(_outbound(chunk, files)):
                del waiting[result.sop_instance_uid]
                yield result.sop_instance_uid, result.state
        except PeerRejected as fault:  # the peer takes none of them
            LOG.warning("move: %s", fault)
            yield from ((uid, LedgerState.REJECTED) for uid in waiting)
            continue
        except UNSENDABLE as fault:
            LOG.error("move: a file among %d cannot be sent (%s): they go one by one", len(waiting), fault)
        for uid, one in waiting.items():  # of those that are left only the bad ones fail
            state = None
            try:
                for result in send(_outbound([one], files)):
                    state = result.state
            except (*UNSENDABLE, PeerRejected) as fault:
                LOG.error("move: %s cannot be sent: %s", uid, fault)
            yield uid, state


def _got(answering: Answering, held: Sequence[HeldInstance], asking: Peer, files: InstanceFiles) -> Generator[Ended]:
    line, ahead = AskedLine(answering.association, answer_s=Patience().answer_s), ReadAhead()
    for chunk in _portions(held):
        outbound = _outbound(chunk, files)
        here = {one.sop_instance_uid for one in outbound}
        yield from ((one.sop_instance_uid, None) for one in chunk if one.sop_instance_uid not in here)
        for one, following in zip(outbound, [*outbound[1:], None], strict=True):
            meanwhile = None if following is None else partial(ahead.read, following.path)
            state = None
            try:
                try:
                    state = store_on(line, one, asking, ahead, meanwhile).state
                except FileNotFoundError:  # it was settled between the look and its turn
                    there = replace(one, path=files.path_of(one.sop_instance_uid))
                    state = store_on(line, there, asking, ahead).state
            except UNSENDABLE as fault:
                if not answering.is_open:
                    raise AssociationBroken(f"an instance could not be sent whole: {fault}") from fault
                LOG.error("get: %s cannot be sent: %s", one.sop_instance_uid, fault)
            yield one.sop_instance_uid, state


def answer_last(answering: Answering, progress: Progress) -> None:
    """The last answer, with the list of what failed."""
    failed = [(FAILED_UIDS, "UI", progress.failed)] if progress.failed else []
    identifier = encode_identifier(failed, implicit=answering.is_implicit) if failed else None
    counts = progress.counts(last=True)
    answering.answer(progress.status, identifier=identifier, counts=counts, comment=progress.reason)


def _outbound(held: Sequence[HeldInstance], files: InstanceFiles) -> list[Outbound]:
    """Those whose files are here. Raises StoreAway when their store does not answer, StorageFull."""
    found = []
    for one in held:
        try:
            path = files.path_of(one.sop_instance_uid)
        except UNSENDABLE as fault:  # removed since
            LOG.error("retrieve: %s cannot be read: %s", one.sop_instance_uid, type(fault).__name__)
            continue
        found.append(Outbound(one.sop_instance_uid, one.sop_class_uid, one.transfer_syntax_uid, path))
    return found


def _portions(held: Sequence[HeldInstance]) -> Iterator[Sequence[HeldInstance]]:
    for first in range(0, len(held), AT_ONCE):
        yield held[first : first + AT_ONCE]
