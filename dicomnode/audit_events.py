"""What each event of our audit is in the words of PS3.15 A.5.3: event, action, outcome, and who takes part in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from dicomnode.uids import CODING_SCHEME

if TYPE_CHECKING:
    from storage.audit import Entry


class Code(NamedTuple):
    """One coded value: PS3.16 context groups 400 to 405 of DCM, or a word of our own."""

    value: str
    scheme: str
    meaning: str


def dcm(value: str, meaning: str) -> Code:
    """A code of PS3.16 Annex D."""
    return Code(value, "DCM", meaning)


APPLICATION_ACTIVITY = dcm("110100", "Application Activity")
AUDIT_LOG_USED = dcm("110101", "Audit Log Used")
BEGIN_TRANSFERRING = dcm("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = dcm("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = dcm("110104", "DICOM Instances Transferred")
STUDY_DELETED = dcm("110105", "DICOM Study Deleted")
EXPORT = dcm("110106", "Export")
QUERY = dcm("110112", "Query")
SECURITY_ALERT = dcm("110113", "Security Alert")

APPLICATION_START = dcm("110120", "Application Start")
APPLICATION_STOP = dcm("110121", "Application Stop")
NODE_AUTHENTICATION = dcm("110126", "Node Authentication")
SOFTWARE_CONFIGURATION = dcm("110131", "Software Configuration")
USE_OF_RESTRICTED_FUNCTION = dcm("110132", "Use of Restricted Function")

APPLICATION = dcm("110150", "Application")
DESTINATION = dcm("110152", "Destination Role ID")
SOURCE = dcm("110153", "Source Role ID")
DESTINATION_MEDIA = dcm("110154", "Destination Media")
MEDIUM = dcm("110037", "URI")
"""CID 405, of what is written to a folder."""

STUDY_UID = dcm("110180", "Study Instance UID")
SOP_CLASS_UID = dcm("110181", "SOP Class UID")
NODE_ID = dcm("110182", "Node ID")
SERIES_UID = dcm("112002", "Series Instance UID")
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
URI = Code("12", "RFC-3881", "URI")

SUCCESS, MINOR, SERIOUS = "0", "4", "8"
"""PS3.15 A.5.2: nominal success; what did not work and was tried again or turned away; what was given up."""


class Parties(Enum):
    """Who takes part, and who asked for it."""

    US = "us"
    OUR_APPLICATION = "us, as the application that started or stopped"
    PEER_TO_US = "the peer sent it or asked for it, to us"
    US_TO_PEER = "we sent it or asked for it, to the peer"
    US_TO_DESTINATIONS = "we begin to send it to where the job sends"
    US_FROM_PEER = "we asked for it and the peer sent it"
    THEIR_RETRIEVE = "the peer asked us to send it to itself, or where the details say"
    ALERT = "we report what a caller did"
    USER = "a person at the command line, by way of us"
    USER_TO_MEDIA = "a person at the command line takes it away"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one event is told."""

    event: Code
    action: str
    """C, R, U, D or E: created, read, updated, deleted, executed."""
    outcome: str = SUCCESS
    parties: Parties = Parties.US
    types: tuple[Code, ...] = ()
    """What the standard wants as EventTypeCode; our own word for the event always follows."""


def _of_ours(event: str, outcome: str = SUCCESS, parties: Parties = Parties.US) -> Kind:
    """An event for which PS3.15 A.5.3 has no message: its EventID is a word of our own (A.5, extensions)."""
    return Kind(own_code(event), "E", outcome, parties)


def own_code(event: str) -> Code:
    """Our own code for an event: its words joined by hyphens."""
    return Code(re.sub(r"[^a-z0-9]+", "-", event.lower()).strip("-") or "event", CODING_SCHEME, event)


def _alert(kind: Code, outcome: str = MINOR, parties: Parties = Parties.ALERT) -> Kind:
    return Kind(SECURITY_ALERT, "E", outcome, parties, (kind,))


def _transferred(action: str, outcome: str, parties: Parties) -> Kind:
    return Kind(INSTANCES_TRANSFERRED, action, outcome, parties)


_REFUSED_RIGHT = _alert(USE_OF_RESTRICTED_FUNCTION)

EVENTS: Mapping[str, Kind] = {
    # the node itself
    "node started": Kind(APPLICATION_ACTIVITY, "E", SUCCESS, Parties.OUR_APPLICATION, (APPLICATION_START,)),
    "node stopped": Kind(APPLICATION_ACTIVITY, "E", SUCCESS, Parties.OUR_APPLICATION, (APPLICATION_STOP,)),
    "process restarted": Kind(APPLICATION_ACTIVITY, "E", MINOR, Parties.OUR_APPLICATION, (APPLICATION_START,)),
    "config reloaded": _alert(SOFTWARE_CONFIGURATION, SUCCESS, Parties.US),
    "config not reloaded": _alert(SOFTWARE_CONFIGURATION, MINOR, Parties.US),
    "audit exported": Kind(AUDIT_LOG_USED, "R", SUCCESS, Parties.USER),
    "audit export away": _of_ours("audit export away", MINOR),
    "audit export back": _of_ours("audit export back"),
    # who calls
    "association refused": _alert(NODE_AUTHENTICATION),
    "association released": _of_ours("association released", SUCCESS, Parties.PEER_TO_US),
    "association aborted": _of_ours("association aborted", MINOR, Parties.PEER_TO_US),
    "store refused": _REFUSED_RIGHT,
    "query refused": _REFUSED_RIGHT,
    "retrieve refused": _REFUSED_RIGHT,
    # what comes in: one message when the series is complete, and one for each instance that was not kept
    "series closed": _transferred("C", SUCCESS, Parties.PEER_TO_US),
    "instance refused": _transferred("C", SERIOUS, Parties.PEER_TO_US),
    "conflict": _transferred("R", SERIOUS, Parties.PEER_TO_US),
    "late instances": Kind(INSTANCES_ACCESSED, "U"),
    "quarantined": _of_ours("quarantined", SERIOUS),
    "series not routed": _of_ours("series not routed", SERIOUS),
    "derived series routed": _of_ours("derived series routed"),
    # what is made of it
    "job waiting": _of_ours("job waiting"),
    "job joined": _of_ours("job joined"),
    "input chosen": _of_ours("input chosen"),
    "job running": Kind(INSTANCES_ACCESSED, "R"),
    "derived": Kind(INSTANCES_ACCESSED, "C"),
    "job derived": _of_ours("job derived"),
    "other result": _of_ours("other result", MINOR),
    "job refused": _of_ours("job refused", MINOR),
    "job failed": _of_ours("job failed", SERIOUS),
    "job superseded": _of_ours("job superseded"),
    "job superseded, delivery stands": _of_ours("job superseded, delivery stands"),
    # what goes out
    "job sending": Kind(BEGIN_TRANSFERRING, "E", SUCCESS, Parties.US_TO_DESTINATIONS),
    "delivery done": _transferred("R", SUCCESS, Parties.US_TO_PEER),
    "delivery rejected": _transferred("R", SERIOUS, Parties.US_TO_PEER),
    "delivery abandoned": _transferred("R", SERIOUS, Parties.US_TO_PEER),
    "delivery committing": _of_ours("delivery committing", SUCCESS, Parties.US_TO_PEER),
    "job delivered": _of_ours("job delivered"),
    "lane broken": _of_ours("lane broken", MINOR, Parties.US_TO_PEER),
    "lane mended": _of_ours("lane mended", SUCCESS, Parties.US_TO_PEER),
    # who asks whom
    "query answered": Kind(QUERY, "E", SUCCESS, Parties.PEER_TO_US),
    "queried a peer": Kind(QUERY, "E", SUCCESS, Parties.US_TO_PEER),
    "retrieve answered": _transferred("R", SUCCESS, Parties.THEIR_RETRIEVE),
    "series retrieved": _transferred("R", SUCCESS, Parties.US_FROM_PEER),
    "retrieve failed": _of_ours("retrieve failed", MINOR, Parties.US_FROM_PEER),
    # storage commitment that peers ask of us
    "commitment wanted": _of_ours("commitment wanted", SUCCESS, Parties.PEER_TO_US),
    "commitment given": _of_ours("commitment given", SUCCESS, Parties.US_TO_PEER),
    "commitment refused": _of_ours("commitment refused", MINOR, Parties.US_TO_PEER),
    "commitment not told": _of_ours("commitment not told", SERIOUS, Parties.US_TO_PEER),
    "commitment not understood": _of_ours("commitment not understood", MINOR, Parties.PEER_TO_US),
    # storage commitment that we ask of peers
    "commitment asked": _of_ours("commitment asked", SUCCESS, Parties.US_TO_PEER),
    "commitment reported": _of_ours("commitment reported", SUCCESS, Parties.PEER_TO_US),
    "commitment failed": _of_ours("commitment failed", MINOR, Parties.PEER_TO_US),
    "commitment overdue": _of_ours("commitment overdue", MINOR, Parties.US_TO_PEER),
    # what is taken away
    "exported": Kind(EXPORT, "R", SUCCESS, Parties.USER_TO_MEDIA),
    # what goes away
    "removed": Kind(INSTANCES_ACCESSED, "D"),
}
"""Every event that the node records; a test finds those that are missing."""


def kind_of(entry: Entry) -> Kind:
    """How a row is told; an event that is not listed is told under our own code rather than not at all."""
    kind = EVENTS.get(entry.event) or _of_ours(entry.event)
    if entry.event == "removed" and entry.details.get("last_of_study"):
        return replace(kind, event=STUDY_DELETED)
    if kind.outcome == SUCCESS and _fell_short(entry):
        return replace(kind, outcome=MINOR)
    return kind


def _fell_short(entry: Entry) -> bool:
    """Whether something that mostly succeeds did not: a status that is none of success, or instances that failed."""
    status, failed = entry.details.get("status", "0x0000"), entry.details.get("failed", 0)
    return status != "0x0000" or (isinstance(failed, int) and failed > 0)
