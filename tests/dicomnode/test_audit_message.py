"""A message is what PS3.15 A.5.1 allows, says what A.5.3 asks of its event, and names no patient unless told to."""

from __future__ import annotations

import base64

import pytest
from lxml import etree
from pydicom.datadict import keyword_dict

from dicomnode.audit_events import EVENTS
from dicomnode.audit_message import LONGEST_VALUE, audit_message
from storage.audit_spool import Waiting
from tests.builders_audit import REPORTER, SCHEMA, SERIES, STUDY, details_of, parsed, row

CT = "1.2.840.10008.5.1.4.1.1.2"
REASON = {"reason": "too many\nlines \x00 & <tags>", "instances": 3, "µ": [1.5, {"deep": None}]}


def message(one: Waiting, *, longest: int = 32_000) -> etree._Element:
    return parsed(audit_message(one, REPORTER, longest=longest))


def parties(found: etree._Element) -> list[tuple[str, str, str]]:
    """(UserID, whether it asked, the code of its role) of each."""
    roles = [(one, one.find("RoleIDCode")) for one in found.iter("ActiveParticipant")]
    return [
        (one.get("UserID"), one.get("UserIsRequestor"), "" if role is None else role.get("csd-code"))
        for one, role in roles
    ]


def objects(found: etree._Element) -> dict[str, str]:
    """The code of each object's kind of ID -> its ID."""
    return {
        one.find("ParticipantObjectIDTypeCode").get("csd-code"): one.get("ParticipantObjectID")
        for one in found.iter("ParticipantObjectIdentification")
    }


@pytest.mark.parametrize("event", [*EVENTS, "what nobody listed"])
@pytest.mark.parametrize("known", [True, False], ids=["series known", "nothing known"])
def test_every_event_gives_a_message_that_the_schema_allows(event: str, known: bool) -> None:
    facts = {"series": SERIES, "peer": "scanner", "job_id": 3, "patient_id": "4711"} if known else {}
    found = message(row(event, REASON, sop_classes={CT: 3} if known else {}, **facts))
    assert found.find("EventIdentification/EventTypeCode[last()]").get("originalText") == event


def test_the_schema_of_the_tests_refuses_what_the_standard_refuses() -> None:
    good = etree.tostring(message(row("derived", series=SERIES)))
    assert SCHEMA.validate(etree.fromstring(good))
    for before, after in (
        (b'EventActionCode="C"', b'EventActionCode="X"'),
        (b'EventDateTime="2026', b'EventDateTime="20-26'),
        (b'UserIsRequestor="true"', b'UserIsRequestor="maybe"'),
        (b"csd-code", b"code"),
        (b"<ParticipantObjectName/>", b""),
        (b"AuditSourceIdentification", b"AuditSource"),
    ):
        assert before in good
        assert not SCHEMA.validate(etree.fromstring(good.replace(before, after))), after


def test_a_received_series_is_transferred_from_the_peer_to_us_with_its_study_and_count() -> None:
    closed = row("series closed", {"instances": 300}, series=SERIES, peer="scanner", sop_classes={CT: 300})
    found = message(closed)
    event = found.find("EventIdentification")
    assert event.find("EventID").attrib == {
        "csd-code": "110104", "codeSystemName": "DCM", "originalText": "DICOM Instances Transferred"
    }  # fmt: skip
    assert event.get("EventDateTime") == "2026-05-06T07:08:09.123456Z"
    assert parties(found) == [("scanner", "true", "110153"), ("DICOMNODE", "false", "110152")]
    scanner = found.find("ActiveParticipant")
    assert scanner.get("AlternativeUserID") == "AETITLES=CT1"
    assert (scanner.get("NetworkAccessPointID"), scanner.get("NetworkAccessPointTypeCode")) == ("10.1.2.3", "2")
    assert objects(found)["110180"] == STUDY
    assert found.find(".//SOPClass").attrib == {"UID": CT, "NumberOfInstances": "300"}
    assert details_of(found, STUDY) == {"SeriesInstanceUID": SERIES}


def test_what_we_begin_to_send_names_every_destination_and_what_we_sent_the_one() -> None:
    begun = message(row("job sending", series=SERIES, destinations=("pacs", "gone")))
    assert parties(begun) == [("DICOMNODE", "true", "110153"), ("pacs", "false", "110152"), ("gone", "false", "110152")]
    sent = message(row("delivery rejected", {"instances": {"done": 2, "failed": 1}}, series=SERIES, peer="pacs"))
    assert parties(sent) == [("DICOMNODE", "true", "110153"), ("pacs", "false", "110152")]
    assert sent.find(".//SOPClass").get("NumberOfInstances") == "3"
    assert sent.findall("ActiveParticipant")[1].get("NetworkAccessPointTypeCode") == "1"


def test_a_query_says_what_was_searched_by_and_never_whom() -> None:
    details = {"model": "patient root", "level": "STUDY", "asked": ["PatientName"], "status": "0x0000", "answers": 4}
    found = message(row("query answered", details, peer="scanner"))
    assert parties(found) == [("scanner", "true", "110153"), ("DICOMNODE", "false", "110152")]
    assert objects(found)["110181"] == "1.2.840.10008.5.1.4.1.2.1.1"
    asked = found.find(".//ParticipantObjectQuery")
    assert b"STUDY" in base64.b64decode(asked.text)
    assert found.find("EventIdentification").get("EventOutcomeIndicator") == "0"
    details["status"] = "0xA700"
    assert message(row("query answered", details)).find("EventIdentification").get("EventOutcomeIndicator") == "4"


def test_a_retrieve_names_who_asked_who_got_it_and_the_studies() -> None:
    details = {"study_instance_uids": ["1.2.3", "1.2.4"], "destination": "PACS", "sent": 7, "failed": 0}
    moved = message(row("retrieve answered", details, peer="scanner"))
    assert parties(moved) == [
        ("DICOMNODE", "false", "110153"), ("pacs", "false", "110152"), ("scanner", "true", "")
    ]  # fmt: skip
    assert [one.get("ParticipantObjectID") for one in moved.iter("ParticipantObjectIdentification")][:2] == [
        "1.2.3",
        "1.2.4",
    ]
    got = message(row("retrieve answered", {"study_instance_uids": ["1.2.3"], "sent": 7, "failed": 1}, peer="scanner"))
    assert parties(got) == [("DICOMNODE", "false", "110153"), ("scanner", "true", "110152")]
    assert got.find(".//SOPClass").get("NumberOfInstances") == "7"
    assert got.find("EventIdentification").get("EventOutcomeIndicator") == "4"


def test_an_export_names_the_person_the_medium_and_whether_it_was_deidentified() -> None:
    details = {"by": "eve@desk", "deidentified": True, "instances": 3, "study_instance_uid": STUDY}
    found = message(row("exported", details, series=SERIES))
    assert parties(found)[0] == ("eve@desk", "true", "")
    assert [role for _, _, role in parties(found)] == ["", "110153", "110154"]
    assert found.findtext(".//Anonymized") == "true"
    assert found.find(".//MediaType").get("csd-code") == "110037"


def test_an_alert_says_who_what_and_from_where() -> None:
    details = {"calling_ae_title": "EVIL", "address": "10.9.9.9", "reason": "not a peer"}
    found = message(row("association refused", details))
    assert found.find("EventIdentification/EventTypeCode").get("csd-code") == "110126"
    assert parties(found) == [("DICOMNODE", "false", ""), ("EVIL", "false", "")]
    assert objects(found)["110182"] == "10.9.9.9"
    assert details_of(found, "10.9.9.9") == {"Alert Description": "not a peer"}


def test_a_series_whose_study_is_not_known_is_named_itself() -> None:
    found = message(row("instance refused", {"series_instance_uid": SERIES, "sop_instance_uid": "1.2.3.4.5"}))
    assert objects(found)["112002"] == SERIES and "110180" not in objects(found)
    assert found.find(".//SOPClass").get("NumberOfInstances") == "1"


def test_what_is_removed_names_the_study_that_the_tables_have_forgotten() -> None:
    found = message(
        row("removed", {"study_instance_uid": "1.9", "last_of_study": True}, series=SERIES, study_instance_uid="")
    )
    assert objects(found)["110180"] == "1.9"
    assert found.find("EventIdentification/EventID").get("originalText") == "DICOM Study Deleted"


def test_no_patient_is_named_unless_the_spool_gives_one() -> None:
    assert "2" not in objects(message(row("series closed", series=SERIES, peer="scanner")))
    named = message(row("series closed", series=SERIES, peer="scanner", patient_id="47-11"))
    assert objects(named)["2"] == "47-11"
    patient = next(
        one for one in named.iter("ParticipantObjectIdentification") if one.get("ParticipantObjectID") == "47-11"
    )
    assert (patient.get("ParticipantObjectTypeCode"), patient.get("ParticipantObjectTypeCodeRole")) == ("1", "1")


def test_the_message_bears_the_rows_number_hash_and_our_own_words() -> None:
    found = message(row("job refused", {"reason": "no metal", "reason_code": "no-metal"}, series=SERIES, job_id=17))
    told = details_of(found)
    assert told["hash"] == "ab" * 32 and told["job"] == "17" and told["reason_code"] == "no-metal"
    assert objects(found)["12"].endswith("#7")
    assert found.findtext("EventIdentification/EventOutcomeDescription") == "no metal"


def test_a_message_for_a_short_datagram_leaves_our_own_words_out_and_says_which_row_has_them() -> None:
    long = row("series closed", {"rules": ["word " * 1000] * 9, "instances": 2}, series=SERIES, peer="scanner")
    assert len(details_of(message(long))["rules"]) <= LONGEST_VALUE + 4
    short = audit_message(long, REPORTER, longest=2000)
    assert len(short) <= 2000
    assert details_of(parsed(short)).keys() == {"hash"}


@pytest.mark.parametrize("event", EVENTS)
def test_no_row_gives_a_message_that_a_receiver_need_not_take(event: str) -> None:
    evil = '"><EventID/>\n\x00\ud800&\u2028' * 100
    words = dict.fromkeys(("reason", "user", "by", "to", "destination", "address", "calling_ae_title"), evil)
    studies = {"study_instance_uids": [f"1.2.840.{number}" for number in range(300)]}
    asked = {"asked": sorted(keyword_dict)[:300], "level": evil}
    octets = audit_message(row(event, words | studies | asked, patient_id="47-11"), REPORTER, longest=1_900)
    assert len(octets) < 3_500 and b"\n" not in octets
    found = parsed(octets)
    assert details_of(found)["hash"] == "ab" * 32 and objects(found)["2"] == "47-11"
    assert objects(found).get("110180", "1.2.840.0") == "1.2.840.0"


def test_an_id_is_whole_or_not_there() -> None:
    long = row("series closed", {"study_instance_uid": "1." * 20_000}, patient_id="9" * 20_000)
    assert objects(parsed(audit_message(long, REPORTER, longest=32_000))).keys() == {"12"}


def test_a_hostile_word_changes_no_element_and_no_line() -> None:
    evil = '"><EventID/>\n\x00\ud800&\u2028'
    octets = audit_message(
        row("association refused", {"calling_ae_title": evil, "reason": evil, "address": evil}),
        REPORTER,
        longest=32_000,
    )
    assert b"\n" not in octets and octets.isascii()
    assert len(parsed(octets).findall(".//EventID")) == 1


def test_the_same_row_gives_the_same_message() -> None:
    again = row("derived", REASON, series=SERIES)
    assert audit_message(again, REPORTER, longest=32_000) == audit_message(again, REPORTER, longest=32_000)
