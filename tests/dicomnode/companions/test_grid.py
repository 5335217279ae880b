"""The headers that masks and maps are laid on."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomnode.companions.grid import derived_headers, of_one_pixel, source_headers
from dicomnode.errors import OutputFault
from tests.builders_companions import phantom_derivation


def test_there_is_one_header_per_slice_in_slice_order(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", orientation=(1, 0, 0, 0, 0, -1))
    source, derived = source_headers(derivation), derived_headers(derivation)
    assert [header.SOPInstanceUID for header in source] == [image.sop_instance_uid for image in derivation.images]
    assert [header.SOPInstanceUID for header in derived] == [header.SOPInstanceUID for header in derivation.derived]
    for one, other, image in zip(source, derived, derivation.images, strict=True):
        assert one.ImagePositionPatient == other.ImagePositionPatient == image.dataset.ImagePositionPatient


@pytest.mark.parametrize("said", [None, "1.0", "-3"])
def test_the_distance_between_slices_is_the_measured_one(tmp_path: Path, said: str | None) -> None:
    derivation = phantom_derivation(tmp_path / "s", "MR", SpacingBetweenSlices=said, spacing_mm=(2.5, 1, 1))
    assert [header.SpacingBetweenSlices for header in source_headers(derivation)] == [2.5] * 4


def test_a_single_slice_is_as_far_from_the_next_as_it_is_thick(tmp_path: Path) -> None:
    (header,) = source_headers(phantom_derivation(tmp_path / "s", slices=1, spacing_mm=(4, 1, 1)))
    assert (header.SpacingBetweenSlices, header.SliceThickness) == (4, 4)


def test_a_missing_thickness_is_the_measured_distance(tmp_path: Path) -> None:
    headers = source_headers(phantom_derivation(tmp_path / "s", SliceThickness=None, spacing_mm=(2.5, 1, 1)))
    assert {float(header.SliceThickness) for header in headers} == {2.5}


def test_orientations_written_with_other_decimals_are_one(tmp_path: Path) -> None:
    def with_more_decimals(k: int, dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = ["1", "0.00000001" if k else "0", "0", "0", "1", "0"]

    headers = source_headers(phantom_derivation(tmp_path / "s", each=with_more_decimals))
    assert all(header.ImageOrientationPatient == headers[0].ImageOrientationPatient for header in headers)


def test_frames_of_a_multi_frame_source_are_stood_for_by_the_derived_images(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    framed = replace(derivation, images=tuple(replace(image, frame=k + 1) for k, image in enumerate(derivation.images)))
    assert [header.SOPInstanceUID for header in source_headers(framed)] == [
        header.SOPInstanceUID for header in derivation.derived
    ]


def test_a_source_without_a_frame_of_reference_is_a_fault(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    for image in derivation.images:
        image.dataset.FrameOfReferenceUID = ""
    with pytest.raises(OutputFault, match="FrameOfReferenceUID"):
        source_headers(derivation)


def test_headers_of_one_pixel_keep_their_places(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    small = of_one_pixel(source_headers(derivation))
    assert {(header.Rows, header.Columns) for header in small} == {(1, 1)}
    for header, image in zip(small, derivation.images, strict=True):
        assert header.ImagePositionPatient == image.dataset.ImagePositionPatient
        assert image.dataset.Rows == 64, "the source's own header is as it was"
