"""Pixels are held to their length, their range, their padding and the values they stand for."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import FileDataset, dcmread
from pydicom.uid import RLELossless

from dicomnode.gate.pixel_rules import (
    length_findings,
    padding_findings,
    precision_findings,
    range_finding,
    restored_findings,
    stored_values,
    values_of,
)
from dicomnode.gate.rules import Finding
from tests.builders_faults import good_image


def good(kind: str) -> FileDataset:
    return dcmread(BytesIO(good_image(kind).content))


def broken(*findings: Finding) -> list[str]:
    return [finding.rule for finding in findings if not finding.holds]


@pytest.mark.parametrize("kind", ["CT", "PT", "MR"])
def test_pixels_read_the_same_native_and_losslessly_compressed(kind: str) -> None:
    dataset = good(kind)
    native = stored_values(dataset).copy()
    assert not broken(*length_findings(dataset))
    dataset.compress(RLELossless)
    assert np.array_equal(stored_values(dataset), native)
    assert broken(*length_findings(dataset))


def test_too_few_pixels_are_never_filled() -> None:
    dataset = good("CT")
    dataset.PixelData = dataset.PixelData[:-2]
    assert "T1" in broken(*length_findings(dataset))
    with pytest.raises(ValueError, match="length"):
        stored_values(dataset)


def test_values_are_those_of_the_images_own_rescale_or_of_the_sources() -> None:
    stored = np.array([[1, 2]])
    dataset = good("CT")
    dataset.RescaleIntercept = "-1024"
    assert values_of(dataset, stored).tolist() == [[-1023, -1022]]
    assert values_of(good("MR"), stored, slope=2.0, intercept=1.0).tolist() == [[3, 5]]


@pytest.mark.parametrize(("hounsfield", "holds"), [(-1100, True), (-1101, False), (30000, True), (30001, False)])
def test_t5_a_hu_that_cannot_be_is_found(hounsfield: float, holds: bool) -> None:
    values = np.array([[0.0, hounsfield]])
    assert range_finding(values, source_range=None, outside=None).holds is holds
    assert range_finding(values, source_range=(-2000, 40000), outside=None).holds
    assert range_finding(values, source_range=None, outside=np.array([[False, True]])).holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_t5_what_is_no_number_is_never_in_range(value: float) -> None:
    assert not range_finding(
        np.array([value]), source_range=(-np.inf, np.inf) if np.isnan(value) else None, outside=None
    ).holds


def test_padding_is_the_pixels_kind_and_of_no_voxel_inside() -> None:
    dataset, stored = good("CT"), np.array([[-3024, 40]], np.int16)
    outside = np.array([[True, False]])
    dataset.add_new(0x00280120, "SS", -3024)
    assert not broken(*padding_findings(dataset, stored, outside))
    assert broken(*padding_findings(dataset, stored, None)) == ["T4"]
    dataset.add_new(0x00280121, "SS", 100)
    assert broken(*padding_findings(dataset, stored, outside)) == ["T4"]
    del dataset.PixelPaddingRangeLimit
    dataset.add_new(0x00280120, "US", 62512)
    assert broken(*padding_findings(dataset, stored, outside)) == ["C25"]


def test_t4_what_the_source_held_outside_is_there_again_as_far_as_the_pixels_can_hold_it() -> None:
    values, outside = np.array([[-3024.0, 40.0]]), np.array([[True, False]])
    held = np.array([-3024.0], np.float32)
    assert not broken(*restored_findings(values, held, outside, is_12_bit=False))
    assert broken(*restored_findings(values + 2, held, outside, is_12_bit=False)) == ["T4"]
    cut = np.array([[-1024.0, 40.0]])
    assert not broken(*restored_findings(cut, held, outside, is_12_bit=True))
    assert broken(*restored_findings(cut, held, outside, is_12_bit=False)) == ["T4"]
    assert broken(*restored_findings(values, np.zeros(3, np.float32), outside, is_12_bit=False)) == ["T4"]
    assert not broken(*restored_findings(values, None, None, is_12_bit=False))


def test_m2_only_what_lies_below_the_unsigned_scale_may_be_cut_off() -> None:
    dataset, values = good("MR"), np.array([[-5.0, 7.0]], np.float32)
    assert not broken(*precision_findings(dataset, np.array([[0, 7]], np.uint16), values, slope=1.0, intercept=0.0))
    assert broken(*precision_findings(dataset, np.array([[0, 0]], np.uint16), values, slope=1.0, intercept=0.0)) == [
        "M2"
    ]
    dataset.PixelRepresentation = 1
    assert broken(*precision_findings(dataset, np.array([[0, 7]], np.int16), values, slope=1.0, intercept=0.0)) == [
        "M2"
    ]
