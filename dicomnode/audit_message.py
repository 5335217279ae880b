"""One row of the audit as an audit message: XML by the schema of PS3.15 A.5.1, filled as A.5.2 and A.5.3 say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from enum import Enum
from ipaddress import ip_address
from xml.etree import ElementTree as Xml

from dicomnode.audit_events import (
    APPLICATION,
    DESTINATION,
    DESTINATION_MEDIA,
    MEDIUM,
    NODE_ID,
    PATIENT_NUMBER,
    QUERY,
    SECURITY_ALERT,
    SERIES_UID,
    SOP_CLASS_UID,
    SOURCE,
    STUDY_UID,
    URI,
    Code,
    Kind,
    Parties,
    kind_of,
    own_code,
)
from dicomnode.audit_query import TRANSFER_SYNTAX_UID, query_of, sop_class_of
from dicomnode.peer import Peer
from storage.audit_spool import Waiting, uid_of

LONGEST_VALUE = 1000
"""Characters of one detail; what is longer stays in the audit and is found there by the row's number."""
LONGEST_NAME, LONGEST_LEVEL = 64, 16
"""Characters of whatever stands in a message that is as short as can be."""
SERVER_PROCESS = "4"
"""AuditSourceTypeCode (PS3.15 A.5.1.2.1)."""
PERSON, SYSTEM_OBJECT = "1", "2"
PATIENT_ROLE, REPORT_ROLE, SECURITY_RESOURCE_ROLE = "1", "3", "13"
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""
_OBJECT = "ParticipantObjectIdentification"
_SAID_ELSEWHERE = frozenset(("derived_series_instance_uid", "study_instance_uid", "series_instance_uid"))


class Fullness(Enum):
    """How much a message says, from all to the least that the schema and the standard want."""

    WHOLE = "all"
    WITHOUT_DETAILS = "what the standard asks for"
    BARE = "of that, one study, and every value cut short"


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who tells: this node, and what it knows of its peers."""

    ae_title: str
    host: str
    source_id: str
    deployment_uuid: str
    enterprise_site: str = ""
    peers: Mapping[str, Peer] = field(default_factory=dict)


def audit_message(row: Waiting, reporter: Reporter, *, longest: int) -> bytes:
    """The message, ASCII; the same row gives the same message while peers and catalogue stay. longest: in bytes.

    What would make it longer is left out: our own details, then what others chose the length of. It is in the audit,
    and the message says which row.
    """
    octets = b""
    for fullness in Fullness:
        octets = _rendered(row, reporter, fullness)
        if len(octets) <= longest:
            break
    return octets


def _rendered(row: Waiting, reporter: Reporter, fullness: Fullness) -> bytes:
    kind = kind_of(row.entry)
    message = Xml.Element("AuditMessage")
    _add_event(message, row, kind)
    _add_participants(message, row, kind.parties, reporter)
    source = _add(message, "AuditSourceIdentification", AuditSourceID=reporter.source_id)
    if reporter.enterprise_site:
        source.set("AuditEnterpriseSiteID", _clean(reporter.enterprise_site))
    Xml.SubElement(source, "AuditSourceTypeCode", {"csd-code": SERVER_PROCESS})
    if kind.event == SECURITY_ALERT:
        _add_alert(message, row, reporter)
    if kind.event == QUERY:
        _add_query(message, row, with_keys=fullness is not Fullness.BARE)
    else:
        _add_studies(message, row)
    if row.patient_id:
        _add_object(message, row.patient_id, PATIENT_NUMBER, kind=PERSON, role=PATIENT_ROLE, name="")
    _add_row(message, row, reporter, with_details=fullness is Fullness.WHOLE)
    if fullness is Fullness.BARE:
        _cut(message)
    octets: bytes = Xml.tostring(message, encoding="us-ascii")
    return b'<?xml version="1.0" encoding="UTF-8"?>' + octets


def _add_event(message: Xml.Element, row: Waiting, kind: Kind) -> None:
    entry = row.entry
    event = _add(
        message,
        "EventIdentification",
        EventActionCode=kind.action,
        EventDateTime=entry.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        EventOutcomeIndicator=kind.outcome,
    )
    _add_code(event, "EventID", kind.event)
    for code in (*kind.types, own_code(entry.event)):
        _add_code(event, "EventTypeCode", code)
    if reason := _reason(row):
        Xml.SubElement(event, "EventOutcomeDescription").text = reason


def _reason(row: Waiting) -> str:
    details = row.entry.details
    words = next((str(details[key]) for key in ("reason", "what", "because") if details.get(key)), "")
    return " ".join(_clean(words).split())[:LONGEST_VALUE]


def _add_participants(message: Xml.Element, row: Waiting, parties: Parties, reporter: Reporter) -> None:
    entry = row.entry
    if parties is Parties.US:
        _add_us(message, reporter, asked=True)
    elif parties is Parties.OUR_APPLICATION:
        _add_us(message, reporter, asked=False, role=APPLICATION)
    elif parties is Parties.PEER_TO_US:
        _add_peer(message, entry.peer, reporter, asked=True, role=SOURCE)
        _add_us(message, reporter, asked=False, role=DESTINATION)
    elif parties is Parties.US_TO_PEER:
        _add_us(message, reporter, asked=True, role=SOURCE)
        _add_peer(message, entry.peer, reporter, asked=False, role=DESTINATION)
    elif parties is Parties.US_TO_DESTINATIONS:
        _add_us(message, reporter, asked=True, role=SOURCE)
        for name in row.destinations:
            _add_peer(message, name, reporter, asked=False, role=DESTINATION)
    elif parties is Parties.US_FROM_PEER:
        _add_peer(message, entry.peer, reporter, asked=False, role=SOURCE)
        _add_us(message, reporter, asked=True, role=DESTINATION)
    elif parties is Parties.THEIR_RETRIEVE:
        destination = _named(str(entry.details.get("destination") or ""), reporter) or entry.peer
        _add_us(message, reporter, asked=False, role=SOURCE)
        _add_peer(message, destination, reporter, asked=destination == entry.peer, role=DESTINATION)
        if destination != entry.peer:
            _add_peer(message, entry.peer, reporter, asked=True)
    elif parties is Parties.ALERT:
        _add_us(message, reporter, asked=False)
        _add_caller(message, row, reporter)
    else:
        _add_party(message, str(entry.details.get("user") or entry.details.get("by") or "unknown"), asked=True)
        media = parties is Parties.USER_TO_MEDIA
        _add_us(message, reporter, asked=False, role=SOURCE if media else None)
        if media:
            folder = str(entry.details.get("to") or "a folder of this machine")
            medium = _add_party(message, folder, asked=False, role=DESTINATION_MEDIA)
            _add_code(Xml.SubElement(medium, "MediaIdentifier"), "MediaType", MEDIUM)


def _add_us(message: Xml.Element, reporter: Reporter, *, asked: bool, role: Code | None = None) -> None:
    _add_party(message, reporter.ae_title, asked=asked, role=role, ae_title=reporter.ae_title, address=reporter.host)


def _add_peer(message: Xml.Element, name: str, reporter: Reporter, *, asked: bool, role: Code | None = None) -> None:
    peer = reporter.peers.get(name)
    ae_title, address = (peer.ae_title, peer.host) if peer is not None else ("", "")
    _add_party(message, name or "unknown", asked=asked, role=role, ae_title=ae_title, address=address)


def _named(ae_title: str, reporter: Reporter) -> str:
    """The peer of that AE title by its name; the title where there is none."""
    return next((name for name, peer in reporter.peers.items() if peer.ae_title == ae_title), ae_title)


def _add_caller(message: Xml.Element, row: Waiting, reporter: Reporter) -> None:
    """Whom an alert is about: a peer, or a stranger by what it called itself and its address."""
    details = row.entry.details
    if row.entry.peer:
        _add_peer(message, row.entry.peer, reporter, asked=False)
        return
    title = str(details.get("calling_ae_title", ""))
    address = str(details.get("address", ""))
    _add_party(message, title or address or "unknown", asked=False, ae_title=title, address=address)


def _add_party(
    message: Xml.Element, user_id: str, *, asked: bool, role: Code | None = None, ae_title: str = "", address: str = ""
) -> Xml.Element:
    party = _add(message, "ActiveParticipant", UserID=user_id, UserIsRequestor="true" if asked else "false")
    if ae_title:
        party.set("AlternativeUserID", f"AETITLES={_clean(ae_title)}")  # PS3.15 A.5.2.2
    if address:
        party.set("NetworkAccessPointID", _clean(address))
        party.set("NetworkAccessPointTypeCode", "2" if _is_address(address) else "1")
    if role is not None:
        _add_code(party, "RoleIDCode", role)
    return party


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _add_alert(message: Xml.Element, row: Waiting, reporter: Reporter) -> None:
    """The alert's subject (PS3.15 A.5.3.11): the caller's address, or this node."""
    node = str(row.entry.details.get("address") or row.entry.peer or reporter.host)
    subject = _add_object(message, node, NODE_ID, kind=SYSTEM_OBJECT, role=SECURITY_RESOURCE_ROLE, name="node")
    _add_detail(subject, "Alert Description", _reason(row) or row.entry.event)


def _add_query(message: Xml.Element, row: Waiting, *, with_keys: bool) -> None:
    """What was queried, by its SOP class, and the query (PS3.15 A.5.3.10), or no more of it than its level."""
    details = row.entry.details
    asked = _add_object(message, sop_class_of(details), SOP_CLASS_UID, kind=SYSTEM_OBJECT, role=REPORT_ROLE, name=None)
    Xml.SubElement(asked, "ParticipantObjectQuery").text = base64.b64encode(
        query_of(details if with_keys else {"level": str(details.get("level", ""))[:LONGEST_LEVEL]})
    ).decode("ascii")
    _add_detail(asked, "TransferSyntax", TRANSFER_SYNTAX_UID)


def _add_studies(message: Xml.Element, row: Waiting) -> None:
    """The study, or those that were asked for; the series where its study is not known (any more)."""
    details = row.entry.details
    series_uid = uid_of(row.entry) or str(details.get("series_instance_uid", ""))
    study_uid = row.study_instance_uid or str(details.get("study_instance_uid", ""))
    named = details.get("study_instance_uids")
    studies = [study_uid] if study_uid else list(map(str, named)) if isinstance(named, list | tuple) else []
    code = STUDY_UID if studies else SERIES_UID
    for uid in studies or ([series_uid] if series_uid else []):
        study = _add_object(message, uid, code, kind=SYSTEM_OBJECT, role=REPORT_ROLE, name="")
        if studies and series_uid:
            _add_detail(study, "SeriesInstanceUID", series_uid)
        if len(studies) <= 1 and (count := _instances(row)) is not None:
            described = Xml.SubElement(study, "ParticipantObjectDescription")
            sop_class = _add(described, "SOPClass", NumberOfInstances=str(count))
            if len(row.sop_classes) == 1:
                sop_class.set("UID", _clean(next(iter(row.sop_classes))))
            if "deidentified" in details:
                Xml.SubElement(described, "Anonymized").text = "true" if details["deidentified"] else "false"


def _instances(row: Waiting) -> int | None:
    """How many instances the row speaks of."""
    details = row.entry.details
    said = details.get("sent", details.get("fetched", details.get("instances")))
    if isinstance(said, Mapping):  # of a delivery: by what came of them
        return sum(count for count in said.values() if isinstance(count, int))
    if isinstance(said, int):
        return said
    return 1 if details.get("sop_instance_uid") else None


def _add_row(message: Xml.Element, row: Waiting, reporter: Reporter, *, with_details: bool) -> None:
    """The row itself, with its hash: what is kept elsewhere shows later whether our audit is still whole."""
    entry = row.entry
    uri = f"urn:uuid:{reporter.deployment_uuid}#{entry.seq}"
    found = _add_object(message, uri, URI, kind=SYSTEM_OBJECT, role=SECURITY_RESOURCE_ROLE, name="Security Audit Log")
    _add_detail(found, "hash", entry.hash)
    if entry.job_id is not None:
        _add_detail(found, "job", str(entry.job_id))
    if with_details:
        for key, value in entry.details.items():
            if key not in _SAID_ELSEWHERE:
                text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
                _add_detail(found, str(key), text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} ...")


def _cut(message: Xml.Element) -> None:
    """Of several studies the first stays, and of each word its beginning; a cut ID would be another's: it goes."""
    named: set[str] = set()
    for found in message.findall(_OBJECT):
        code = found.find("ParticipantObjectIDTypeCode")
        kind = "" if code is None else code.get("csd-code", "")
        if kind in named or (kind != NODE_ID.value and len(found.get("ParticipantObjectID", "")) > LONGEST_NAME):
            message.remove(found)
        else:
            named.add(kind)
        for detail in found.findall("ParticipantObjectDetail"):
            if len(detail.get("value", "")) > 2 * LONGEST_NAME:
                found.remove(detail)
    for element in message.iter():
        for key, value in element.items():
            if key != "value":
                element.set(key, value[:LONGEST_NAME])
        if element.tag == "EventOutcomeDescription":
            element.text = (element.text or "")[:LONGEST_NAME]


def _add_object(
    message: Xml.Element, identifier: str, code: Code, *, kind: str, role: str, name: str | None
) -> Xml.Element:
    """name: None where a query stands in its place; else the schema wants it, also empty."""
    found = _add(
        message,
        _OBJECT,
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _add_code(found, "ParticipantObjectIDTypeCode", code)
    if name is not None:
        Xml.SubElement(found, "ParticipantObjectName").text = name or None
    return found


def _add_detail(found: Xml.Element, kind: str, value: str) -> None:
    octets = base64.b64encode(value.encode("utf-8", "replace")).decode("ascii")
    _add(found, "ParticipantObjectDetail", type=kind, value=octets)


def _add_code(above: Xml.Element, name: str, code: Code) -> None:
    facts = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": _clean(code.meaning)}
    Xml.SubElement(above, name, facts)


def _add(above: Xml.Element, name: str, **attributes: str) -> Xml.Element:
    return Xml.SubElement(above, name, {key: _clean(value) for key, value in attributes.items()})


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
