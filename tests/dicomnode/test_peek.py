"""The UIDs are found without decoding, as pydicom would have read them, or it is said that they were not."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomnode.errors import DatasetUnfit
from dicomnode.peek import NEEDED, first_uids, peek_uids, shown_uid
from tests.builders_dicom import write_ct_series
from tests.builders_receive import encoded_data_set, explicit

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def small(**attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.5"
    dataset.InstanceNumber = "1"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def nested(depth: int) -> Sequence:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.9"
    if depth:
        item.ReferencedStudySequence = nested(depth - 1)
        item["ReferencedStudySequence"].is_undefined_length = True
    item.is_undefined_length_sequence_item = True
    return Sequence([item])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_both_ways_find_what_the_file_says(tmp_path: Path, syntax: str) -> None:
    path = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=syntax)[0]
    encoded, dataset = encoded_data_set(path), dcmread(path)
    wanted = {keyword: str(dataset[keyword].value) for keyword in NEEDED.values()}
    assert first_uids(memoryview(encoded), syntax) == wanted
    assert peek_uids(io.BytesIO(encoded), syntax) == wanted


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_sequences_of_undefined_length_are_stepped_over(depth: int, implicit: bool, little: bool) -> None:
    dataset = small(ReferencedStudySequence=nested(depth))
    dataset["ReferencedStudySequence"].is_undefined_length = True
    encoded = io.BytesIO()
    dataset.save_as(encoded, implicit_vr=implicit, little_endian=little)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    found = first_uids(memoryview(encoded.getvalue()), syntax)
    assert found == peek_uids(io.BytesIO(encoded.getvalue()), syntax)
    assert found is not None and found["SOPInstanceUID"] == "1.2.3.4" and found["SeriesInstanceUID"] == "1.2.3.5"


def test_a_cut_anywhere_before_the_end_of_the_last_uid_is_never_taken_for_the_whole() -> None:
    encoded = explicit(small())
    answers = [first_uids(memoryview(encoded[:length]), ExplicitVRLittleEndian) for length in range(len(encoded) + 1)]
    whole = answers[-1]
    assert whole is not None
    assert all(answer in (None, whole) for answer in answers)
    assert answers[encoded.index(b"1.2.3.5") + 8] is None  # what follows could still be a second value


def test_a_sequence_thousands_deep_is_no_recursion() -> None:
    opening = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    hostile = opening * 5000
    assert first_uids(memoryview(hostile), ExplicitVRLittleEndian) is None
    with pytest.raises(DatasetUnfit):
        peek_uids(io.BytesIO(hostile), ExplicitVRLittleEndian)


def test_a_data_set_in_another_encoding_than_announced_is_left_to_the_patient_reader() -> None:
    encoded = io.BytesIO()
    small().save_as(encoded, implicit_vr=True, little_endian=True)
    assert first_uids(memoryview(encoded.getvalue()), ExplicitVRLittleEndian) is None
    assert peek_uids(io.BytesIO(encoded.getvalue()), ExplicitVRLittleEndian)["SOPInstanceUID"] == "1.2.3.4"


def test_a_uid_that_comes_twice_is_not_beyond_doubt() -> None:
    encoded = explicit(small())
    again = b"\x08\x00\x18\x00UI\x08\x001.2.3.9\0"
    at = encoded.index(b"\x20\x00\x0d\x00")
    assert first_uids(memoryview(encoded[:at] + again + encoded[at:]), ExplicitVRLittleEndian) is None


@pytest.mark.parametrize("keyword", list(NEEDED.values()))
@pytest.mark.parametrize("value", [None, "../../", "1." * 40 + "1", "1.2\\1.3", ""])
def test_a_uid_that_is_absent_or_none_is_unfit(keyword: str, value: str | None) -> None:
    dataset = small()
    delattr(dataset, keyword)
    encoded = explicit(dataset)
    if value is not None:
        tag = next(tag for tag, name in NEEDED.items() if name == keyword)
        octets = value.encode() + b"\0" * (len(value) % 2)
        head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + b"UI"
        later = [at for at in (encoded.find(each) for each in FOLLOWING[tag]) if at >= 0]
        at = min(later)
        encoded = encoded[:at] + head + len(octets).to_bytes(2, "little") + octets + encoded[at:]
    assert first_uids(memoryview(encoded), ExplicitVRLittleEndian) is None
    with pytest.raises(DatasetUnfit):
        peek_uids(io.BytesIO(encoded), ExplicitVRLittleEndian)


FOLLOWING = {
    0x00080016: (b"\x08\x00\x18\x00UI",),
    0x00080018: (b"\x20\x00\x0d\x00UI",),
    0x0020000D: (b"\x20\x00\x0e\x00UI",),
    0x0020000E: (b"\x20\x00\x13\x00IS",),
}


@pytest.mark.parametrize(
    "junk", [b"", b"\xff" * 4000, b"\x08\x00\x05\x00CS\xff\xff", b"\x08\x00\x16\x00UI\x04\x001.2\x00"]
)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_bytes_that_are_no_data_set_are_unfit_whatever_they_are(junk: bytes, syntax: str) -> None:
    assert first_uids(memoryview(junk), syntax) is None
    with pytest.raises(DatasetUnfit):
        peek_uids(io.BytesIO(junk), syntax)


@given(st.binary(max_size=60), st.integers(0, 200), st.sampled_from(SYNTAXES))
def test_garbage_inside_a_data_set_makes_none_or_what_pydicom_reads(junk: bytes, at: int, syntax: str) -> None:
    encoded = explicit(small())
    encoded = encoded[:at] + junk + encoded[at:]
    found = first_uids(memoryview(encoded), syntax)
    if found is not None:
        assert found == peek_uids(io.BytesIO(encoded), syntax)


def test_what_is_no_uid_is_not_shown() -> None:
    assert shown_uid("1.2.840.10008") == "1.2.840.10008"
    for wrong in ("Doe^John", "1.2\n3", "1." + "2" * 63, ""):
        assert shown_uid(wrong) == "(no UID)"
