"""A series is read to the same values in every lossless transfer syntax, and refused by name in any other."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicomnode.contexts import TRANSFER_SYNTAXES
from dicomnode.errors import SeriesUnusable
from dicomnode.load import load_volume
from tests.builders import fixtures_folder
from tests.builders_dicom import write_ct_series
from tests.validators import dcmtk

PLAIN = [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
BY_PYDICOM = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
BY_DCMTK = {
    JPEGLossless: ["dcmcjpeg", "+el"],
    JPEGLosslessSV1: ["dcmcjpeg", "+e1"],
    JPEGLSLossless: ["dcmcjpls", "+el"],
}
BY_OPENJPH = [HTJ2KLossless, HTJ2KLosslessRPCL]
NO_DECODER = [JPEG2000MCLossless]
LOSSY = [syntax for syntax in TRANSFER_SYNTAXES if syntax.endswith((".50", ".51", ".81", ".91", ".93", ".203"))]

KINDS = {"unsigned 12": (0, 4095, 12), "signed 12": (-2048, 2047, 12), "unsigned 16": (0, 65535, 16)}
KINDS["signed 16"] = (-32768, 32767, 16)

HTJ2K_12_BITS = b64decode(
    "/0//UQApQAAAAAAQAAAADAAAAAAAAAAAAAAAEAAAAAwAAAAAAAAAAAABCwEB/1AACAACAAAAB/9SAAwAAgABAAIEBEAB/1wACiBweHh4cHB4/2QA"
    "FgABT3BlbkpQSCBWZXIgMC45LjAu/5AACgAAAAABbQAB/5PAAWqAL3Ggc9fycdeatmyylvkFnAIBszcAwAC14ABbUAAtsJ5+818/fOQlApHrIT8c"
    "kvYfv8gwAZcAHuOP7/t3XuQ3/3pvNW/alGFK/Q+uKUBTNwA+mH/4b/9PX/JvfsR/+Pb/Zof5/QLOMYBZlwDAAXqMABeowAC9DP79H/95v/9+z3//"
    "c7//e9//EBOZ/3f/f/Of/3zvf/77/3/+/29//0NMZP7fv/9zH/953/985/9/+/8f/30PMpH5AFEd8RojviJCAB1IQCBQAf77j/91H/9xP/3DP/zb"
    "v/7jf/9hv/9zv/9rP/7jP/3DP/zbv/7jf/9Df/8v8NeB/QN8/hP8/AN8/KsD/xf4/gf4/QiVC1slRTyFA+oUgAS/AP73f/6P/33f/3/f/3zf/3/3"
    "P/97f/9n/37v/3/vf/73/3/9z/9/3/97v/99f/9z/38Aoixf3W/i+PCMoB/qQoAMsgH/2Q=="
)
HTJ2K_16_BITS = b64decode(
    "/0//UQApQAAAAAAQAAAADAAAAAAAAAAAAAAAEAAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAAC/9SAAwAAgABAAIEBEAB/1wACiCQmJiYkJCY/2QA"
    "FgABT3BlbkpQSCBWZXIgMC45LjAu/5AACgAAAAABTwAB/5PAABbwfwCHLmeAzrauQUOsmGt0ijfaoqin8ucbZoSAszcAwAALdgAAXQQAALoA/2Cf"
    "+wd+2t/wv4v0sUX9u3/IT2Tz/it/QYDStwD/AP8z/wz+fH/LP4S/NL+T6wUmnEzkTGz+Ct/SgDOXAP8B/0f/Qf9D/r3+gf8z/if+H/5f/A//XwDH"
    "f9KAA5gAwAAXfQAAXoMAAC6s/t//T/9v/3f/EwwJQ/9v/0f/T/9P/2//T/9n/xdhSBj+/37/fv99f/7/fw9hmDyPxgY4TV3JtMHxTnAAXgD+n/8P"
    "/j//D/9f/n/9v/8P/z/9P/4//j/+H/5/LDf/H7Lc8P8wubHcWC7LHY3A/yc04sBYpctr2egSBcVKACRfAP5//3/8/3n/e/97/3//d/93/3//d/93"
    "/x//f/7/f8WPTNIJrhvKhIH8XQD/2Q=="
)
"""16 x 12 pixels, (1009 j + 613 i) mod 4096 and 7 (1009 j + 613 i) mod 65536: by OpenJPH 0.9, reversible, RPCL."""


def named(value: object) -> str | None:
    return value.keyword if isinstance(value, UID) else None


def pixels(kind: str, slices: int = 3, rows: int = 33, columns: int = 40) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Stored values: ramps over the whole range, its ends, noise; every slice another."""
    low, high, _ = KINDS[kind]
    values = np.random.default_rng(5).integers(low, high, (slices, rows, columns), endpoint=True)
    values[:, :12] = np.linspace(low, high, 12 * columns).astype(int).reshape(12, columns)
    values[:, 12:18] = (low + high) // 2 + np.arange(slices)[:, None, None]
    values[:, 20, :2] = low, high
    return values


def write(folder: Path, kind: str, *, stored: Any = None, **options: Any) -> list[Path]:
    """A CT series of stored values of a kind."""
    low, _, bits = KINDS[kind]

    def declare(k: int, dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(low < 0)

    values = pixels(kind) if stored is None else stored
    return write_ct_series(folder, values=values, intercept=0, each=declare, **options)


def assert_same_volume(compressed: list[Path], plain: list[Path]) -> None:
    (found, images), (expected, _) = load_volume(compressed), load_volume(plain)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.geometry.affine, expected.geometry.affine)
    assert len(images) == len(plain)


def test_every_accepted_transfer_syntax_is_read_or_refused_below() -> None:
    tried = {*PLAIN, *BY_PYDICOM, *BY_DCMTK, *BY_OPENJPH, *NO_DECODER, *LOSSY, ExplicitVRLittleEndian}
    assert tried == set(TRANSFER_SYNTAXES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", [*PLAIN, *BY_PYDICOM], ids=named)
def test_a_series_in_a_lossless_syntax_has_the_values_of_the_uncompressed_one(
    tmp_path: Path, syntax: str, kind: str
) -> None:
    uids = {"series_instance_uid": "1.2.3", "frame_of_reference_uid": "1.2.4"}
    plain = write(tmp_path / "plain", kind, **uids)
    assert np.array_equal(load_volume(plain)[0].values, pixels(kind).astype(np.float32))
    assert_same_volume(write(tmp_path / "other", kind, transfer_syntax_uid=syntax, **uids), plain)


@pytest.mark.peer
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", BY_DCMTK, ids=named)
def test_what_dcmtk_compressed_without_loss_has_the_values_of_the_uncompressed_series(
    tmp_path: Path, syntax: str, kind: str
) -> None:
    plain = write(tmp_path, kind)
    compressed = [path.with_suffix(".compressed") for path in plain]
    program, *options = BY_DCMTK[UID(syntax)]
    for path, to in zip(plain, compressed, strict=True):
        subprocess.run([dcmtk(program), *options, "+un", str(path), str(to)], check=True, timeout=60)
        assert dcmread(to).file_meta.TransferSyntaxUID == syntax
    assert_same_volume(compressed, plain)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", BY_OPENJPH, ids=named)
def test_a_series_in_high_throughput_jpeg_2000_has_its_values(tmp_path: Path, syntax: str, kind: str) -> None:
    low, _, bits = KINDS[kind]
    j, i = np.mgrid[0:12, 0:16]
    base = 1009 * j + 613 * i
    stored = (base % 4096 if bits == 12 else 7 * base % 65536) + low
    frame = bytearray(HTJ2K_12_BITS if bits == 12 else HTJ2K_16_BITS)
    if low < 0:
        # ISO/IEC 15444-1 A.5.1, G.1: without sign half the range is taken off first; the rest of the stream is the same
        frame[42] |= 0x80
    paths = write(tmp_path, kind, stored=np.stack([stored] * 3))
    plain = load_volume(paths)[0]
    for path in paths:
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([bytes(frame)])
        dataset["PixelData"].is_undefined_length, dataset["PixelData"].VR = True, "OB"
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.save_as(path)
    volume, _ = load_volume(paths)
    assert np.array_equal(volume.values, plain.values)
    assert np.array_equal(volume.values[0], stored.astype(np.float32))


@pytest.mark.parametrize("syntax", NO_DECODER, ids=named)
def test_a_syntax_without_a_decoder_is_refused_by_name(tmp_path: Path, syntax: str) -> None:
    paths = write(tmp_path, "unsigned 12", transfer_syntax_uid=JPEG2000Lossless)
    for path in paths:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.save_as(path)
    with pytest.raises(SeriesUnusable, match="cannot be decoded") as refused:
        load_volume(paths)
    assert refused.value.reason_code == "undecodable"


@pytest.mark.parametrize("syntax", BY_PYDICOM, ids=named)
def test_a_compressed_slice_that_is_cut_short_is_refused_and_never_filled(tmp_path: Path, syntax: str) -> None:
    paths = write(tmp_path, "signed 16", transfer_syntax_uid=syntax)
    dataset = dcmread(paths[1])
    whole = dataset.PixelData
    frame = next(generate_frames(whole, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(paths[1])
    with pytest.raises(SeriesUnusable) as refused:
        load_volume(paths)
    assert refused.value.reason_code == "undecodable"


def test_a_real_jpeg_2000_series_is_read_as_gdcm_reads_it(tmp_path: Path) -> None:
    import gdcm

    paths = []
    for number, path in enumerate(sorted((fixtures_folder() / "ct_jpeg2000_totalseg").glob("*.dcm"))):
        dataset = dcmread(path)  # whoever made the files anonymous emptied their UIDs
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        paths.append(tmp_path / f"{number}.dcm")
        dataset.save_as(paths[-1])
    volume, images = load_volume(paths)
    for k, image in enumerate(images):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(image.path))
        assert reader.Read()
        content = reader.GetImage().GetBuffer().encode("utf-8", errors="surrogateescape")
        kind = "<i2" if image.dataset.PixelRepresentation else "<u2"
        stored = np.frombuffer(content, kind).reshape(volume.values.shape[1:])
        expected = stored * np.float64(image.slope) + image.intercept
        assert np.array_equal(volume.values[k], expected.astype(np.float32))
