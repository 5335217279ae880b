"""C-MOVE and C-GET: the stored instances that a request names go out as they are stored (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
from dicomnode.query_levels import UNIQUE, Level, placed
from dicomnode.tls import TlsIdentity
from storage import queries
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


@dataclass(slots=True)
class Progress:
    """What became of the sub-operations so far."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)
    cancelled: bool = False

    def note(self, sop_instance_uid: str, state: LedgerState | None) -> None:
        """One more has come to its end; None: it could not be read here."""
        self.remaining -= 1
        if state is LedgerState.DONE:
            self.completed += 1
        elif state is LedgerState.WARNING:
            self.warning += 1
        else:
            self.failed.append(sop_instance_uid)

    def counts(self, *, last: bool = False) -> Counts:
        """As they are told; the last answer tells what remains only when it was cancelled (C.4.2.1.6)."""
        remaining = self.remaining if self.cancelled or not last else None
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
) -> tuple[Level, list[HeldInstance]]:
    """The level and the instances that a request names, those of one series together; one too many means too many.

    Raises IdentifierFault for a request that breaks its model's rules, DatabaseAway.
    """
    level, above = placed(identifier, levels)
    own = [str(one) for one in identifier.values_of(UNIQUE[level])]
    if not own or len(own) > MOST_VALUES or (level is Level.PATIENT and len(own) > 1):
        raise IdentifierFault(f"{UNIQUE[level]} must say what to retrieve")
    named = above | ({UNIQUE[level]: own[0]} if level is Level.PATIENT else {})
    terms: dict[str, Sequence[Term]] = {}
    if "PatientID" in named:
        terms["patient_id"] = [Term(text_key(named["PatientID"]))]
    studies = own if level is Level.STUDY else [named[UNIQUE[Level.STUDY]]] if UNIQUE[Level.STUDY] in named else None
    if studies is not None:
        terms["study_instance_uid"] = [Term(one) for one in studies]
    issuers = [text_key(str(one)) for one in identifier.values_of("IssuerOfPatientID")]
    with database.read() as connection:
        places = queries.find_studies(connection, terms)
        return level, queries.held_instances(
            connection,
            [one.study_instance_uid for one in places if not issuers or one.patient_issuer in issuers],
            series_instance_uids=own
            if level is Level.SERIES
            else [above[UNIQUE[Level.SERIES]]]
            if level is Level.IMAGE
            else None,
            sop_instance_uids=own if level is Level.IMAGE else None,
            most=MOST_INSTANCES,
        )


def destination_of(title: str, asking: Peer, peers: Sequence[Peer]) -> Peer | None:
    """The peer to which `asking` may have instances moved; None: there is none of that AE title, or it may not."""
    wanted = next((one for one in peers if one.ae_title == title.strip() and one.reachable), None)
    if wanted is None:
        return None
    allowed = asking.move_to or (asking.name,)
    return wanted if wanted.name in allowed else None


def move(
    answering: Answering,
    held: Sequence[HeldInstance],
    *,
    destination: Peer,
    originator: tuple[str, int],
    ae_title: str,
    files: InstanceFiles,
    identity: TlsIdentity | None,
) -> Progress:
    """Sends the instances to the destination and tells how far that is; what was not sent has failed."""
    progress, told_at = Progress(len(held)), 0.0
    with Lines(identity=identity) as lines:
        for first in range(0, len(held), AT_ONCE):
            waiting = dict.fromkeys(one.sop_instance_uid for one in held[first : first + AT_ONCE])
            outbound = _outbound(held[first : first + AT_ONCE], files)
            for uid in waiting.keys() - {one.sop_instance_uid for one in outbound}:
                progress.note(uid, None)
                del waiting[uid]
            sent = store_instances(destination, outbound, ae_title=ae_title, lines=lines, originator=originator)
            try:
                for result in sent if outbound else ():
                    progress.note(result.sop_instance_uid, result.state)
                    waiting.pop(result.sop_instance_uid, None)
                    if answering.is_cancelled or not answering.is_open:
                        progress.cancelled = True
                        return progress
                    if progress.remaining and time.monotonic() - told_at > TELL_S:
                        told_at = time.monotonic()
                        answering.answer(PENDING, counts=progress.counts())
            except (PeerUnreachable, PeerRejected, OSError) as fault:
                LOG.warning("move: to %s: %s", destination.name, fault)
                for uid in waiting:
                    progress.note(uid, None)
                if isinstance(fault, PeerUnreachable):
                    for one in held[first + AT_ONCE :]:
                        progress.note(one.sop_instance_uid, None)
                    return progress
    return progress


def get(answering: Answering, held: Sequence[HeldInstance], *, asking: Peer, files: InstanceFiles) -> Progress:
    """Sends the instances back on the association of the request; raises AssociationBroken when its peer is gone."""
    progress, told_at, ahead = Progress(len(held)), 0.0, ReadAhead()
    line = AskedLine(answering.association, answer_s=Patience().answer_s)
    for outbound, following in _pairs(held, files, progress):
        try:
            meanwhile = None if following is None else partial(ahead.read, following.path)
            result = store_on(line, outbound, asking, ahead, meanwhile)
        except (OSError, ValueError) as fault:
            if not answering.is_open:
                raise AssociationBroken(f"an instance could not be sent whole: {fault}") from fault
            LOG.error("get: %s cannot be sent: %s", outbound.sop_instance_uid, fault)
            progress.note(outbound.sop_instance_uid, None)
            continue
        progress.note(result.sop_instance_uid, result.state)
        if answering.is_cancelled or not answering.is_open:
            progress.cancelled = True
            return progress
        if progress.remaining and time.monotonic() - told_at > TELL_S:
            told_at = time.monotonic()
            answering.answer(PENDING, counts=progress.counts())
    return progress


def answer_last(answering: Answering, progress: Progress) -> None:
    """The last answer, with the list of what failed."""
    failed = [(FAILED_UIDS, "UI", progress.failed)] if progress.failed else []
    identifier = encode_identifier(failed, implicit=answering.is_implicit) if failed else None
    answering.answer(progress.status, identifier=identifier, counts=progress.counts(last=True))


def _outbound(held: Sequence[HeldInstance], files: InstanceFiles) -> list[Outbound]:
    """Those whose files are here."""
    found = []
    for one in held:
        try:
            path = files.path_of(one.sop_instance_uid)
        except OSError as fault:  # removed since, or a store that does not answer
            LOG.error("retrieve: %s cannot be read: %s", one.sop_instance_uid, type(fault).__name__)
            continue
        found.append(Outbound(one.sop_instance_uid, one.sop_class_uid, one.transfer_syntax_uid, path))
    return found


def _pairs(
    held: Sequence[HeldInstance], files: InstanceFiles, progress: Progress
) -> Iterator[tuple[Outbound, Outbound | None]]:
    """Each instance with the one after it."""
    for first in range(0, len(held), AT_ONCE):
        chunk = held[first : first + AT_ONCE]
        outbound = _outbound(chunk, files)
        here = {one.sop_instance_uid for one in outbound}
        for one in chunk:
            if one.sop_instance_uid not in here:
                progress.note(one.sop_instance_uid, None)
        yield from zip(outbound, [*outbound[1:], None], strict=True)
