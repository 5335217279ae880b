"""Every row of the table is applied to every attribute, alone and in items, under every option."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dicomnode.deidentify.identity import Identity, elements_of
from dicomnode.deidentify.instance import Policy, deidentify
from dicomnode.deidentify.profile import Action, Option, rows
from dicomnode.deidentify.required import needed_of
from dicomnode.deidentify.secret import Secret
from dicomnode.deidentify.values import DUMMIES, dummy
from dicomnode.deidentify.walk import NotExported, Walk
from tests.builders_dicom import write_ct_series, write_instance
from tests.builders_identity import BIRTH, DOCUMENT, ROOT_UID, element, item, named_value, write_elements
from tests.builders_objects import write_float_map, write_segmentation
from tests.validators import errors

SECRET = Secret(b"k" * 32)
LISTED = {
    int(tag, 16): row
    for tag, row in rows().items()
    if tag != "private" and "x" not in tag and dictionary_has_tag(int(tag, 16)) and int(tag, 16) >> 16 > 2
}
ROWS = {tag: row for tag, row in LISTED.items() if tag != DOCUMENT}
SHARED_GROUPS = 0x52009229


def a_walk(*options: Option) -> Walk:
    return Walk(frozenset(options), SECRET, Identity(frozenset(), frozenset()), 10, CTImageStorage)


def vr_of(tag: int) -> str:
    return dictionary_VR(tag).split(" or ")[0]


def every_row(folder: Path) -> Path:
    """A file with every listed attribute, at the root and in an item; sequences hold a name."""
    named = item({0x0040A123: element(0x0040A123, "PN", b"Zwingli")})
    elements = {tag: element(tag, vr_of(tag), named if vr_of(tag) == "SQ" else _good_value(tag)) for tag in ROWS}
    elements[SHARED_GROUPS] = element(SHARED_GROUPS, "SQ", item(dict(elements)))
    return write_elements(folder / "rows.dcm", elements)


def _good_value(tag: int) -> bytes:
    values = {"DS": b"1.5", "IS": b"15", "CS": b"SOME", "AS": b"036Y"}
    return values.get(vr_of(tag), named_value(tag, vr_of(tag)))


def applied(path: Path, *options: Option) -> Dataset:
    dataset = dcmread(path)
    a_walk(*options).apply(dataset)
    return dataset


def levels(dataset: Dataset) -> list[Dataset]:
    return [dataset, dataset.SharedFunctionalGroupsSequence[0]]


def test_every_row_of_the_basic_profile_is_applied_at_the_root_and_in_items(tmp_path: Path) -> None:
    path = every_row(tmp_path)
    before, after = dcmread(path), applied(path)
    judged, stayed = 0, 0
    for at_root, old, new in zip((True, False), levels(before), levels(after), strict=True):
        for tag, row in ROWS.items():
            found = _what_became(old, new, tag)
            allowed = {
                {"X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY, "U": Action.UID, "U*": Action.UID}[code]
                for code in row.basic.split("/")
            }
            if row.basic == "X" and found in (Action.DUMMY, Action.EMPTY):
                assert needed_of(keyword_for_tag(tag), sop_class_uid=CTImageStorage, at_root=at_root) != "X"
                stayed += 1
            elif row.basic == "X/Z/U*":
                assert "Zwingli" not in str(new[tag].value)
            else:
                assert found in allowed, f"{tag:08x} {row.basic}: {found}"
            judged += 1
    assert judged > 1200
    assert stayed < 20


def _what_became(old: Dataset, new: Dataset, tag: int) -> Action:
    if tag not in new:
        return Action.REMOVE
    value = new[tag].value
    if not value and value != 0:
        return Action.EMPTY
    if new[tag].VR == "UI":
        assert (
            value == SECRET.uid(f"{ROOT_UID}.{tag}")
            or str(old[tag].value) in (CTImageStorage,)
            or (value in {SECRET.uid(f"{ROOT_UID}.{last}") for last in (1, 2, 3)})
        )
        return Action.UID if rows()[f"{tag:08x}"].basic == "U" else Action.DUMMY
    assert "Zwingli" not in str(value)
    assert value != old[tag].value or str(value) in map(str, DUMMIES.values())
    return Action.DUMMY


@pytest.mark.parametrize("option", sorted(set(Option) - {Option.SAFE_PRIVATE}))
def test_every_row_of_every_option_is_applied(tmp_path: Path, option: Option) -> None:
    path = every_row(tmp_path)
    before, after = dcmread(path), applied(path, option)
    judged = 0
    for tag, row in ROWS.items():
        code, vr = row.options.get(option), vr_of(tag)
        if code is None or vr == "SQ":
            continue
        if code == "K" and vr in ("DA", "DT", "TM") and option is not Option.FULL_DATES:
            assert tag not in after or after[tag].value != before[tag].value or vr == "TM"
        elif code == "K":
            assert after[tag].value == before[tag].value, f"{tag:08x}"
        elif vr in ("DA", "DT"):
            assert str(after[tag].value)[:8] == "20200223", f"{tag:08x}"
        elif vr == "TM":
            assert after[tag].value == before[tag].value
        else:
            assert tag not in after or after[tag].value in (None, "", dummy(vr)) or "Zwingli" not in str(after[tag])
        judged += 1
    assert judged > 2 or option is Option.STRUCTURED


def test_a_kept_sequence_is_walked_through(tmp_path: Path) -> None:
    after = applied(every_row(tmp_path), Option.UIDS, Option.STRUCTURED, Option.DESCRIPTORS)
    assert not [one.keyword for one in elements_of(after) if one.VR != "SQ" and "Zwingli" in str(one.value)]


def test_values_that_are_none_of_their_kind_do_not_stay(tmp_path: Path) -> None:
    numbers = {0x00180060: ("DS", b"Zwingli"), 0x00200013: ("IS", b"Zwingli"), 0x00185100: ("CS", b"Zwingli^Huldrych")}
    path = write_elements(tmp_path / "one.dcm", {tag: element(tag, *given) for tag, given in numbers.items()})
    after = applied(path)
    assert not any(tag in after for tag in numbers)


def test_an_attribute_written_with_another_representation_hides_nothing(tmp_path: Path) -> None:
    odd = {0x00281050: ("LT", b"Zwingli"), 0x00181210: ("OB", b"Zwingli ")}
    odd |= {0x00082111: ("US", b"Zwin"), 0x00180050: ("UT", b"Zwingli")}
    path = write_elements(tmp_path / "one.dcm", {tag: element(tag, *given) for tag, given in odd.items()})
    made = deidentify(path, Policy(frozenset(), SECRET))
    assert b"Zwin" not in made.content


def test_words_of_the_patient_do_not_stay_where_the_table_keeps_words(tmp_path: Path) -> None:
    words = {0x00181210: ("SH", b"Zwingli B30f"), 0x00080070: ("LO", b"Maker PID-4711"), 0x00180015: ("CS", b"ZWINGLI")}
    path = write_elements(tmp_path / "one.dcm", {tag: element(tag, *given) for tag, given in words.items()})
    made = deidentify(path, Policy(frozenset(), SECRET))
    assert made.warnings == ("not kept, for what stood in them: BodyPartExamined, ConvolutionKernel, Manufacturer",)


def test_private_elements_stay_only_where_they_are_known_to_be_safe(tmp_path: Path) -> None:
    elements = {0x00090010: element(0x00090010, "LO", b"CT HEAD"), 0x00091001: element(0x00091001, "DA", b"20200304")}
    elements |= {0x00091002: element(0x00091002, "LO", b"head"), 0x00091003: element(0x00091003, "SQ", item({}))}
    path = write_elements(tmp_path / "one.dcm", elements)
    after = applied(path, Option.SAFE_PRIVATE, Option.DESCRIPTORS)
    assert not [one for one in after if one.tag.is_private]


def test_an_instance_uid_below_the_root_of_the_standard_is_no_uid_of_the_standard(tmp_path: Path) -> None:
    own, well_known = b"1.2.840.10008.5.1.4.1.1.2.20240101", b"1.2.840.10008.1.4.1.1"
    given = {0x00080018: own, 0x00200052: well_known, 0x00081150: b"1.2.840.10008.5.1.4.1.1.2.3"}
    given |= {0x0008010C: b"2.16.840.1.113883.6.96"}
    after = applied(write_elements(tmp_path / "one.dcm", {tag: element(tag, "UI", uid) for tag, uid in given.items()}))
    assert after.SOPInstanceUID == SECRET.uid(own.decode())
    kept = (after.FrameOfReferenceUID, after.ReferencedSOPClassUID, after.CodingSchemeUID)
    assert [str(one).encode() for one in kept] == [well_known, given[0x00081150], given[0x0008010C]]


def test_an_age_above_89_is_told_as_90_in_items_too(tmp_path: Path) -> None:
    inner = item({0x00101010: element(0x00101010, "AS", b"097Y")})
    path = write_elements(tmp_path / "one.dcm", {0x00082218: element(0x00082218, "SQ", inner)})
    after = applied(path, Option.PATIENT)
    assert after.AnatomicRegionSequence[0].PatientAge == "090Y"


def test_an_identifier_does_not_come_through_a_description_in_pieces(tmp_path: Path) -> None:
    given = {0x00100020: ("LO", b"A-123"), 0x00081030: ("LO", b"CT A-123 thorax")}
    path = write_elements(tmp_path / "one.dcm", {tag: element(tag, *one) for tag, one in given.items()})
    made = deidentify(path, Policy(frozenset({Option.DESCRIPTORS}), SECRET))
    (tmp_path / "made.dcm").write_bytes(made.content)
    assert dcmread(tmp_path / "made.dcm").StudyDescription == "ct thorax"


def test_a_study_on_the_day_of_birth_keeps_its_date_as_an_element(tmp_path: Path) -> None:
    path = write_elements(tmp_path / "one.dcm", {0x00080020: element(0x00080020, "DA", BIRTH.encode())})
    made = deidentify(path, Policy(frozenset({Option.FULL_DATES}), SECRET))
    (tmp_path / "made.dcm").write_bytes(made.content)
    assert dcmread(tmp_path / "made.dcm").StudyDate == ""
    assert made.warnings == ("not kept, for what stood in them: StudyDate",)


def test_bytes_that_name_the_patient_where_numbers_belong_keep_the_instance_out(tmp_path: Path) -> None:
    path = write_elements(tmp_path / "one.dcm", {0x00280010: element(0x00280010, "US", b"Zwingli ")})
    with pytest.raises(NotExported, match="still names somebody"):
        deidentify(path, Policy(frozenset(), SECRET))


def test_a_name_written_as_numbers_gives_way_to_the_pseudonym(tmp_path: Path) -> None:
    path = write_elements(tmp_path / "one.dcm", {0x00100010: element(0x00100010, "US", b"Zwin")})
    made = deidentify(path, Policy(frozenset(), SECRET))
    assert b"Zwin" not in made.content
    (tmp_path / "made.dcm").write_bytes(made.content)
    assert dcmread(tmp_path / "made.dcm").PatientName == made.patient.pseudonym


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_encoding_is_kept_and_cleaned(tmp_path: Path, syntax: str) -> None:
    source = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=syntax)[0]
    made = deidentify(source, Policy(frozenset(), SECRET))
    (tmp_path / "made.dcm").write_bytes(made.content)
    after = dcmread(tmp_path / "made.dcm")
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.PixelData == dcmread(source).PixelData
    assert "PHANTOM-1" not in str(after)


@pytest.mark.parametrize("write", [write_segmentation, write_float_map])
def test_other_objects_have_no_more_errors_than_before(tmp_path: Path, write: object) -> None:
    assert callable(write)
    source = write(tmp_path / "source.dcm")
    dataset = dcmread(source)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if keyword not in dataset:
            setattr(dataset, keyword, "1.2.3")
    write_instance(source, dataset)
    (tmp_path / "made.dcm").write_bytes(deidentify(source, Policy(frozenset(), SECRET)).content)
    assert set(errors(tmp_path / "made.dcm")) <= set(errors(source))
