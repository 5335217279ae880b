"""The table of PS3.15 is whole, and its codes mean what the standard says."""

from __future__ import annotations

import pytest
from pydicom.datadict import dictionary_has_tag, tag_for_keyword
from pydicom.sr.codedict import codes

from dicomnode.deidentify.profile import (
    BASIC_CODE,
    CODES,
    Action,
    Option,
    Row,
    action_of,
    basic_action,
    row_of,
    rows,
    table,
)


def row(keyword: str) -> Row:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    found = row_of(tag)
    assert found is not None
    return found


def test_the_table_has_every_row_of_the_standard_with_known_codes_only() -> None:
    said = table()["rows"]
    assert len(said) == 656
    assert {text.split()[0] for text in said.values()} == {"D", "Z", "X", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    columns = {column for text in said.values() for column in text.split()[1:]}
    assert {column.partition("=")[2] for column in columns} == {"K", "C"}


def test_nearly_every_row_is_an_attribute_that_the_dictionary_knows() -> None:
    unknown = [tag for tag in table()["rows"] if tag.isalnum() and "x" not in tag and tag != "private"]
    unknown = [tag for tag in unknown if not dictionary_has_tag(int(tag, 16))]
    assert len(unknown) == 25  # attributes of 2024 and later


@pytest.mark.parametrize(
    ("keyword", "basic", "options"),
    [
        ("PatientName", "Z", {}),
        ("PatientID", "Z/D", {}),
        ("PatientBirthDate", "Z", {}),
        ("PatientSex", "Z", {Option.PATIENT: "K"}),
        ("PatientAge", "X", {Option.PATIENT: "K"}),
        ("StudyInstanceUID", "U", {Option.UIDS: "K"}),
        ("StudyDate", "Z", {Option.FULL_DATES: "K", Option.MODIFIED_DATES: "C"}),
        ("StudyDescription", "X", {Option.DESCRIPTORS: "C"}),
        ("InstitutionName", "X/Z/D", {Option.INSTITUTION: "K"}),
        ("DeviceSerialNumber", "X/Z/D", {Option.DEVICE: "K"}),
        ("DeviceUID", "U", {Option.UIDS: "K", Option.DEVICE: "K"}),
        ("ContentSequence", "D", {Option.STRUCTURED: "C"}),
        ("SourceImageSequence", "X/Z/U*", {Option.UIDS: "K"}),
    ],
)
def test_rows_are_those_of_the_standard(keyword: str, basic: str, options: dict[Option, str]) -> None:
    assert row(keyword) == Row(basic, options)


def test_private_elements_overlays_and_curves_have_their_rows() -> None:
    assert row_of(0x00091001) == Row("X", {Option.SAFE_PRIVATE: "C"})
    for tag in (0x60003000, 0x60024000, 0x601E0010, 0x50003000, 0x50020005):
        found = row_of(tag)
        assert found is not None
        assert found.basic == "X"
    assert row_of(0x00280010) is None
    assert rows()["50xxxxxx"].options == {}


@pytest.mark.parametrize(
    ("code", "needed", "action"),
    [
        ("X", "X", Action.REMOVE),
        ("X", "Z", Action.EMPTY),
        ("X", "D", Action.DUMMY),
        ("Z", "X", Action.EMPTY),
        ("D", "X", Action.DUMMY),
        ("U", "X", Action.UID),
        ("X/Z/U*", "X", Action.UID),
        ("X/Z/D", "X", Action.REMOVE),
        ("X/Z/D", "Z", Action.EMPTY),
        ("X/Z/D", "D", Action.DUMMY),
        ("X/D", "Z", Action.DUMMY),
        ("X/Z", "D", Action.EMPTY),
        ("Z/D", "X", Action.EMPTY),
        ("Z/D", "D", Action.DUMMY),
    ],
)
def test_of_a_choice_the_first_that_the_object_allows_is_taken(code: str, needed: str, action: Action) -> None:
    assert basic_action(code, needed=needed) is action


def test_an_option_that_keeps_a_device_keeps_no_date() -> None:
    calibrated = row("DateOfLastDetectorCalibration")
    assert calibrated.options[Option.DEVICE] == "K"
    assert action_of(calibrated, vr="DA", options={Option.DEVICE}, needed="X") is Action.REMOVE
    both = {Option.DEVICE, Option.MODIFIED_DATES}
    assert action_of(calibrated, vr="DA", options=both, needed="X") is Action.CLEAN
    assert action_of(calibrated, vr="DA", options={Option.FULL_DATES}, needed="X") is Action.KEEP


def test_the_codes_are_those_of_context_group_7050() -> None:
    standard = {code.value: code.meaning for code in (getattr(codes.cid7050, name) for name in codes.cid7050.dir())}
    own = dict([BASIC_CODE, *CODES.values()])
    assert own.items() <= standard.items()
    assert set(CODES) == set(Option)
