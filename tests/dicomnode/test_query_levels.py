"""A request is placed in its information model, with the unique keys above it, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.identifier import IdentifierFault, read_identifier
from dicomnode.matching import criterion, fits
from dicomnode.query_levels import (
    PATIENT_ROOT,
    STUDY_ROOT,
    Level,
    Negotiated,
    Query,
    index_terms,
    query_of,
)
from storage.name_keys import name_keys
from storage.queries import Term
from tests.builders_query import keys
from tests.dicomnode.test_identifier import encoded


def query(
    level: str, *, levels: tuple[Level, ...] = STUDY_ROOT, agreed: Negotiated | None = None, **asked: Any
) -> Query:
    identifier = read_identifier(encoded(keys(level, SpecificCharacterSet="ISO_IR 192", **asked)), implicit=False)
    return query_of(identifier, levels, agreed or Negotiated())


@pytest.mark.parametrize(
    ("levels", "level", "asked"),
    [
        (STUDY_ROOT, "PATIENT", {"PatientID": "1"}),
        (STUDY_ROOT, "", {}),
        (STUDY_ROOT, "study", {}),
        (STUDY_ROOT, "FRAME", {}),
        (STUDY_ROOT, "SERIES", {}),
        (STUDY_ROOT, "SERIES", {"StudyInstanceUID": ""}),
        (STUDY_ROOT, "SERIES", {"StudyInstanceUID": ["1.2", "1.3"]}),
        (STUDY_ROOT, "IMAGE", {"StudyInstanceUID": "1.2"}),
        (STUDY_ROOT, "IMAGE", {"SeriesInstanceUID": "1.2"}),
        (PATIENT_ROOT, "STUDY", {"StudyInstanceUID": "1.2"}),
        (PATIENT_ROOT, "SERIES", {"StudyInstanceUID": "1.2"}),
        (PATIENT_ROOT, "IMAGE", {"PatientID": "1", "SeriesInstanceUID": "1.3"}),
        (STUDY_ROOT, "STUDY", {"StudyDate": "last week"}),
    ],
)
def test_a_request_that_breaks_the_rules_of_its_model_is_refused_with_the_element_at_fault(
    levels: tuple[Level, ...], level: str, asked: dict[str, Any]
) -> None:
    with pytest.raises(IdentifierFault) as fault:
        query(level, levels=levels, **asked)
    assert fault.value.tag is not None and "last week" not in str(fault.value)


def test_the_levels_above_are_named_and_the_level_itself_is_asked() -> None:
    found = query("IMAGE", levels=PATIENT_ROOT, PatientID="P*", StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    assert found.level is Level.IMAGE
    assert found.above == {"PatientID": "P*", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    assert found.terms_above() == {"patient_id": [Term("P*")], "study_instance_uid": [Term("1.2")]}


@pytest.mark.parametrize(
    ("level", "asked", "ignored"),
    [
        ("STUDY", {"PatientName": "a", "StudyDate": ""}, False),
        ("STUDY", {"Modality": ""}, True),
        ("STUDY", {"Modality": "CT"}, True),
        ("STUDY", {"SeriesDescription": "x"}, True),
        ("STUDY", {"NumberOfStudyRelatedInstances": ""}, False),
        ("STUDY", {"NumberOfStudyRelatedInstances": "3"}, True),
        ("STUDY", {"RequestAttributesSequence": []}, True),
        ("SERIES", {"StudyInstanceUID": "1", "Modality": "CT", "NumberOfSeriesRelatedInstances": ""}, False),
        ("STUDY", {"RetrieveAETitle": "", "InstanceAvailability": ""}, False),
    ],
)
def test_keys_that_a_level_does_not_know_are_ignored_and_that_is_said(
    level: str, asked: dict[str, Any], ignored: bool
) -> None:
    found = query(level, **asked)
    assert found.ignored is ignored
    assert found.matches({"PatientName": "a", "Modality": "CT"})


@pytest.mark.parametrize(
    ("asked", "terms"),
    [
        ({"PatientID": "P1"}, {"patient_id": [Term("P1")]}),
        ({"PatientID": "P*"}, {"patient_id": [Term("P*", wild=True)]}),
        ({"PatientID": "*"}, {}),
        ({"PatientID": "*a*b*c*d*e*"}, {}),
        ({"StudyDate": "20240101-"}, {"study_date": [Term("20240101", upto="9" * 14)]}),
        ({"PatientName": "Müller^H*"}, {"name_key": [Term("muller^h*", wild=True)]}),
        ({"PatientName": "Müller^*"}, {"name_key": [Term("muller*", wild=True)]}),
        ({"PatientName": "*^Hans^?"}, {"name_key": [Term("*^hans*", wild=True)]}),
        ({"PatientName": "*^Hans"}, {"name_key": [Term("*^hans", wild=True)]}),
        ({"PatientName": "?*"}, {}),
        ({"ModalitiesInStudy": "CT"}, {"modality": [Term("CT")]}),
        ({"PatientName": "SMITH^JOHN"}, {"name_key": [Term("smith^john")]}),
        ({"PatientName": "^John*"}, {"name_key": [Term("^john*", wild=True)]}),
        ({"PatientName": "=山田*"}, {"name_key": [Term("山田*", wild=True)]}),
        ({"StudyInstanceUID": ["1.2", "1.3"]}, {"study_instance_uid": [Term("1.2"), Term("1.3")]}),
        ({"StudyDescription": "x*"}, {}),
    ],
)
def test_an_index_is_asked_for_what_it_can_find(asked: dict[str, Any], terms: dict[str, Any]) -> None:
    assert query("STUDY", **asked).terms() == terms


@pytest.mark.parametrize(
    ("date", "time", "within"),
    [("20240101", "1800", True), ("20240102", "0300", True), ("20240102", "0900", False), ("20240101", "0300", False)],
)
def test_date_and_time_are_one_moment_only_where_that_is_negotiated(date: str, time: str, within: bool) -> None:
    asked = {"StudyDate": "20240101-20240102", "StudyTime": "1200-0600"}
    facts = {"StudyDate": date, "StudyTime": time}
    assert query("STUDY", agreed=Negotiated(combined=True), **asked).matches(facts) is within
    assert not query("STUDY", **asked).matches(facts)


def test_open_ends_of_a_combined_range_are_open() -> None:
    asked = {"StudyDate": "-20240102", "StudyTime": "-0600"}
    combined = query("STUDY", agreed=Negotiated(combined=True), **asked)
    assert combined.matches({"StudyDate": "20200101", "StudyTime": "2300"})
    assert not combined.matches({"StudyDate": "20240102", "StudyTime": "0700"})
    assert not combined.matches({})


LETTERS = st.text("aB*?^=", max_size=8)


@given(asked=LETTERS, held=st.text("ab^=", max_size=8))
def test_the_index_leaves_out_no_name_that_answers(asked: str, held: str) -> None:
    found = criterion("PN", [asked])
    terms = index_terms(found)
    if found.matches(held) and terms:
        assert any(fits(one.text, key) if one.wild else one.text == key for one in terms for key in name_keys(held))
