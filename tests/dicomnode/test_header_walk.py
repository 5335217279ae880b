"""The short way to a header gives what pydicom gives, or leaves the file to pydicom."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, data, dcmread
from pydicom.data import get_charset_files
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomnode.attributes import attribute_named
from dicomnode.errors import HeaderUnreadable
from dicomnode.header_walk import plain_value, walk
from dicomnode.headers import HEADS, UNDECODED, pydicom_header, quick_header, read_header
from tests.builders import fixtures_folder
from tests.builders_dicom import code, write_ct_series, write_mr_series, write_pet_series

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def agree(path: Path, content: bytes | None = None) -> bool:
    """Whether the short way took the file; where it did, pydicom says the same to the letter."""
    if content is not None:
        path.write_bytes(content)
    quick = quick_header(path.read_bytes()[: HEADS[0]])
    try:
        with warnings.catch_warnings(action="ignore"):
            slow = pydicom_header(path)
    except HeaderUnreadable:
        assert quick is None, path
        return False
    assert quick in (None, slow), path
    assert quick is None or json.dumps(quick.values) == json.dumps(slow.values), path
    assert read_header(path) == slow
    return quick is not None


def phantom(folder: Path, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """A slice with sequences in it, values of every kind, padding and empty ones."""
    nested = code("1", "99X", "meaning", PurposeOfReferenceCodeSequence=DicomSequence([code("2", "99X", "inner")]))
    (path,) = write_ct_series(
        folder,
        slices=1,
        transfer_syntax_uid=transfer_syntax_uid,
        ProcedureCodeSequence=DicomSequence([nested, code("3", "99X", "third")]),
        ReferencedImageSequence=DicomSequence([]),
        AnatomicRegionSequence=DicomSequence([code("4", "99X", "short", SpecificCharacterSet="ISO_IR 100")]),
        PixelPaddingValue=63488,
        PatientWeight="",
        ImageComments=" two  words ",
        FrameTimeVector=["1.50", "+2", ".5", "1e3"],
        PhysiciansOfRecord="M\u00fcller^Ren\u00e9",
        SliceLocation="-12.500",
    )
    return path


@pytest.mark.parametrize("transfer_syntax_uid", [*PLAIN, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_plain_files_of_little_endian_syntaxes_go_the_short_way(tmp_path: Path, transfer_syntax_uid: str) -> None:
    assert agree(phantom(tmp_path, transfer_syntax_uid))


@pytest.mark.parametrize("transfer_syntax_uid", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_rare_syntaxes_are_left_to_pydicom(tmp_path: Path, transfer_syntax_uid: str) -> None:
    assert not agree(phantom(tmp_path, transfer_syntax_uid))


@pytest.mark.parametrize("write", [write_ct_series, write_pet_series, write_mr_series])
@pytest.mark.parametrize("transfer_syntax_uid", PLAIN)
def test_phantoms_of_every_modality_go_the_short_way(
    tmp_path: Path, write: Callable[..., list[Path]], transfer_syntax_uid: str
) -> None:
    assert all(agree(path) for path in write(tmp_path, slices=2, transfer_syntax_uid=transfer_syntax_uid))


def undefined_lengths(path: Path) -> Path:
    dataset = dcmread(path)
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for number, item in enumerate(element.value):
                item.is_undefined_length_sequence_item = number % 2 == 0
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("transfer_syntax_uid", PLAIN)
def test_sequences_of_undefined_length_are_walked_over(tmp_path: Path, transfer_syntax_uid: str) -> None:
    path = undefined_lengths(phantom(tmp_path, transfer_syntax_uid))
    assert b"\xfe\xff\xdd\xe0" in path.read_bytes()
    assert agree(path)


@pytest.mark.parametrize("name", [Path(path).name for path in get_charset_files("*.dcm")])
@pytest.mark.parametrize("transfer_syntax_uid", PLAIN)
def test_names_in_every_character_set_are_the_same_both_ways(
    tmp_path: Path, name: str, transfer_syntax_uid: str
) -> None:
    (source,) = get_charset_files(name)
    given = dcmread(source)
    character_set, person = given.get_item("SpecificCharacterSet"), given.get_item("PatientName")
    path = phantom(tmp_path, transfer_syntax_uid)
    dataset = dcmread(path)
    del dataset.AnatomicRegionSequence  # its own character set would be another
    dataset.SpecificCharacterSet = "" if character_set is None else given.SpecificCharacterSet
    raw = b"PLACE" if person is None else person.value
    dataset.PatientName = "x" * len(raw)
    dataset.save_as(path)
    content = path.read_bytes().replace(b"x" * len(raw), raw)
    assert agree(path, content)


def test_what_is_not_certain_keeps_its_bytes_both_ways(tmp_path: Path) -> None:
    path = phantom(tmp_path)
    content = path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192").replace(b"Hospital", b"H\xf4pital ")
    agree(path, content)
    assert "InstitutionName" in pydicom_header(path).values[UNDECODED]


@pytest.mark.parametrize("signed", [0, 1])
def test_a_value_that_hangs_on_pixel_representation_is_read_with_it(tmp_path: Path, signed: int) -> None:
    (path,) = write_ct_series(
        tmp_path,
        slices=1,
        transfer_syntax_uid=ImplicitVRLittleEndian,
        each=lambda k, dataset: (
            setattr(dataset, "PixelRepresentation", signed),
            dataset.add_new("PixelPaddingValue", "SS" if signed else "US", -2000 if signed else 63536),
        )[1],
    )
    assert agree(path)
    assert read_header(path).values["PixelPaddingValue"] == (-2000 if signed else 63536)


def test_real_files_go_the_short_way() -> None:
    paths = sorted(fixtures_folder().rglob("*.dcm"))
    taken = [path for path in paths if agree(path)]
    readable = [path for path in paths if dcmread(path, stop_before_pixels=True).get("SOPClassUID")]
    assert len(taken) == len(readable) > 0


def test_pydicoms_own_odd_files_are_read_alike() -> None:
    found = sorted((Path(data.__file__).parent / "test_files").glob("*.dcm"))
    assert sum(agree(path) for path in found) > 10


PIECES = (
    *(b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0", b"SQ", b"UN"),
    *(b"\0\0", b"AA", b"\\", b" ", b"\x1b$B", b"~", b"ISO_IR 13", b"nan", b"1e99", b"\x08\0\x05\0CS", b"(\0\x03\x01"),
)


def spoiled(content: bytes, chance: random.Random) -> bytes:
    """Up to three bytes or pieces changed, taken out or put in."""
    spoilt = bytearray(content)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(128, len(spoilt))
        piece = chance.choice(PIECES)
        match chance.randrange(4):
            case 0:
                spoilt[at] = chance.randrange(256)
            case 1:
                spoilt[at : at + len(piece)] = piece
            case 2:
                del spoilt[at : at + chance.choice([1, 2, 4, 8])]
            case _:
                spoilt[at:at] = piece
    return bytes(spoilt)


@pytest.mark.parametrize("transfer_syntax_uid", PLAIN)
def test_spoiled_files_never_tell_anything_else_the_short_way(tmp_path: Path, transfer_syntax_uid: str) -> None:
    chance = random.Random(7)
    whole = undefined_lengths(phantom(tmp_path, transfer_syntax_uid)).read_bytes()
    taken = sum(agree(tmp_path / "spoiled.dcm", spoiled(whole, chance)) for _ in range(600))
    assert 100 < taken < 600


def test_a_file_cut_anywhere_before_its_pixels_is_left_to_pydicom(tmp_path: Path) -> None:
    content = phantom(tmp_path).read_bytes()
    for length in range(0, content.index(b"\xe0\x7f\x10\x00") + 12, 3):
        assert walk(content[:length]) is None


def test_a_long_private_value_before_the_pixels_is_passed_over(tmp_path: Path) -> None:
    path = phantom(tmp_path)
    dataset = dcmread(path)
    dataset.add_new(0x00290010, "LO", "MAKER")
    dataset.add_new(0x00291010, "OB", bytes(200_000))
    dataset.save_as(path)
    assert quick_header(path.read_bytes()[: HEADS[0]]) is None
    assert quick_header(path.read_bytes()[: HEADS[1]]) == read_header(path) == pydicom_header(path)


def test_sequences_nested_deeply_are_left_to_pydicom(tmp_path: Path) -> None:
    inner = Dataset()
    for _ in range(40):
        outer = Dataset()
        outer.ReferencedImageSequence = DicomSequence([inner])
        outer["ReferencedImageSequence"].is_undefined_length = True
        inner = outer
    path = phantom(tmp_path)
    dataset = dcmread(path)
    dataset.update(inner)
    dataset.save_as(path)
    assert quick_header(path.read_bytes()) is None
    assert read_header(path) == pydicom_header(path)


def test_headers_of_two_slices_share_no_list(tmp_path: Path) -> None:
    first, second = (read_header(path).values for path in write_ct_series(tmp_path, slices=2))
    first["ImageType"].append("MINE")
    assert second["ImageType"] == ["ORIGINAL", "PRIMARY", "AXIAL"]


@pytest.mark.parametrize(
    ("keyword", "value", "meant"),
    [
        ("SliceThickness", b"2.50 ", 2.5),
        ("SliceThickness", b"1\\2", None),
        ("SliceThickness", b"nan", None),
        ("SliceThickness", b"1.00000000000000001", None),
        ("PixelSpacing", b"0.5\\ 0.25", [0.5, 0.25]),
        ("PixelSpacing", b"0.5\\", None),
        ("InstanceNumber", b"+7 ", 7),
        ("InstanceNumber", b"7.0", None),
        ("InstanceNumber", b"9999999999", None),
        ("Rows", b"\x00\x02", 512),
        ("Rows", b"\x00\x02\x00\x02", None),
        ("PatientName", b"Doe^Jane ", "Doe^Jane"),
        ("PatientName", b"M\xfcller", None),
        ("SeriesDescription", b"a\\b", None),
        ("SeriesDescription", b"   ", None),
        ("ImageType", b"ORIGINAL", ["ORIGINAL"]),
        ("StudyInstanceUID", b"1.2.3\0", "1.2.3"),
    ],
)
def test_only_bytes_that_can_mean_one_thing_are_plain(keyword: str, value: bytes, meant: object) -> None:
    attribute = attribute_named(keyword)
    assert attribute is not None
    assert plain_value(attribute, value) == meant


def test_a_text_or_a_name_in_the_file_meta_that_says_another_vr_is_left_to_pydicom(tmp_path: Path) -> None:
    content = phantom(tmp_path).read_bytes()
    issuer = b"\x10\0\x21\0SQ\0\0\0\0\0\0"  # IssuerOfPatientID is a text, and pydicom makes "[]" of this
    at = content.index(b"\x10\0\x30\0DA")
    assert not agree(tmp_path / "issuer.dcm", content[:at] + issuer + content[at:])
    for element in (b"\x02\0\x03\0", b"\x02\0\x10\0"):
        assert not agree(tmp_path / "meta.dcm", content.replace(element + b"UI", element + b"US", 1))


def test_a_pixel_representation_without_a_value_is_left_to_pydicom(tmp_path: Path) -> None:
    content = phantom(tmp_path).read_bytes()
    assert not agree(tmp_path / "empty.dcm", content.replace(b"(\0\3\1US\2\0\0\0", b"(\0\3\1US\0\0", 1))


def test_a_sequence_in_the_place_of_an_items_character_set_is_left_to_pydicom(tmp_path: Path) -> None:
    content = phantom(tmp_path).read_bytes()
    end = b"\xfe\xff\xdd\xe0\0\0\0\0"
    item = b"\xfe\xff\0\xe0\xff\xff\xff\xff" + b"\x08\0\x05\0SQ\0\0\xff\xff\xff\xff" + end
    sequence = b"\x10\0\x50\0SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\x0d\xe0\0\0\0\0" + end
    at = content.index(b"\x10\0\x30\x10DS")
    assert not agree(tmp_path / "item.dcm", content[:at] + sequence + content[at:])
