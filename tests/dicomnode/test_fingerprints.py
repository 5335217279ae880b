"""An instance has the same two hashes in every lossless encoding, and others when a word or a voxel changed."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from dicomnode.fingerprints import header_sha256, pixel_sha256
from dicomnode.verbatim import verbatim_elements
from tests.builders_dicom import code, write_ct_series, write_mr_series, write_pet_series
from tests.builders_texts import TEXTS, with_texts


def saved(dataset: FileDataset, **options: Any) -> FileDataset:
    out = BytesIO()
    dataset.save_as(out, **options)
    return dcmread(BytesIO(out.getvalue()))


def rich(folder: Path, **attributes: Any) -> Path:
    """A file with sequences in sequences, numbers of every kind and an odd length."""
    item = code("1", "99X", "odd")
    item.PurposeOfReferenceCodeSequence = [code("109103", "DCM", "Modifying Equipment")]
    item.DiffusionBValue = 0.5
    (path,) = write_mr_series(
        folder, slices=1, rows=5, columns=3, AnatomicRegionSequence=[item, item], StudyDescription="odd",
        DiffusionBValue=0.0, SmallestImagePixelValue=32, **attributes,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("write", [write_ct_series, write_pet_series, rich])
def test_an_encoding_changes_neither_hash(tmp_path: Path, syntax: Any, write: Callable[..., Any]) -> None:
    made = write(tmp_path)
    path = made if isinstance(made, Path) else made[0]
    header, pixels = header_sha256(dcmread(path)), pixel_sha256(dcmread(path))
    if syntax.is_compressed:
        dataset = dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        again = saved(dataset)
    else:
        write(tmp_path / "again", transfer_syntax_uid=str(syntax), **uids(path))
        again = dcmread(tmp_path / "again" / "001.dcm")
        assert again.file_meta.TransferSyntaxUID == syntax
    assert header_sha256(again) == header and pixel_sha256(again) == pixels


def uids(path: Path) -> dict[str, str]:
    dataset = dcmread(path)
    words = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    return {word: str(dataset[word].value) for word in words}


def test_lengths_of_sequences_may_be_said_or_not(tmp_path: Path) -> None:
    path = rich(tmp_path)
    dataset = dcmread(path)
    dataset["AnatomicRegionSequence"].is_undefined_length = True
    for item in dataset.AnatomicRegionSequence:
        item.is_undefined_length_sequence_item = True
    again = saved(dataset)
    assert b"\xfe\xff\xdd\xe0" in path.read_bytes() or again["AnatomicRegionSequence"].is_undefined_length
    assert header_sha256(again) == header_sha256(dcmread(path))


def deeper(dataset: Dataset) -> None:
    dataset.AnatomicRegionSequence[1].PurposeOfReferenceCodeSequence[0].CodeMeaning = "Other"


def shorter(dataset: Dataset) -> None:
    del dataset.AnatomicRegionSequence[1]


def zero(dataset: Dataset) -> None:
    dataset.SmallestImagePixelValue = 0


@pytest.mark.parametrize("change", [deeper, shorter, zero, lambda one: setattr(one, "PatientID", "OTHER")])
def test_a_word_of_the_header_changes_its_hash(tmp_path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(rich(tmp_path))
    change(dataset)
    assert header_sha256(saved(dataset)) != header_sha256(dcmread(tmp_path / "001.dcm"))


@pytest.mark.parametrize("name", TEXTS)
def test_names_are_hashed_as_bytes_in_every_character_set(tmp_path: Path, name: str) -> None:
    (path,) = write_ct_series(tmp_path, slices=1)
    with_texts(path, TEXTS[name].declared, {"PatientName": TEXTS[name].name})
    one = header_sha256(dcmread(path))
    assert one == header_sha256(dcmread(path, stop_before_pixels=True))
    assert verbatim_elements(dcmread(path))[0x00100010].value == TEXTS[name].name
    path.write_bytes(path.read_bytes().replace(TEXTS[name].name, b"X" * len(TEXTS[name].name)))
    assert header_sha256(dcmread(path)) != one


def test_pixels_have_one_hash_in_every_lossless_encoding(tmp_path: Path) -> None:
    (path, *_) = write_ct_series(tmp_path, slices=1)
    native = dcmread(path)
    expected = pixel_sha256(native)
    for syntax in (RLELossless, JPEGLSLossless):
        dataset = dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        out = BytesIO()
        dataset.save_as(out)
        assert pixel_sha256(dcmread(BytesIO(out.getvalue()))) == expected
    del native.PixelData
    assert pixel_sha256(native) is None
