"""A header is read from any file without decoding pixels, and every bad file is one named fault."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomnode.errors import HeaderUnreadable
from dicomnode.headers import Header, header_values, read_header
from tests.builders import fixtures_folder

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def ct(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE, "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.Modality, dataset.ImageType, dataset.KVP = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "120"
    dataset.SeriesDescription, dataset.SeriesNumber, dataset.PixelSpacing = " Hip ", "7", ["0.5", "0.25"]
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated, dataset.PixelRepresentation, dataset.PixelData = 16, 0, bytes(8)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def write(path: Path, dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT_IMAGE, "1.2.3.4"
    meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle = transfer_syntax_uid, "SCANNER"
    dataset.file_meta = meta
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def part10(path: Path, body: bytes, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """A file whose data set is the given bytes."""
    write(path, ct(), transfer_syntax_uid)
    empty = write(path.with_suffix(".head"), Dataset(), transfer_syntax_uid).read_bytes()
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        empty = empty[: empty.index(b"SCANNER ") + 8]
    path.write_bytes(empty + body)
    return path


def element(tag: int, vr: str, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


UIDS = (
    element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    + element(0x00080018, "UI", b"1.2.3.4\0")
    + element(0x0020000D, "UI", b"1.2.3\0")
    + element(0x0020000E, "UI", b"1.2.3.1\0")
)


@pytest.mark.parametrize("transfer_syntax_uid", SYNTAXES, ids=lambda uid: uid.name)
def test_a_header_says_the_same_in_every_encoding(tmp_path: Path, transfer_syntax_uid: str) -> None:
    header = read_header(write(tmp_path / "a.dcm", ct(), transfer_syntax_uid))
    assert header == Header(
        sop_class_uid=CT_IMAGE,
        sop_instance_uid="1.2.3.4",
        series_instance_uid="1.2.3.1",
        study_instance_uid="1.2.3",
        transfer_syntax_uid=transfer_syntax_uid,
        source_ae_title="SCANNER",
        values=header.values,
    )
    assert header.values == {
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": 120.0,
        "SeriesDescription": "Hip",
        "SeriesNumber": 7,
        "PixelSpacing": [0.5, 0.25],
        "Rows": 2,
        "Columns": 2,
        "BitsAllocated": 16,
        "PixelRepresentation": 0,
    }


def test_list_or_scalar_is_decided_by_the_dictionary_and_not_by_the_file() -> None:
    values = header_values(ct(ImageType="ORIGINAL", SeriesDescription="a\\b"))
    assert values["ImageType"] == ["ORIGINAL"]
    assert values["SeriesDescription"] == "a\\b"


def test_places_in_a_list_are_kept() -> None:
    assert header_values(ct(ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "MAR"]))["ImageType"][3:] == ["", "MAR"]


def test_empty_sequences_binary_private_and_long_lists_are_left_out() -> None:
    dataset = ct(SeriesDescription="", ReferencedImageSequence=Sequence([Dataset()]), Laterality=None)
    dataset.add_new(0x00090010, "LO", "MAKER")
    dataset.add_new(0x00091001, "LO", "secret")
    dataset.FrameTimeVector = ["1"] * 300
    values = header_values(dataset)
    for keyword in ("SeriesDescription", "ReferencedImageSequence", "PixelData", "Laterality", "FrameTimeVector"):
        assert keyword not in values
    assert "secret" not in json.dumps(values)


def test_numbers_that_are_none_are_left_out_and_take_nothing_with_them(tmp_path: Path) -> None:
    body = (
        UIDS
        + element(0x00180060, "DS", b"many")
        + element(0x00181100, "DS", b"nan ")
        + element(0x00200011, "IS", b"99999999999999999999")
        + element(0x00200013, "IS", b"1.5 ")
        + element(0x00280010, "US", b"\x01")
        + element(0x00280030, "DS", b"0.5\\x ")
        + element(0x00281050, "DS", b"40")
    )
    values = read_header(part10(tmp_path / "a.dcm", body)).values
    assert values["WindowCenter"] == [40.0]
    assert not {"KVP", "ReconstructionDiameter", "SeriesNumber", "InstanceNumber", "Rows", "PixelSpacing"} & set(values)


def test_long_text_is_cut_and_very_long_values_are_passed_over() -> None:
    assert header_values(ct(ImageComments="x" * 1000))["ImageComments"] == "x" * 256


def test_a_header_can_be_kept_as_json_whatever_is_in_its_texts(tmp_path: Path) -> None:
    body = (
        element(0x00080005, "CS", b"ISO_IR 192") + UIDS + element(0x0008103E, "LO", b"a\x00b\xff\xfe\xed\xa0\xbd\xb8 ")
    )
    values = read_header(part10(tmp_path / "a.dcm", body)).values
    assert json.loads(json.dumps(values, ensure_ascii=False).encode()) == values
    assert values["SeriesDescription"].startswith("ab")


@pytest.mark.parametrize(
    "character_set", [b"NO_SUCH_SET ", b"ISO 2022 IR 58", b"\\ISO 2022 IR 87 ", b"ISO_IR 192", b"\xff\xff"]
)
def test_a_character_set_that_cannot_be_decoded_does_not_stop_the_header(tmp_path: Path, character_set: bytes) -> None:
    body = (
        element(0x00080005, "CS", character_set)
        + UIDS
        + element(0x00080060, "CS", b"CT")
        + element(0x00100010, "PN", b"Zhang^X=\x1b$)A\xd5\xc5^\xd0\xa1 ")
    )
    assert read_header(part10(tmp_path / "a.dcm", body)).values["Modality"] == "CT"


def nested(depth: int, *, undefined_length: bool) -> bytes:
    """ReferencedImageSequence in ReferencedImageSequence in ..."""
    inner = b""
    for _ in range(depth):
        if undefined_length:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
            end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
            inner = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item + end
        else:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
            inner = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
    return inner


def test_sequences_nested_3000_deep_are_one_named_fault(tmp_path: Path) -> None:
    path = part10(tmp_path / "a.dcm", UIDS[:60] + nested(3000, undefined_length=True) + UIDS[60:])
    with pytest.raises(HeaderUnreadable, match="nested too deeply"):
        read_header(path)


def test_nested_sequences_of_known_length_are_passed_over_unread(tmp_path: Path) -> None:
    path = part10(tmp_path / "a.dcm", UIDS + nested(3000, undefined_length=False))
    assert read_header(path).sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 132,
        b"\0" * 128 + b"DICM",
        b"not DICOM at all" * 100,
        b"\0" * 128 + b"DICM" + bytes(range(256)) * 40,
    ],
    ids=["empty", "zeros", "prefix only", "text", "noise"],
)
def test_what_is_not_dicom_is_one_named_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(HeaderUnreadable):
        read_header(path)


@pytest.mark.parametrize("transfer_syntax_uid", SYNTAXES, ids=lambda uid: uid.name)
def test_a_file_that_ends_in_its_header_is_one_named_fault_wherever_it_ends(
    tmp_path: Path, transfer_syntax_uid: str
) -> None:
    content = write(tmp_path / "a.dcm", ct(), transfer_syntax_uid).read_bytes()
    meta_ends = content.index(b"SCANNER ") + 8
    header_ends = len(content) - 20 if transfer_syntax_uid != DeflatedExplicitVRLittleEndian else meta_ends + 60
    path = tmp_path / "cut.dcm"
    whole = read_header(tmp_path / "a.dcm")
    for length in range(header_ends):
        path.write_bytes(content[:length])
        try:
            found = read_header(path)
        except HeaderUnreadable:
            continue
        # Cut exactly between two elements nothing shows that more was meant; what is there is then right.
        assert all(whole.values[keyword] == value for keyword, value in found.values.items())


def test_a_value_that_claims_to_be_longer_than_the_file_is_one_named_fault(tmp_path: Path) -> None:
    lying = struct.pack("<HH2sHL", 0x0040, 0xA160, b"UT", 0, 0xFFFFFF00) + b"short"
    with pytest.raises(HeaderUnreadable, match="middle of its header"):
        read_header(part10(tmp_path / "a.dcm", UIDS + lying))


def test_a_small_file_cannot_make_the_node_inflate_gigabytes(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(UIDS + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 0x7FFFFFF0))
    for _ in range(256):
        bomb += packer.compress(bytes(1 << 20))
    path = part10(tmp_path / "a.dcm", bomb + packer.flush(), DeflatedExplicitVRLittleEndian)
    tracemalloc.start()
    try:
        assert read_header(path).sop_instance_uid == "1.2.3.4"
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "../../etc/passwd", "1." * 40 + "1"])
def test_a_uid_that_is_none_is_one_named_fault(tmp_path: Path, keyword: str, value: str | None) -> None:
    with pytest.warns(UserWarning) if value else _nothing():
        dataset = ct(**{keyword: value})
    with pytest.raises(HeaderUnreadable, match=keyword):
        read_header(write(tmp_path / "a.dcm", dataset))


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_a_file_that_names_two_instances_is_one_named_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", ct())
    path.write_bytes(path.read_bytes().replace(b"1.2.3.4\0", b"1.2.3.5\0", 1))
    with pytest.raises(HeaderUnreadable, match="different SOP instances"):
        read_header(path)


def test_a_missing_file_is_not_taken_for_a_bad_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "nothing.dcm")


def test_real_scanner_files_are_read() -> None:
    for series in ("ct_dental_metal_TCGA-E3-A3E5", "pet_wholebody_ac_STS_001"):
        for path in sorted((fixtures_folder() / series).glob("*.dcm")):
            values = read_header(path).values
            assert values["Modality"] in ("CT", "PT")
            assert isinstance(values["ImageType"], list)
            assert len(values["PixelSpacing"]) == 2
