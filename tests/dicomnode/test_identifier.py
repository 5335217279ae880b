"""A request's identifier is read in its character set or refused; an answer says the same in bytes."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dicomnode.identifier import IdentifierFault, encode_identifier, read_identifier
from tests.builders_query import keys

NAME, STUDY_UID, ROWS, WEIGHT = 0x00100010, 0x0020000D, 0x00280010, 0x00101030


def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


@pytest.mark.parametrize("implicit", [False, True])
def test_keys_come_with_their_values_in_the_order_of_their_tags(implicit: bool) -> None:
    asked = keys("STUDY", StudyInstanceUID=["1.2", "1.3"], PatientID="", Rows=512, PatientWeight="70")
    found = read_identifier(encoded(asked, implicit=implicit), implicit=implicit)
    assert found.level == "STUDY" and [one.tag for one in found.asked] == sorted(one.tag for one in found.asked)
    assert found.values_of("StudyInstanceUID") == ("1.2", "1.3") and found.values_of("Rows") == (512,)
    assert found.values_of("PatientID") == () == found.values_of("StudyDate")


@pytest.mark.parametrize(
    ("term", "name", "octets"),
    [
        ("ISO_IR 100", "Müller", "Müller".encode("latin-1")),
        ("ISO_IR 192", "山田", "山田".encode()),
        ("ISO_IR 144", "Люкс", "Люкс".encode("iso8859_5")),
        ("GB18030", "王", "王".encode("gb18030")),
        ("\\ISO 2022 IR 87", "山田", b"\x1b$B;3ED\x1b(B"),
    ],
)
def test_texts_are_read_in_the_character_set_of_the_request(term: str, name: str, octets: bytes) -> None:
    content = element(0x00080005, b"CS", term.encode() + b" " * (len(term) % 2))
    content += element(NAME, b"PN", octets + b" " * (len(octets) % 2))
    assert read_identifier(content, implicit=False).values_of("PatientName") == (name,)


@pytest.mark.parametrize(
    "content",
    [
        element(0x00080005, b"CS", b"ISO_IR 192") + element(NAME, b"PN", b"M\xfcller"),
        element(STUDY_UID, b"UI", b"1.2.\xff\xff"),
        element(ROWS, b"US", b"\x01"),
        element(NAME, b"PN", b"Smith")[:-3],
        b"\x08",
        b"\xff" * 64,
        b"\xfe\xff\x00\xe0" * 40,
    ],
)
def test_what_cannot_be_read_is_a_fault_that_repeats_nothing_of_it(content: bytes) -> None:
    try:
        found = read_identifier(content, implicit=False)
    except IdentifierFault as fault:
        assert "ller" not in str(fault) and "1.2." not in str(fault)
    else:
        assert not any(one.values for one in found.asked)


def test_sequences_without_end_are_a_fault() -> None:
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    with pytest.raises(IdentifierFault):
        read_identifier(nested, implicit=False)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_do_more_than_be_refused(content: bytes, implicit: bool) -> None:
    with suppress(IdentifierFault):
        read_identifier(content, implicit=implicit)


def test_private_and_unknown_keys_and_sequences_are_there_without_a_keyword() -> None:
    asked = keys("STUDY", RequestAttributesSequence=[])
    asked.add_new(0x00091001, "LO", "private")
    asked.add_new(0x00084321, "SH", "unknown")
    found = read_identifier(encoded(asked), implicit=False)
    assert {one.tag: (one.vr, one.keyword) for one in found.asked} == {
        0x00400275: ("SQ", ""),
        0x00091001: ("LO", ""),
        0x00084321: ("SH", ""),
    }


def decoded(content: bytes, *, implicit: bool = False) -> Dataset:
    return read_dataset(BytesIO(content), implicit, True)


@pytest.mark.parametrize("implicit", [False, True])
def test_values_of_every_kind_come_back(implicit: bool) -> None:
    answers: list[tuple[int, str, Any]] = [
        (NAME, "PN", "Smith^John"),
        (0x00080008, "CS", ["ORIGINAL", "PRIMARY"]),
        (STUDY_UID, "UI", "1.2.3"),
        (ROWS, "US", 512),
        (WEIGHT, "DS", 70.5),
        (0x00200011, "IS", 3),
        (0x00200013, "IS", None),
        (0x00400275, "SQ", None),
        (0x00091001, "UN", None),
        (0x00189087, "FD", 1.5),
    ]
    found = decoded(encode_identifier(answers, implicit=implicit), implicit=implicit)
    assert (found.PatientName, found.ImageType, found.StudyInstanceUID) == (
        "Smith^John",
        ["ORIGINAL", "PRIMARY"],
        "1.2.3",
    )
    assert (found.Rows, found.PatientWeight, found.SeriesNumber) == (512, 70.5, 3)
    assert found.DiffusionBValue == 1.5 and found.InstanceNumber is None and not found.RequestAttributesSequence
    assert "SpecificCharacterSet" not in found and list(found.keys()) == sorted(found.keys())


@pytest.mark.parametrize(
    ("wished", "name", "declared"),
    [
        ([], "Smith", None),
        (["ISO_IR 100"], "Smith", None),
        (["ISO_IR 100"], "Müller", "ISO_IR 100"),
        (["ISO_IR 100"], "山田", "ISO_IR 192"),
        (["ISO_IR 192"], "山田", "ISO_IR 192"),
        (["GB18030"], "王小东", "GB18030"),
        (["", "ISO 2022 IR 87"], "山田", "ISO_IR 192"),
        (["KLINGON"], "Müller", "ISO_IR 192"),
        ([], "Müller", "ISO_IR 192"),
    ],
)
def test_texts_are_told_in_the_character_set_of_the_request_where_it_holds_them_else_in_utf_8(
    wished: list[str], name: str, declared: str | None
) -> None:
    found = decoded(encode_identifier([(NAME, "PN", name)], implicit=False, wished=wished))
    assert (found.get("SpecificCharacterSet"), str(found.PatientName)) == (declared, name)


@pytest.mark.parametrize(("value", "told"), [(1 / 3, "3.333333333e-01"), (70.0, "70"), (-1e-10, "-1e-10")])
def test_decimals_fit_their_sixteen_characters(value: float, told: str) -> None:
    assert encode_identifier([(WEIGHT, "DS", value)], implicit=False)[8:].strip() == told.encode()


def test_a_value_that_is_not_what_its_attribute_says_is_left_empty() -> None:
    assert decoded(encode_identifier([(ROWS, "US", 70_000)], implicit=False)).Rows is None


def test_a_list_too_long_for_its_vr_is_told_in_full_as_the_standard_says() -> None:
    failed = [f"1.2.826.0.1.3680043.10.543.5.{number}" for number in range(3_000)]
    for implicit, vr in ((False, "UN"), (True, "UI")):
        found = decoded(encode_identifier([(0x00080058, "UI", failed)], implicit=implicit), implicit=implicit)
        element = found[0x00080058]
        told = element.value.decode().rstrip("\0").split("\\") if vr == "UN" else list(element.value)
        assert (element.VR, told) == (vr, failed)


@pytest.mark.parametrize("value", [-5, 40_000, [-5, 7]])
def test_a_number_of_either_sign_comes_back_in_explicit_vr(value: Any) -> None:
    found = decoded(encode_identifier([(0x00280106, "US or SS", value)], implicit=False))
    assert found.SmallestImagePixelValue == value
