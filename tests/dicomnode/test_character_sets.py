"""Bytes are read as the text that their character set makes of them, and a doubt is said aloud."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import TEXT_VR_DELIMS

from dicomnode.character_sets import character_sets, decoded_text
from tests.builders_dicom import write_ct_series
from tests.builders_texts import CHINESE, TEXTS, UNDECLARED, with_texts
from tests.validators import dcmtk

NO_CONVERSION = {"chrH31", "chrH32", "chrJapMulti", "chrJapMultiExplicitIR6", "chrSQEncoding", "chrSQEncoding1"}
"""DCMTK as Debian builds it has no Japanese character sets."""


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"undeclared"}))
def test_every_declared_text_is_read_with_certainty(name: str) -> None:
    text, is_certain = decoded_text(TEXTS[name].name, character_sets(TEXTS[name].declared))
    assert is_certain
    assert "\ufffd" not in text and "\x1b" not in text


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"undeclared", "Chinese"}))
def test_what_pydicom_reads_is_read_the_same(name: str) -> None:
    terms = character_sets(TEXTS[name].declared)
    expected = decode_bytes(TEXTS[name].name, convert_encodings(list(terms)), TEXT_VR_DELIMS)
    assert decoded_text(TEXTS[name].name, terms)[0] == expected


@pytest.mark.peer
@pytest.mark.parametrize("name", sorted(set(TEXTS) - NO_CONVERSION - {"undeclared"}))
def test_dcmtk_reads_the_same_text(tmp_path: Path, name: str) -> None:
    text = TEXTS[name]
    (path,) = write_ct_series(tmp_path, slices=1)
    with_texts(path, text.declared, {"PatientName": text.name})
    done = subprocess.run([dcmtk("dcmdump"), "+U8", "+P", "PatientName", str(path)], capture_output=True, timeout=60)
    line = done.stdout.decode("utf-8")
    expected = decoded_text(text.name, character_sets(text.declared))[0].strip()
    assert line[line.index("[") + 1 : line.index("]")].strip() == expected


def test_the_standards_chinese_example_is_read_right() -> None:
    terms = character_sets(CHINESE.declared)
    assert terms == ("", "ISO 2022 IR 58")
    assert decoded_text(CHINESE.name, terms) == ("Zhang^XiaoDong=张^小东= ", True)


def test_chinese_without_an_escape_sequence_is_read_too() -> None:
    assert decoded_text("张^小东".encode("gb2312"), ("", "ISO 2022 IR 58")) == ("张^小东", True)


def test_broken_chinese_is_no_certain_text() -> None:
    text, is_certain = decoded_text(b"Zhang=\x1b$)A\xd5", ("", "ISO 2022 IR 58"))
    assert text.startswith("Zhang=") and "\ufffd" in text and not is_certain


def test_latin_1_without_a_declared_set_is_a_guess() -> None:
    assert decoded_text(UNDECLARED.name, ()) == ("Müller^Jörg ", False)
    assert decoded_text(b"Mueller^Joerg", ()) == ("Mueller^Joerg", True)


@pytest.mark.parametrize(
    ("value", "terms"),
    [
        (b"M\xfcller", ("ISO_IR 192",)),
        (b"M\xfcller", ("NO SUCH SET",)),
        (b"M\xfcller", ("ISO 2022 IR 6",)),
        (b"\x1b$B;3\xff", ("", "ISO 2022 IR 87")),
        (b"\x1b%/1abc", ("ISO 2022 IR 100",)),
        (b"\xff\xff", ("\ufffd\ufffd",)),
    ],
)
def test_bytes_that_the_declared_set_does_not_hold_are_no_certain_text(value: bytes, terms: tuple[str, ...]) -> None:
    text, is_certain = decoded_text(value, terms)
    assert text and not is_certain


@pytest.mark.parametrize(
    ("value", "terms"),
    [
        (None, ()),
        ("", ()),
        ("ISO_IR 100", ("ISO_IR 100",)),
        (b"\\ISO 2022 IR 87 ", ("", "ISO 2022 IR 87")),
        (["", "ISO 2022 IR 58"], ("", "ISO 2022 IR 58")),
        (7, ("7",)),
    ],
)
def test_the_terms_are_the_same_however_they_come(value: object, terms: tuple[str, ...]) -> None:
    assert character_sets(value) == terms
