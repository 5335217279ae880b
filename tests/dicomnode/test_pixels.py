"""Stored pixels are read exactly, whole or not at all, and padding is known from anatomy."""

from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from scipy.ndimage import label

from dicomnode.errors import SeriesUnusable
from dicomnode.load import load_volume
from dicomnode.multiframe.enhanced import source_images
from dicomnode.pixels import reaching_border, stored_pixels
from dicomnode.source_image import read_source_image
from tests.builders_dicom import ct_values, write_ct_series, write_instance, write_mr_series
from tests.builders_enhanced import write_enhanced

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_every_transfer_syntax_gives_the_same_values(tmp_path: Path, syntax: Any, signed: bool) -> None:
    values = ct_values(2, 37, 51)
    intercept = 0.0 if signed else -1024.0
    files = write_ct_series(tmp_path, values=values, intercept=intercept, transfer_syntax_uid=syntax)
    assert (load_volume(files)[0].values == values).all()


def as_jpeg_lossless(path: Path, target: Path, syntax: str) -> None:
    """The file compressed by GDCM, since no encoder of pydicom can."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    target.parent.mkdir(exist_ok=True)
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1"])
def test_jpeg_lossless_is_read_exactly(tmp_path: Path, syntax: str) -> None:
    values = ct_values(2, 40, 48)
    for path in write_ct_series(tmp_path / "plain", values=values):
        as_jpeg_lossless(path, tmp_path / "jpeg" / path.name, syntax)
    files = sorted((tmp_path / "jpeg").iterdir())
    assert dcmread(files[0]).file_meta.TransferSyntaxUID.is_compressed
    assert (load_volume(files)[0].values == values).all()


def test_bits_above_the_stored_ones_are_not_values(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2") | 0x8000  # an old overlay in bit 15
        dataset.PixelData = stored.tobytes()

    files = write_ct_series(tmp_path, each=spoil)
    assert (load_volume(files)[0].values == ct_values(4, 64, 64)).all()


def test_monochrome1_values_are_not_turned_round(tmp_path: Path) -> None:
    files = write_mr_series(tmp_path, PhotometricInterpretation="MONOCHROME1")
    plain = write_mr_series(tmp_path / "plain")
    assert (load_volume(files)[0].values == load_volume(plain)[0].values).all()


def test_a_modality_lut_is_applied(tmp_path: Path) -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [256, 0, 16], "HU"
    lut.add_new("LUTData", "OW", (np.arange(256) * 3).astype("<u2").tobytes())
    lut["LUTDescriptor"].VR = "US"
    stored = np.arange(64 * 64).reshape(1, 64, 64) % 256
    files = write_ct_series(
        tmp_path, values=stored, intercept=0, RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=[lut]
    )
    assert (load_volume(files)[0].values == stored * 3).all()


def refusal_of(path: Path) -> str:
    with pytest.raises(SeriesUnusable) as refusal:
        stored_pixels(read_source_image(path))
    return refusal.value.reason_code


@pytest.mark.parametrize("length", [0, 100, 8190, 8194, 16384])
def test_i14_pixel_data_of_another_length_are_refused(tmp_path: Path, length: int) -> None:
    path = write_ct_series(tmp_path, slices=1, each=lambda k, dataset: setattr(dataset, "PixelData", b"\0" * length))[0]
    assert refusal_of(path) == "pixel-data-length"


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, slices=1)[0]
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal_of(path) in ("pixel-data-length", "undecodable", "no-pixel-data")


def test_an_image_without_pixels_is_refused(tmp_path: Path) -> None:
    assert refusal_of(write_ct_series(tmp_path, slices=1, PixelData=None)[0]) == "no-pixel-data"


def test_a_broken_code_stream_is_refused(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=JPEG2000Lossless)[0]
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    assert refusal_of(path) == "undecodable"


def test_a_transfer_syntax_nobody_decodes_is_refused(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, slices=1)[0]
    dataset = dcmread(path)
    write_instance(path, dataset)
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")
    path.write_bytes(content)
    assert refusal_of(path) == "undecodable"


def circle(rows: int = 64) -> Any:
    j, i = np.mgrid[0:rows, 0:rows]
    return (j - rows / 2 + 0.5) ** 2 + (i - rows / 2 + 0.5) ** 2 < (rows / 2 - 1) ** 2


@pytest.mark.parametrize("padding_hu", [-3024, -2048, -2000])
def test_the_constant_of_the_corners_below_air_is_outside_though_no_attribute_names_it(
    tmp_path: Path, padding_hu: int
) -> None:
    values = np.where(circle(), ct_values(2, 64, 64), padding_hu)
    volume, images = load_volume(write_ct_series(tmp_path, values=values))
    assert volume.outside is not None and (volume.outside == ~circle()).all()
    assert images[0].outside_values is not None and list(images[0].outside_values) == [padding_hu]


def test_declared_padding_is_outside_whatever_vr_it_was_written_with(tmp_path: Path) -> None:
    values = np.where(circle(), ct_values(2, 64, 64), -2000)

    def spoil(k: int, dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "US", 0x10000 - 2000)  # signed pixels, unsigned VR

    volume, _ = load_volume(write_ct_series(tmp_path, values=values, intercept=0, each=spoil))
    assert volume.outside is not None and (volume.outside == ~circle()).all()


def test_a_range_of_padding_keeps_each_voxels_own_value(tmp_path: Path) -> None:
    values = np.where(circle(), ct_values(1, 64, 64), -1500)
    values[0, :5, :5] = -1400

    def spoil(k: int, dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -1500)
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1300)

    volume, images = load_volume(write_ct_series(tmp_path, values=values, intercept=0, each=spoil))
    assert volume.outside is not None and images[0].outside_values is not None
    assert (images[0].outside_values == values[volume.outside]).all()


def test_a_dark_streak_inside_the_body_is_not_padding_though_it_has_its_value(tmp_path: Path) -> None:
    values = ct_values(1, 64, 64)
    values[values == -1000] = -1024
    values[0, 30:32, 30:40] = -1024  # a streak clipped at the lowest value
    files = write_ct_series(tmp_path, values=values, each=lambda k, d: d.add_new("PixelPaddingValue", "US", 0))
    volume, _ = load_volume(files)
    assert volume.outside is not None
    assert volume.outside[0, 0, 0] and not volume.outside[0, 30:32, 30:40].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.floats(0.2, 0.9), st.integers(0, 2**32 - 1))
def test_what_reaches_the_border_is_what_a_labelling_of_connected_parts_finds(
    rows: int, columns: int, density: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    parts, _ = label(mask)
    border = set(parts[0]) | set(parts[-1]) | set(parts[:, 0]) | set(parts[:, -1])
    assert (reaching_border(mask) == np.isin(parts, list(border - {0}))).all()


def test_air_in_the_corners_is_not_padding(tmp_path: Path) -> None:
    for folder, air in (("a", -1000), ("b", -1024)):
        values = np.maximum(ct_values(1, 64, 64), air)
        assert load_volume(write_ct_series(tmp_path / folder, values=values))[0].outside is None


def test_padding_far_below_what_sixteen_bits_of_hu_hold_is_outside(tmp_path: Path) -> None:
    values = np.where(circle(), ct_values(2, 64, 64), -32768 - 1024)

    def fill(k: int, dataset: Dataset) -> None:
        dataset.PixelData, dataset.PixelRepresentation = (values[k] + 1024).astype("<i2").tobytes(), 1
        dataset.add_new("PixelPaddingValue", "SS", -32768)

    files = write_ct_series(tmp_path, values=np.maximum(values, -1024), each=fill, BitsStored=16, HighBit=15)
    volume, images = load_volume(files)
    assert volume.outside is not None and (volume.outside == ~circle()).all()
    assert images[0].outside_values is not None and list(images[0].outside_values) == [-33792]


FRAME_SYNTAXES = [syntax for syntax in SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", FRAME_SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_each_frame_is_read_exactly_in_every_transfer_syntax(
    tmp_path: Path, syntax: Any, signed: bool, bits: int
) -> None:
    lowest = -(2 ** (bits - 1)) if signed else 0
    stored = np.random.default_rng(bits).integers(lowest, lowest + 2**bits, (3, 33, 46))
    stored[:, 0, :2] = [lowest, lowest + 2**bits - 1]
    path = write_enhanced(
        tmp_path / "x.dcm", "MR", values=stored, signed=signed, bits=bits, transfer_syntax_uid=syntax, order=[1, 2, 0]
    )
    frames = source_images(path)
    for frame, k in zip(frames, [1, 2, 0], strict=True):
        assert (stored_pixels(frame)[1] == stored[k]).all()
    assert (stored_pixels(frames[0])[1] == stored[1]).all()  # whatever was read before


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_jpeg_lossless_frames_are_read_exactly(tmp_path: Path, signed: bool) -> None:
    lowest = -(2**15) if signed else 0
    stored = np.random.default_rng(2).integers(lowest, lowest + 2**16, (3, 40, 48))
    plain = write_enhanced(tmp_path / "plain.dcm", "MR", values=stored, signed=signed)
    as_jpeg_lossless(plain, tmp_path / "jpeg" / "x.dcm", "JPEGLosslessProcess14_1")
    frames = source_images(tmp_path / "jpeg" / "x.dcm")
    assert frames[0].frame_pixels is not None and frames[0].frame_pixels.length == -1
    for frame, expected in zip(frames, stored, strict=True):
        assert (stored_pixels(frame)[1] == expected).all()


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_bits_above_the_stored_ones_are_not_values_of_a_frame(tmp_path: Path, signed: bool) -> None:
    low = -2048 if signed else 0
    stored = np.random.default_rng(1).integers(low, low + 4096, (3, 8, 10))
    path = write_enhanced(tmp_path / "x.dcm", "MR", values=stored, signed=signed, bits=12)
    dataset = dcmread(path)
    spoiled = np.frombuffer(dataset.PixelData, "<u2") ^ np.resize([0xF000, 0, 0x5000], 240).astype("<u2")
    dataset.PixelData = spoiled.tobytes()
    dataset.save_as(path)
    for frame, expected in zip(source_images(path), stored, strict=True):
        assert (stored_pixels(frame)[1] == expected).all()


@pytest.mark.parametrize("form", ["extended offsets", "no offsets", "several fragments"])
def test_frames_are_found_however_the_file_says_where_they_are(tmp_path: Path, form: str) -> None:
    stored = ct_values(3, 20, 30) + 1024
    path = write_enhanced(tmp_path / "x.dcm", "MR", values=stored, transfer_syntax_uid=JPEGLSLossless)
    dataset = dcmread(path)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=3))
    if form == "extended offsets":
        value, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        dataset.PixelData = value
    elif form == "no offsets":
        dataset.PixelData = encapsulate(frames, has_bot=False)
    else:
        dataset.PixelData = encapsulate(frames, fragments_per_frame=2)
    dataset.save_as(path)
    for frame, expected in zip(source_images(path), stored, strict=True):
        assert (stored_pixels(frame)[1] == expected).all()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless], ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("size", [(64, 32), (16, 128)])
def test_compressed_pixels_of_another_matrix_than_the_header_says_are_refused(
    tmp_path: Path, syntax: Any, size: tuple[int, int]
) -> None:
    single = write_ct_series(tmp_path, values=ct_values(1, 32, 64), transfer_syntax_uid=syntax)[0]
    frames = write_enhanced(tmp_path / "x.dcm", "CT", rows=32, columns=64, transfer_syntax_uid=syntax)
    for path in (single, frames):
        dataset = dcmread(path)
        dataset.Rows, dataset.Columns = size
        dataset.save_as(path)
    assert refusal_of(single) == "pixel-data-size"
    assert refusal_of_frame(frames, 2) == "pixel-data-size"


@pytest.mark.parametrize("is_extended", [False, True])
@pytest.mark.parametrize("count", [2, 5])
def test_another_number_of_compressed_frames_than_the_header_says_is_refused(
    tmp_path: Path, count: int, is_extended: bool
) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT", transfer_syntax_uid=JPEGLSLossless)
    dataset = dcmread(path)
    frames = (list(generate_frames(dataset.PixelData, number_of_frames=4)) * 2)[:count]
    if is_extended:
        value, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        dataset.PixelData = value
    else:
        dataset.PixelData = encapsulate(frames)
    dataset.save_as(path)
    assert refusal_of_frame(path, 0) == "pixel-data-length"


def test_a_frame_is_read_without_the_others(tmp_path: Path) -> None:
    stored = ct_values(3, 40, 48) + 1024
    path = write_enhanced(tmp_path / "x.dcm", "MR", values=stored, transfer_syntax_uid=JPEG2000Lossless)
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content.startswith(b"\xff\x4f\xff\x51", at)]
    content[starts[1] : starts[1] + 40] = bytes(40)
    path.write_bytes(content)
    frames = source_images(path)
    assert (stored_pixels(frames[0])[1] == stored[0]).all() and (stored_pixels(frames[2])[1] == stored[2]).all()
    assert refusal_of_frame(path, 1) == "undecodable"


def refusal_of_frame(path: Path, index: int) -> str:
    image = source_images(path)[index]
    with pytest.raises(SeriesUnusable) as refusal:
        stored_pixels(image)
    assert f"frame {index + 1} of" in str(refusal.value)
    return refusal.value.reason_code


@pytest.mark.parametrize("frame", [0, 3])
@pytest.mark.parametrize("change", [-2, -2560, 2])
def test_i14_pixel_data_of_another_length_than_all_frames_need_are_refused_at_every_frame(
    tmp_path: Path, frame: int, change: int
) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT")
    dataset = dcmread(path)
    dataset.PixelData = dataset.PixelData[:change] if change < 0 else dataset.PixelData + bytes(change)
    dataset.save_as(path)
    assert refusal_of_frame(path, frame) == "pixel-data-length"


@pytest.mark.parametrize("frame", [0, 3])
def test_a_multi_frame_file_cut_short_is_refused_at_every_frame(tmp_path: Path, frame: int) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT")
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal_of_frame(path, frame) == "pixel-data-length"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_a_compressed_frame_that_the_file_breaks_off_in_is_refused(tmp_path: Path, syntax: Any) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT", transfer_syntax_uid=syntax)
    path.write_bytes(path.read_bytes()[:-200])
    assert refusal_of_frame(path, 3) == "undecodable"
