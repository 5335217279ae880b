"""The query/retrieve provider (PS3.4 C): C-FIND, C-MOVE and C-GET in the Patient Root and Study Root models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pynetdicom import build_context, evt
from pynetdicom.presentation import PresentationContext

from dicomnode.contexts import UNCOMPRESSED
from dicomnode.errors import AssociationBroken
from dicomnode.frequent import Frequent
from dicomnode.peer import Peer
from dicomnode.service import NOT_AUTHORISED, Handler, Means, Rights, Who

if TYPE_CHECKING:
    from dicomnode.answer_retrieve import Progress
    from dicomnode.answering import Answering
    from dicomnode.query_levels import Negotiated
    from storage.queries import HeldInstance

LOG = logging.getLogger(__name__)
_MODELS = "1.2.840.10008.5.1.4.1.2."
SERVICES: Mapping[str, Mapping[str, str]] = {
    "C_FIND": {_MODELS + "1.1": "patient root", _MODELS + "2.1": "study root"},
    "C_MOVE": {_MODELS + "1.2": "patient root", _MODELS + "2.2": "study root"},
    "C_GET": {_MODELS + "1.3": "patient root", _MODELS + "2.3": "study root"},
}
"""Request -> SOP class UID -> information model."""
COMBINED, EMPTY, EVERY = 1, 5, 6
"""Places in the extended negotiation of what we can do (PS3.4 Table C.5-2); the others stay 0."""
MOST_UIDS_TOLD, MOST_STUDIES_TOLD = 20, 200
"""In one row of the audit: UIDs that a request names, and studies of which something is sent."""
SOP_CLASS_NOT_SUPPORTED = 0x0122


class QueryRetrieve:
    """Answers queries and retrievals over everything the catalogue lists, for those who may."""

    def __init__(self, means: Means) -> None:
        self._means, self._often = means, Frequent(means.happened)

    def contexts(self) -> Sequence[PresentationContext]:
        """Three services in two models; identifiers in Explicit or Implicit VR Little Endian."""
        return [build_context(uid, list(UNCOMPRESSED)) for models in SERVICES.values() for uid in models]

    def handlers(self, who: Who) -> Sequence[Handler]:
        """Takes the place of pynetdicom's own provider, which decodes every instance that it sends."""
        rights = Rights(who, self._often.happened)
        return [
            (evt.EVT_ACCEPTED, self._on_accepted, [rights]),
            (evt.EVT_SOP_EXTENDED, _on_extended),
            (evt.EVT_DIMSE_RECV, _on_message),
        ]

    def end(self) -> None:
        """The sums of what happened often are told."""
        self._often.tell()

    def _on_accepted(self, event: Any, rights: Rights) -> None:
        association = event.assoc
        association._serve_request = partial(self._serve, association, rights, association._serve_request)

    def _serve(
        self, association: Any, rights: Rights, otherwise: Callable[[Any, int], None], message: Any, number: int
    ) -> None:
        """One request of a peer; those that are not ours go where they always went."""
        models = SERVICES.get(type(message).__name__)
        context = association._accepted_cx.get(number)
        if models is None or context is None or not message.is_valid_request:
            otherwise(message, number)
            return
        from dicomnode.answering import Answering

        try:
            self._answer(Answering(association, message, context), rights, models)
        except AssociationBroken as fault:
            LOG.warning("query/retrieve: %s", fault)
            association.abort()
        finally:
            association.dul._idle_timer.restart()

    def _answer(self, answering: Answering, rights: Rights, models: Mapping[str, str]) -> None:
        # Imported at the first request: they bring SQLAlchemy, which a process that only receives does without.
        from dicomnode.answering import DOES_NOT_MATCH, OUT_OF_RESOURCES, UNABLE
        from dicomnode.identifier import IdentifierFault, read_identifier
        from dicomnode.query_levels import PATIENT_ROOT, STUDY_ROOT
        from storage.errors import DatabaseAway

        asked, service = str(answering.context.abstract_syntax), type(answering.request).__name__
        if asked not in models or answering.request.AffectedSOPClassUID != asked:
            answering.answer(SOP_CLASS_NOT_SUPPORTED)
            return
        peer = rights.peer_with("query" if service == "C_FIND" else "retrieve", answering.association)
        if peer is None:
            answering.answer(NOT_AUTHORISED)
            return
        levels = PATIENT_ROOT if models[asked] == "patient root" else STUDY_ROOT
        details: dict[str, Any] = {"service": service.replace("_", "-"), "model": models[asked]}
        status = UNABLE
        try:
            identifier = read_identifier(answering.identifier, implicit=answering.is_implicit)
            details |= {"level": identifier.level[:16], **_uids(identifier.values_of)}
            status = self._perform(answering, peer, identifier, levels, details)
        except IdentifierFault as fault:
            status = DOES_NOT_MATCH
            details["reason"] = str(fault)
            answering.answer(status, comment=str(fault), offending=fault.tag)
        except DatabaseAway as fault:
            LOG.error("query/retrieve: %s", fault)
            status = OUT_OF_RESOURCES
            details["reason"] = "the database is away"
            answering.answer(status, comment="the database is away")
        except AssociationBroken:
            details["reason"] = "the association was broken"
            raise
        except Exception as fault:  # a fault of ours; its words may repeat the identifier's
            LOG.exception("query/retrieve: a request of %s could not be answered", peer.name)
            details["reason"] = type(fault).__name__
            answering.answer(status, comment="internal fault")
        finally:
            happened = self._means.happened if details.get("sent") else self._often.happened
            happened(
                "query answered" if service == "C_FIND" else "retrieve answered",
                peer.name,
                details | {"status": f"0x{status:04X}"},
            )

    def _perform(
        self, answering: Answering, peer: Peer, identifier: Any, levels: Sequence[Any], details: dict[str, Any]
    ) -> int:
        """The status of the last answer, which is given."""
        service = type(answering.request).__name__
        if service == "C_FIND":
            return self._find(answering, identifier, levels, details)
        from dicomnode import answer_retrieve as retrieve
        from dicomnode.answering import CANCELLED

        destination = None
        if service == "C_MOVE":
            title = str(answering.request.MoveDestination or "").strip()
            details["destination"] = title
            destination = retrieve.destination_of(title, peer, list(self._means.config().peers.values()))
            if destination is None:
                details["reason"] = f"{title} is no reachable peer to which {peer.name} may have instances moved"
                answering.answer(retrieve.UNKNOWN_DESTINATION, comment="no destination that move_to allows")
                return retrieve.UNKNOWN_DESTINATION
        studies, held = retrieve.wanted_instances(identifier, levels, self._means.database)
        if studies:  # what is sent, also where it was asked for by patient
            details |= {"studies": len(studies), "study_instance_uids": studies[:MOST_STUDIES_TOLD]}
        if len(held) > retrieve.MOST_INSTANCES:
            answering.answer(retrieve.CANNOT_COUNT, comment=f"more than {retrieve.MOST_INSTANCES} instances")
            return retrieve.CANNOT_COUNT
        progress = retrieve.Progress.of(held)
        try:
            self._send(answering, progress, held, asking=peer, destination=destination)
        finally:
            details |= {"instances": len(held), "sent": progress.completed + progress.warning}
            details |= {"failed": len(progress.failed)} | ({"reason": progress.reason} if progress.reason else {})
        if answering.is_open:
            retrieve.answer_last(answering, progress)
            return progress.status
        details["reason"] = "the peer ended the association"
        return CANCELLED

    def _send(
        self,
        answering: Answering,
        progress: Progress,
        held: Sequence[HeldInstance],
        *,
        asking: Peer,
        destination: Peer | None,
    ) -> None:
        """To the destination of a C-MOVE; without one it is a C-GET, and the peer itself takes them."""
        from dicomnode import answer_retrieve as retrieve

        config, files = self._means.config(), self._means.files
        if destination is None:
            retrieve.get(answering, progress, held, asking=asking, files=files)
            return
        retrieve.move(
            answering,
            progress,
            held,
            destination=destination,
            originator=(asking.ae_title, int(answering.request.MessageID)),
            ae_title=config.node.ae_title,
            files=files,
            identity=config.tls,
        )

    def _find(self, answering: Answering, identifier: Any, levels: Sequence[Any], details: dict[str, Any]) -> int:
        from dicomnode.answer_find import found, told
        from dicomnode.answering import CANCELLED, PENDING, PENDING_WITH_IGNORED_KEYS, SUCCESS
        from dicomnode.query_levels import query_of

        query = query_of(identifier, levels, _negotiated(answering))
        pending = PENDING_WITH_IGNORED_KEYS if query.ignored else PENDING
        details |= {"asked": sorted(query.criteria), "answers": 0}
        ae_title = self._means.config().node.ae_title
        for facts in found(query, self._means.database, given_up=lambda: answering.is_given_up):
            one = told(query, facts, ae_title=ae_title, implicit=answering.is_implicit)
            answering.answer(pending, identifier=one)
            details["answers"] += 1
        status = CANCELLED if answering.is_given_up else SUCCESS
        answering.answer(status)
        return status


def _uids(values_of: Callable[[str], tuple[Any, ...]]) -> dict[str, Any]:
    """The UIDs that a request names: of what it asks they alone name no patient."""
    names = {"StudyInstanceUID": "study", "SeriesInstanceUID": "series", "SOPInstanceUID": "sop"}
    told = {}
    for keyword, name in names.items():
        if values := [str(one)[:64] for one in values_of(keyword)]:
            told[f"{name}_instance_uids"] = values[:MOST_UIDS_TOLD]
    return told


def _on_message(event: Any) -> None:
    """A request is here: what its peer cancelled before it, too late, does not mean it, also where IDs come again."""
    if type(event.message).__name__.removesuffix("_RQ") in SERVICES:
        event.assoc.dimse.cancel_req.clear()


def _on_extended(event: Any) -> dict[str, bytes]:
    """Of the extensions that a caller proposes: combined date and time, empty values, multiple values (C.5.1.1)."""
    answers = {}
    for uid, proposed in event.app_info.items():
        if uid in SERVICES["C_FIND"]:
            answers[uid] = bytes(
                int(place in (COMBINED, EMPTY, EVERY) and wish == 1) for place, wish in enumerate(proposed[:7])
            )
    return answers


def _negotiated(answering: Answering) -> Negotiated:
    from dicomnode.query_levels import Negotiated

    agreed = answering.association.acceptor.sop_class_extended.get(answering.context.abstract_syntax, b"")
    places = [place < len(agreed) and agreed[place] == 1 for place in (COMBINED, EMPTY, EVERY)]
    return Negotiated(combined=places[0], empty=places[1], every=places[2])
