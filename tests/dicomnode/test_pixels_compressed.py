"""Compressed pixels are read exactly as encoders write them, or refused where depth or sign contradict the header."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import openjpeg
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless

from dicomnode.code_stream import code_stream_of
from dicomnode.errors import SeriesUnusable
from dicomnode.load import load_volume
from dicomnode.pixels import stored_pixels
from dicomnode.source_image import read_source_image
from tests.builders_dicom import write_ct_series
from tests.validators import dcmtk

GDCM_NAMES = {JPEGLSLossless: "JPEGLSLossless", JPEG2000Lossless: "JPEG2000Lossless"}


def values_of(bits: int, *, signed: bool) -> NDArray[np.int64]:
    """Every value that so many bits hold is likely, the least and the greatest among them."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(1).integers(low, high + 1, (32, 32))
    values[0, :2] = low, high
    return values


def plain(folder: Path, bits: int, *, signed: bool) -> Path:
    stored = values_of(bits, signed=signed)

    def fill(k: int, dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(signed)
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()

    return write_ct_series(folder, slices=1, rows=32, columns=32, each=fill)[0]


def by_pydicom(source: Path, target: Path, syntax: UID) -> None:
    dataset = dcmread(source)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(target)


def by_gdcm(source: Path, target: Path, syntax: UID) -> None:
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, GDCM_NAMES[syntax])))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def by_dcmtk(source: Path, target: Path, syntax: UID) -> None:
    assert syntax == JPEGLSLossless, "DCMTK encodes no JPEG 2000"
    subprocess.run([dcmtk("dcmcjpls"), "+el", "+un", str(source), str(target)], check=True, timeout=60)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(
    ("encode", "syntax"),
    [(by_dcmtk, JPEGLSLossless), *((encode, syntax) for encode in (by_pydicom, by_gdcm) for syntax in GDCM_NAMES)],
)
def test_what_an_encoder_writes_is_read_exactly_whichever_depth_it_gives_the_stream(
    tmp_path: Path, encode: Any, syntax: UID, bits: int, signed: bool
) -> None:
    target = tmp_path / "x.dcm"
    encode(plain(tmp_path, bits, signed=signed), target, syntax)
    said = code_stream_of(next(generate_frames(dcmread(target).PixelData, number_of_frames=1)))
    assert said is not None and said.bits == (bits if encode is by_pydicom else 16)
    _, stored = stored_pixels(read_source_image(target))
    assert (stored == values_of(bits, signed=signed)).all()


def under_another_header(source: Path, syntax: UID, stream: bytes, **attributes: Any) -> Path:
    """A file whose header says other things than its compressed pixels."""
    dataset = dcmread(source)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(source)
    return source


def jpeg_ls(folder: Path, bits: int) -> bytes:
    target = folder / "stream.dcm"
    by_pydicom(plain(folder, bits, signed=False), target, JPEGLSLossless)
    return next(generate_frames(dcmread(target).PixelData, number_of_frames=1))


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (11, True), (15, True)])
def test_a_jpeg_ls_stream_whose_depth_is_not_the_headers_is_refused(tmp_path: Path, bits: int, signed: bool) -> None:
    source = plain(tmp_path, 16, signed=signed)
    with pytest.raises(SeriesUnusable, match="16 bits by its header") as refusal:
        stream = jpeg_ls(tmp_path / "stream", bits)
        load_volume([under_another_header(source, JPEGLSLossless, stream)])
    assert refusal.value.reason_code == "pixel-data-depth"


def test_unsigned_samples_of_fewer_bits_than_the_header_stores_are_the_same_values(tmp_path: Path) -> None:
    source = plain(tmp_path, 16, signed=False)
    path = under_another_header(source, JPEGLSLossless, jpeg_ls(tmp_path / "stream", 11))
    assert (stored_pixels(read_source_image(path))[1] == values_of(11, signed=False)).all()


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_jpeg_2000_stream_of_the_other_sign_is_refused(tmp_path: Path, bits: int, signed: bool) -> None:
    source = plain(tmp_path, bits, signed=signed)
    stored = values_of(bits, signed=not signed).astype(np.uint16 if signed else np.int16)
    stream = bytes(openjpeg.encode(stored, bits_stored=bits, photometric_interpretation=2))
    with pytest.raises(SeriesUnusable, match="signed by its header") as refusal:
        load_volume([under_another_header(source, JPEG2000Lossless, stream)])
    assert refusal.value.reason_code == "pixel-data-depth"


@pytest.mark.parametrize("descriptor", [[1, 2], [256, 0, 7], None])
def test_a_modality_lut_that_cannot_be_applied_is_refused(tmp_path: Path, descriptor: list[int] | None) -> None:
    lut = Dataset()
    lut.ModalityLUTType = "HU"
    if descriptor is not None:
        lut.add_new("LUTDescriptor", "US", descriptor)
    lut.add_new("LUTData", "OW", bytes(512))
    gone = {"RescaleSlope": None, "RescaleIntercept": None}
    files = write_ct_series(tmp_path, rows=8, columns=8, ModalityLUTSequence=[lut], **gone)
    with pytest.raises(SeriesUnusable) as refusal:
        load_volume(files)
    assert refusal.value.reason_code == "modality-lut"
