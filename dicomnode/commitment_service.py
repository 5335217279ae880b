"""Storage Commitment on the node's port: peers ask us to keep instances, and report on what we asked them."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pynetdicom import evt

from dicomnode.bell import DISPATCH_ROOM, Bell
from dicomnode.commit import INVALID_ARGUMENT, SUCCESS, hear_report
from dicomnode.commitment import REQUEST_ACTION, read_request
from dicomnode.commitment_call import send_report
from dicomnode.contexts import STORAGE_COMMITMENT_INSTANCE, commitment_context
from dicomnode.errors import DatasetUnfit
from dicomnode.peer import Peer
from dicomnode.promise import keep_promise
from dicomnode.service import NOT_AUTHORISED, Handler, Means, Rights, Who
from storage.disk_room import free_bytes
from storage.errors import DatabaseAway
from storage.references import NO_SUCH_INSTANCE, OUT_OF_RESOURCES, PROCESSING_FAILURE, Reference

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

LOG = logging.getLogger(__name__)
NO_SUCH_ACTION = 0x0123
REPORT_S = timedelta(seconds=1)
"""So long after its request a peer is reported to: it may have to end its own association before it can be called."""
AT_ONCE = timedelta(0)


class CommitmentService:
    """Who may store may ask; who was asked may report."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def contexts(self) -> Sequence[PresentationContext]:
        """The Push Model, with either side as its provider."""
        return [commitment_context()]

    def handlers(self, who: Who) -> Sequence[Handler]:
        """N-ACTION and N-EVENT-REPORT."""
        rights = Rights(who, self._means.happened)
        return [
            (evt.EVT_N_ACTION, self._on_request, [rights]),
            (evt.EVT_N_EVENT_REPORT, self._on_report, [who]),
        ]

    def end(self) -> None:
        """Nothing of it waits to be told."""

    def _on_request(self, event: evt.Event, rights: Rights) -> tuple[int, None]:
        """A request is kept in SQL before the peer hears success: its report outlives a restart."""
        peer = rights.peer_with("store", event.assoc)
        if peer is None:
            return NOT_AUTHORISED, None
        asked = event.request
        if asked.ActionTypeID != REQUEST_ACTION:
            return NO_SUCH_ACTION, None
        if asked.RequestedSOPInstanceUID != STORAGE_COMMITMENT_INSTANCE:
            return NO_SUCH_INSTANCE, None
        try:
            transaction_uid, references = read_request(event.action_information)
            return self._keep(peer, transaction_uid, references, event.assoc), None
        except DatasetUnfit as fault:
            self._tell_unfit(peer, str(fault))
            return INVALID_ARGUMENT, None
        except DatabaseAway as fault:
            LOG.error("commitment: a request of %s cannot be kept now: %s", peer.name, fault)
            return OUT_OF_RESOURCES, None

    def _keep(self, peer: Peer, transaction_uid: str, references: list[Reference], association: Any) -> int:
        # Imported here, as in what follows: a receiver that is never asked does without SQLAlchemy.
        from storage import promises

        if not peer.reachable and not hasattr(association, "afterwards"):  # pynetdicom's own has none
            self._tell_unfit(peer, "it has no host and port to be reported to, and receive_path is plain")
            return PROCESSING_FAILURE
        now = datetime.now(UTC)
        report_at = now + (REPORT_S if peer.reachable else AT_ONCE)
        with self._means.database.begin() as connection:
            promise = promises.open_promise(
                connection, peer.name, transaction_uid, references, report_at=report_at, now=now
            )
        if promise is None:
            self._tell_unfit(peer, "a transaction UID that it has used for other instances")
            return PROCESSING_FAILURE
        LOG.info("commitment: %s asks for %d instances", peer.name, len(references))
        if not peer.reachable:
            association.afterwards.append(partial(self._tell_on, association, peer, promise.id))
        return SUCCESS

    def _tell_on(self, association: Any, peer: Peer, promise_id: int) -> None:
        """A peer that cannot be called is told once it has the response; what fails then is said at once."""
        try:
            keep_promise(
                promise_id,
                lambda report: send_report(association, peer, report),
                database=self._means.database.open(),
                files=self._means.files,
                has_room=self._has_room,
                wait_s=self._retry_s,
                patience=AT_ONCE,
            )
        except DatabaseAway as fault:
            LOG.error("commitment: %s cannot be told now: %s", peer.name, fault)

    def _on_report(self, event: evt.Event, who: Who) -> tuple[int, None]:
        """What a peer says of a request of ours; it is believed where that peer was asked."""
        peer = who(event.assoc)
        status = hear_report(event.event_information, peer, self._means.database, retry_s=self._retry_s)
        if status == INVALID_ARGUMENT:
            self._tell_unfit(peer, "a report on a transaction that it was not asked for, or that cannot be read")
        Bell(self._means.config().data_folder).ring(DISPATCH_ROOM)
        return status, None

    def _tell_unfit(self, peer: Peer, reason: str) -> None:
        self._means.happened("commitment not understood", peer.name, {"reason": reason})

    def _retry_s(self, failures: int) -> float:
        node = self._means.config().node
        return min(node.retry_first_s * 2.0 ** min(failures, 32), node.retry_longest_s) * random.uniform(0.9, 1.1)

    def _has_room(self) -> bool:
        config = self._means.config()
        return free_bytes(config.data_folder) >= config.retention.low_watermark_gb * 1e9
