"""A series is fetched from a peer: by C-MOVE to ourselves, or by C-GET through the same door as C-STORE."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from pydicom.dataset import Dataset

from dicomnode.call import Patience
from dicomnode.contexts import ACCEPTED_STORAGE, MOST_CONTEXTS, TRANSFER_SYNTAXES
from dicomnode.dialogue import Answer, Ask, Dialogue
from dicomnode.errands import Turns
from dicomnode.errors import DatasetUnfit, PeerRejected, PeerUnreachable
from dicomnode.fast_pdu import StoreRequest
from dicomnode.finding import FoundInstance, FoundSeries
from dicomnode.incoming import Incoming
from dicomnode.negotiation import Offer
from dicomnode.peek import shown_uid
from dicomnode.peer import Peer
from dicomnode.question import STUDY_ROOT_GET, STUDY_ROOT_MOVE, retrieve_identifier
from dicomnode.receive import CANNOT_UNDERSTAND, FAULT_STATUS, SUCCESS
from dicomnode.service import Happening
from dicomnode.tls import TlsIdentity
from storage.errors import InstanceConflict
from storage.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)
How = Literal["move", "get"]
Progress = Callable[[int, int | None], None]
"""Told of (instances done, instances in all where the peer says so)."""
AT_ONCE = 200
"""Instances that are asked for by their UIDs in one request."""
PATIENCE = Patience(answer_s=300.0)
"""A peer may have to fetch its images from an archive before it says anything."""
OF_MODALITY = {
    "CT": ACCEPTED_STORAGE[:6],
    "PT": ACCEPTED_STORAGE[6:9],
    "MR": ACCEPTED_STORAGE[9:14],
}
"""The image classes of a modality, in the list's order."""
WITH_WARNINGS, CANCELLED = 0xB000, 0xFE00
NEVER_MIND = {
    0x0124: "does not let us retrieve (0x0124 not authorised); allow our AE title there",
    0xA801: "does not know us as a destination (0xA801); enter our AE title, host and port there",
    0xA900: "says that what we ask for does not fit (0xA900); look at its log",
}
"""C-MOVE and C-GET statuses (PS3.4 Tables C.4-2 and C.4-3) that another try does not change."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a series that was asked for: instances that came, and that the peer could not give."""

    completed: int
    failed: int
    warnings: int


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Who fetches: our AE title, and where C-GET puts what comes.

    maximum_bytes: longest instance that C-GET takes; happened: told of what the audit must know of such; turns: of
    all who fetch here, by series.
    """

    ae_title: str
    files: InstanceFiles
    maximum_bytes: int
    happened: Happening
    identity: TlsIdentity | None = None
    patience: Patience = PATIENCE
    turns: Turns = field(default_factory=Turns)

    def fetch(
        self,
        peer: Peer,
        series: FoundSeries,
        instances: Sequence[FoundInstance],
        *,
        how: How,
        whole: bool = True,
        progress: Progress = lambda done, total: None,
    ) -> Fetched:
        """The series, or these instances of it where it is not `whole`; each is durable before the peer hears success.

        Raises PeerUnreachable where another try may help, PeerRejected where somebody has to look.
        """
        groups = [()] if whole else [tuple(instances[at : at + AT_ONCE]) for at in range(0, len(instances), AT_ONCE)]
        done: list[Fetched] = []
        for group in groups:
            before = sum(one.completed for one in done)

            def told(count: int, total: int | None, before: int = before) -> None:
                progress(before + count, len(instances) or total)

            uids = [one.sop_instance_uid for one in group]
            asked = retrieve_identifier(series.study_instance_uid, series.series_instance_uid, uids)
            step = self._move if how == "move" else self._get
            done.append(step(peer, series, asked, group or tuple(instances), told))
        return Fetched(*(sum(getattr(one, name) for one in done) for name in ("completed", "failed", "warnings")))

    def _move(
        self, peer: Peer, series: FoundSeries, asked: Dataset, wanted: Sequence[FoundInstance], progress: Progress
    ) -> Fetched:
        if "store" not in peer.may:
            raise PeerRejected(
                f'{peer.name} may not "store" in node.toml: what it sent us would be refused; allow it, or use C-GET'
            )
        with Dialogue.open(
            peer, STUDY_ROOT_MOVE, ae_title=self.ae_title, identity=self.identity, patience=self.patience
        ) as dialogue:
            last = Answer(CANCELLED)
            for last in dialogue.ask(Ask.MOVE, STUDY_ROOT_MOVE, asked, destination=self.ae_title):
                if not last.is_last:
                    done = (last.completed or 0) + (last.warnings or 0)
                    progress(done, None if last.remaining is None else done + (last.failed or 0) + last.remaining)
            return outcome(dialogue.where, last, asked_for=len(wanted))

    def _get(
        self, peer: Peer, series: FoundSeries, asked: Dataset, wanted: Sequence[FoundInstance], progress: Progress
    ) -> Fetched:
        sinks: list[_Taken] = []

        def store(request: StoreRequest, transfer_syntax_uid: str) -> _Taken:
            incoming = Incoming(
                self.files,
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                calling_ae_title=peer.ae_title,
                maximum_bytes=self.maximum_bytes,
            )
            uid = request.sop_instance_uid
            told = partial(self._tell, peer.name, uid, series.series_instance_uid)
            sinks.append(_Taken(incoming, series.series_instance_uid, told))
            progress(sum(sink.status == SUCCESS for sink in sinks), None)
            return sinks[-1]

        with Dialogue.open(
            peer,
            STUDY_ROOT_GET,
            ae_title=self.ae_title,
            takes=offers_for({one.sop_class_uid for one in wanted}, str(series.values.get("Modality", ""))),
            identity=self.identity,
            patience=self.patience,
        ) as dialogue:
            last = Answer(CANCELLED)
            for answer in dialogue.ask(Ask.GET, STUDY_ROOT_GET, asked, store=store):
                last = answer
            ours = [sink for sink in sinks if sink.status == SUCCESS]
            progress(len(ours), None)
            told = outcome(dialogue.where, last, refused_by_us=len(sinks) - len(ours))
        # What we have made durable counts, whatever the peer counted.
        refused = len(sinks) - len(ours)
        return Fetched(len(ours), max(told.failed, refused), told.warnings)

    def _tell(self, peer: str, sop_instance_uid: str, series_uid: str, fault: Exception, status: int) -> None:
        """What was not kept enters log and audit as that of a C-STORE does; unforeseen words may quote the data set."""
        reason = str(fault) if type(fault) in FAULT_STATUS else type(fault).__name__
        uid = shown_uid(sop_instance_uid)
        LOG.warning("fetch: instance %s from %s answered 0x%04X: %s", uid, peer, status, reason)
        self.happened(
            "conflict" if isinstance(fault, InstanceConflict) else "instance refused",
            peer,
            {
                "sop_instance_uid": uid,
                "series_instance_uid": series_uid,
                "status": f"0x{status:04X}",
                "reason": reason[:200],
            },
        )


def offers_for(sop_class_uids: set[str], modality: str = "") -> frozenset[Offer]:
    """What a C-GET may bring: each class in as many transfer syntaxes as fit; as it is stored is what we want most.

    modality: what the classes are guessed from where the peer does not name them (DCMTK's server does not).

    Raises PeerRejected for a class that the node does not keep.
    """
    known = {uid for uid in sop_class_uids if uid}
    if foreign := sorted(known - set(ACCEPTED_STORAGE)):
        raise PeerRejected(f"the series holds instances of class {foreign[0]}, which the node does not keep")
    wanted = sorted(known) or OF_MODALITY.get(modality, ACCEPTED_STORAGE)
    room = (MOST_CONTEXTS - 2) // len(wanted)
    if not room:
        raise PeerRejected(f"{len(wanted)} SOP classes do not fit one association; use C-MOVE")
    return frozenset((uid, syntax) for uid in wanted for syntax in TRANSFER_SYNTAXES[:room])


def outcome(where: str, last: Answer, *, asked_for: int = 0, refused_by_us: int = 0) -> Fetched:
    """What the last answer says; asked_for: counts as done where it says success and no number.

    Raises PeerRejected or PeerUnreachable for a refusal of the whole.
    """
    if last.status == 0x0000 and last.completed is None:  # PS3.7 9.1.4: the numbers may be left out
        return Fetched(asked_for, last.failed or 0, last.warnings or 0)
    done = Fetched(last.completed or 0, last.failed or 0, last.warnings or 0)
    if last.status in (0x0000, WITH_WARNINGS):
        return done
    if last.status in NEVER_MIND:
        raise PeerRejected(f"{where} {NEVER_MIND[last.status]}")
    if done.completed or done.failed or refused_by_us:  # some of it: the counts say how much
        return Fetched(done.completed, max(1, done.failed), done.warnings)
    if last.status & 0xFF00 == 0xA700 or last.status == CANCELLED:
        raise PeerUnreachable(
            f"{where} could not send what we asked for (status 0x{last.status:04X}); it is tried again"
        )
    raise PeerRejected(
        f"{where} refused to send what we asked for (status 0x{last.status:04X}); look at its log, and for C-MOVE "
        "whether it knows and reaches us"
    )


class _Taken:
    """One instance of a C-GET: the first fault stops the writing, never the reading, and becomes the status."""

    def __init__(self, incoming: Incoming, series_instance_uid: str, told: Callable[[Exception, int], None]) -> None:
        """told: of each instance that was not kept, and the status it was answered with."""
        self._incoming, self._series_instance_uid, self._told = incoming, series_instance_uid, told
        self._fault: Exception | None = None
        self.status: int | None = None

    def take(self, piece: memoryview) -> None:
        """The next bytes."""
        if self._fault is None:
            self._attempt(lambda: self._incoming.take(piece))

    def finish(self) -> int:
        """The status of the response, once the instance is durable."""
        if self._fault is None:
            self._attempt(self._keep)
        self._attempt(self._incoming.close)
        self.status = SUCCESS if self._fault is None else FAULT_STATUS.get(type(self._fault), CANNOT_UNDERSTAND)
        if self._fault is not None:
            self._told(self._fault, self.status)
        return self.status

    def drop(self) -> None:
        """The association ended before the data set did: nothing is left of it."""
        self._attempt(self._incoming.close)

    def _keep(self) -> None:
        if self._incoming.series_instance_uid:  # else its first bytes did not tell, and `keep` looks again
            self._refuse_other_series()
        self._incoming.keep()
        self._refuse_other_series()

    def _refuse_other_series(self) -> None:
        if self._incoming.series_instance_uid != self._series_instance_uid:
            raise DatasetUnfit("the peer sent an instance of another series than was asked for")

    def _attempt(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as fault:  # FAULT_STATUS decides
            self._fault = self._fault or fault
