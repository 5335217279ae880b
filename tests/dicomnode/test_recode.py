"""What is recoded holds the same pixels and the same bytes of text, or is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomnode.character_sets import CHANGEABLE_VRS
from dicomnode.errors import PeerRejected
from dicomnode.recode import recoded as recoded_file
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from tests.builders_dicom import Mend, ct_values, with_bytes, write_ct_series, write_instance
from tests.builders_objects import write_document, write_float_map, write_picture, write_segmentation
from tests.validators import dcmtk

PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
LOSSLESS = [JPEGLSLossless, JPEG2000Lossless, RLELossless]
HELD = [*PLAIN, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, *LOSSLESS]
Writer = Callable[..., Path]


def recoded(path: Path, transfer_syntax_uid: str) -> FileDataset:
    """What a reader finds in the file that is made."""
    return dcmread(BytesIO(recoded_file(path, transfer_syntax_uid)))


def named(value: object) -> str:
    return value.keyword if isinstance(value, UID) else ""


def ct(folder: Path, *, signed: bool = False, syntax: str = ExplicitVRLittleEndian, each: Mend | None = None) -> Path:
    """One CT slice of 12 bits, or of 16 signed bits that reach both ends."""
    if not signed:
        return write_ct_series(folder, slices=1, transfer_syntax_uid=syntax, each=each)[0]
    values = ct_values(1, 64, 64)
    values[0, :8, :8] = np.linspace(-32768, 32767, 64).astype(int).reshape(8, 8)
    return write_ct_series(folder, slices=1, values=values, intercept=0, transfer_syntax_uid=syntax, each=each)[0]


def elements(dataset: Dataset, place: str = "") -> Iterator[tuple[str, object]]:
    """Every element but pixels and group lengths: bytes of what is text or private, values of the rest."""
    for tag in sorted(dataset.keys()):
        if tag.group == 0x7FE0 or tag.element == 0:
            continue
        raw = dataset.get_item(tag)
        element = dataset[tag]
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from elements(item, f"{place}{tag}[{number}]")
        elif isinstance(raw, RawDataElement) and (element.VR in CHANGEABLE_VRS or tag.is_private):
            yield f"{place}{tag}", (raw.value or b"").strip(b" \0")
        else:
            yield f"{place}{tag}", element.value if element.value not in ("", None) else b""


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned 12", "signed 16"])
@pytest.mark.parametrize("held", HELD, ids=named)
@pytest.mark.parametrize("target", PLAIN, ids=named)
def test_every_lossless_instance_can_leave_uncompressed(tmp_path: Path, held: str, target: str, signed: bool) -> None:
    path = ct(tmp_path, signed=signed, syntax=held)
    made, before = recoded(path, target), dcmread(ct(tmp_path / "plain", signed=signed))
    assert made.file_meta.TransferSyntaxUID == target
    assert np.array_equal(made.pixel_array, before.pixel_array)
    assert made.PixelData == before.PixelData
    assert list(elements(made)) == list(elements(dcmread(path)))


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned 12", "signed 16"])
@pytest.mark.parametrize("held", HELD[:4], ids=named)
@pytest.mark.parametrize("target", LOSSLESS, ids=named)
def test_every_uncompressed_image_can_leave_compressed(tmp_path: Path, held: str, target: str, signed: bool) -> None:
    path = ct(tmp_path, signed=signed, syntax=held)
    made = recoded(path, target)
    assert made.file_meta.TransferSyntaxUID == target and made["PixelData"].is_undefined_length
    assert np.array_equal(made.pixel_array, dcmread(path).pixel_array)
    assert list(elements(made)) == list(elements(dcmread(path)))


@pytest.mark.parametrize(
    ("target", "decoder"), [(JPEGLSLossless, "dcmdjpls"), (RLELossless, "dcmdrle")], ids=["JPEG-LS", "RLE"]
)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned 12", "signed 16"])
def test_dcmtk_decodes_what_we_compress_to_the_same_values(
    tmp_path: Path, target: str, decoder: str, signed: bool
) -> None:
    path = ct(tmp_path, signed=signed)
    recoded(path, target).save_as(tmp_path / "made.dcm")
    subprocess.run([dcmtk(decoder), str(tmp_path / "made.dcm"), str(tmp_path / "decoded.dcm")], check=True, timeout=60)
    assert np.array_equal(dcmread(tmp_path / "decoded.dcm").pixel_array, dcmread(path).pixel_array)


@pytest.mark.parametrize("write", [write_segmentation, write_float_map, write_picture, write_document])
@pytest.mark.parametrize("held", [*PLAIN, DeflatedExplicitVRLittleEndian], ids=named)
@pytest.mark.parametrize("target", PLAIN, ids=named)
def test_every_kind_of_object_keeps_its_bytes_uncompressed(
    tmp_path: Path, write: Writer, held: str, target: str
) -> None:
    path = write(tmp_path / "a.dcm", transfer_syntax_uid=held)
    made, before = recoded(path, target), dcmread(path)
    for keyword in ("PixelData", "FloatPixelData"):
        assert made.get(keyword) == before.get(keyword)
    assert list(elements(made)) == list(elements(before))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("target", LOSSLESS, ids=named)
def test_a_colour_picture_is_compressed_to_the_same_colours(tmp_path: Path, target: str, planar: int) -> None:
    path = write_picture(tmp_path / "a.dcm", planar=planar)
    made = recoded(path, target)
    assert np.array_equal(made.pixel_array, dcmread(path).pixel_array)
    assert made.PhotometricInterpretation == "RGB"


@pytest.mark.parametrize("write", [write_segmentation, write_float_map])
def test_bits_and_floats_are_never_compressed(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(PeerRejected, match="cannot be recoded"):
        recoded(write(tmp_path / "a.dcm"), JPEGLSLossless)


@pytest.mark.parametrize("name", [Path(name).name for name in get_charset_files("*.dcm")])
@pytest.mark.parametrize("target", PLAIN, ids=named)
def test_texts_keep_their_bytes_whatever_their_character_set(tmp_path: Path, name: str, target: str) -> None:
    path = Path(next(found for found in get_charset_files("*.dcm") if found.endswith(name)))
    before = dcmread(path)
    made = recoded(path, target)
    assert made.get_item("SpecificCharacterSet") is not None
    assert list(elements(made)) == list(elements(before))


def test_chinese_texts_with_escapes_keep_their_bytes_in_every_transfer_syntax(tmp_path: Path) -> None:
    path = ct(tmp_path, each=lambda k, dataset: setattr(dataset, "SpecificCharacterSet", ["", "ISO 2022 IR 58"]))
    dataset = dcmread(path)
    name = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= "
    dataset.PatientName = "X" * len(name)
    dataset.save_as(path)
    with_bytes(path, b"X" * len(name), name)
    for target in (ImplicitVRLittleEndian, *LOSSLESS):
        recoded(path, target).save_as(tmp_path / "made.dcm")
        assert name in (tmp_path / "made.dcm").read_bytes()


def test_group_lengths_are_left_out_and_the_file_meta_is_ours(tmp_path: Path) -> None:
    path = ct(tmp_path, each=lambda k, dataset: dataset.add_new(0x00080000, "UL", 1))
    made = recoded(path, ImplicitVRLittleEndian)
    assert (0x0008, 0x0000) not in made
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
    assert made.file_meta.MediaStorageSOPClassUID == made.SOPClassUID
    assert made.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID


def test_what_lies_in_unused_bits_is_never_dropped_silently(tmp_path: Path) -> None:
    def mark(k: int, dataset: Dataset) -> None:
        words = np.frombuffer(dataset.PixelData, "<u2").copy()
        words[5] |= 0x8000  # an overlay of the old kind, in bit 15 beside a value of 12 bits
        dataset.PixelData = words.tobytes()

    path = ct(tmp_path, each=mark)
    assert recoded(path, ImplicitVRLittleEndian).PixelData == dcmread(path).PixelData
    for target in (JPEGLSLossless, JPEG2000Lossless):
        with pytest.raises(PeerRejected, match=r"other pixels|cannot be recoded"):
            recoded(path, target)


def test_what_cannot_be_decoded_is_refused_by_name(tmp_path: Path) -> None:
    def cut(k: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = "1.2.3.4"

    path = ct(tmp_path, syntax=JPEGLSLossless, each=cut)
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(PeerRejected, match=r"1\.2\.3\.4 cannot be recoded from JPEG-LS"):
        recoded(path, ExplicitVRLittleEndian)


@pytest.mark.parametrize("said", [None, "00", "01"])
def test_a_lossy_image_that_leaves_decoded_is_marked(tmp_path: Path, said: str | None) -> None:
    path = tmp_path / "a.dcm"
    dataset = dcmread(str(get_testdata_file("SC_rgb_dcmtk_+eb+cr.dcm", download=False)))
    ratio = dataset.LossyImageCompressionRatio
    if said != "01":
        del dataset.LossyImageCompression, dataset.LossyImageCompressionMethod, dataset.LossyImageCompressionRatio
    if said == "00":
        dataset.LossyImageCompression = "00"
    dataset.save_as(path)
    made = recoded(path, ExplicitVRLittleEndian)
    assert made.LossyImageCompression == "01" and made.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(made.LossyImageCompressionRatio) == pytest.approx(float(ratio), rel=0.02)
    assert np.array_equal(made.pixel_array, dcmread(path).pixel_array)


def test_a_colour_jpeg_that_leaves_decoded_says_what_its_colours_are() -> None:
    path = Path(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False)))
    made = recoded(path, ExplicitVRLittleEndian)
    assert np.array_equal(made.pixel_array, dcmread(path).pixel_array)
    assert made.PlanarConfiguration == 0


def test_a_frame_table_of_the_compressed_form_is_left_behind(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.dcm")
    dataset = dcmread(path)
    dataset.compress(RLELossless, encoding_plugin="pydicom", encapsulate_ext=True, generate_instance_uid=False)
    dataset.save_as(path)
    assert "ExtendedOffsetTable" in dcmread(path)
    made = recoded(path, ExplicitVRLittleEndian)
    assert "ExtendedOffsetTable" not in made and "ExtendedOffsetTableLengths" not in made


def test_numbers_keep_their_values_from_big_endian(tmp_path: Path) -> None:
    def fill(k: int, dataset: Dataset) -> None:
        dataset.add_new("RedPaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new("RedPaletteColorLookupTableData", "OW", np.arange(256, dtype="<u2").tobytes())
        dataset.add_new("ReferencedFrameNumber", "IS", "3")
        dataset.add_new("TableOfParameterValues", "FL", [1.5, -2.25])
        dataset.add_new("FrameIncrementPointer", "AT", 0x00181063)

    def swapped(k: int, dataset: Dataset) -> None:
        fill(k, dataset)
        dataset["RedPaletteColorLookupTableData"].value = np.arange(256, dtype=">u2").tobytes()

    plain = ct(tmp_path / "plain", each=fill)
    made = recoded(ct(tmp_path / "big", syntax=ExplicitVRBigEndian, each=swapped), ImplicitVRLittleEndian)
    uids = {"(0008,0018)", "(0020,000D)", "(0020,000E)", "(0020,0052)"}
    before, after = dict(elements(dcmread(plain))), dict(elements(made))
    assert {k: v for k, v in after.items() if k not in uids} == {k: v for k, v in before.items() if k not in uids}


def test_the_same_syntax_is_the_stored_file(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    dataset = dcmread(ct(tmp_path / "b"))
    write_instance(path, dataset)
    assert recoded(path, ExplicitVRLittleEndian) == dcmread(path)
