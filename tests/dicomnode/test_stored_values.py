"""Values become pixels within the error each kind of image allows, and come back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicomnode.errors import OutputFault
from dicomnode.source_image import SourceImage
from dicomnode.stored_values import decimal_string_at_least, padding_value, storable_padding, stored_slice


def source(*, signed: bool = False, slope: float = 1.0, intercept: float = 0.0) -> SourceImage:
    header = Dataset()
    header.PixelRepresentation = int(signed)
    return SourceImage(Path("none"), header, {}, slope=slope, intercept=intercept)


@given(st.floats(1e-20, 1e20))
def test_p3_a_slope_is_never_rounded_down_and_fits_a_ds(value: float) -> None:
    text = decimal_string_at_least(value)
    assert len(text) <= 16 and value <= float(text) <= value * (1 + 1e-8)


@given(st.lists(st.floats(-1100, 30000, width=32), min_size=1, max_size=30))
def test_t1_a_ct_is_off_by_at_most_half_an_hu(values: list[float]) -> None:
    row = np.array([values], np.float32)
    stored = stored_slice(row, source(), modality="CT")
    assert stored.pixels.dtype == np.int16 and stored.is_signed
    assert np.abs(stored.pixels - row).max() <= 0.5
    assert stored.rescale == {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "HU"}


@given(st.lists(st.floats(-1100, 30000, width=32), min_size=1, max_size=30))
def test_t1_twelve_bits_hold_what_they_can_to_half_an_hu_and_count_the_rest(values: list[float]) -> None:
    row = np.array([values], np.float32)
    stored = stored_slice(row, source(), modality="CT", ct_pixels="unsigned-12")
    assert (stored.bits, stored.is_signed, stored.rescale["RescaleIntercept"]) == (12, False, "-1024")
    assert stored.pixels.max() < 4096
    off = np.abs(stored.pixels.astype(np.float64) - 1024 - row)
    assert stored.clipped == int((off > 0.5).sum())
    assert (off[(row > -1024) & (row < 3071)] <= 0.5).all()


def test_t1_padding_is_not_counted_among_the_cut_voxels() -> None:
    row, outside = np.array([[-2000, -2000, 5000]], np.float32), np.array([[True, False, False]])
    assert stored_slice(row, source(), modality="CT", outside=outside, ct_pixels="unsigned-12").clipped == 2


def test_t4_a_padding_value_is_one_and_of_padding_only() -> None:
    outside = np.array([[True, True, False, False]])
    for values, expected in (
        ([-2000, -2000, 0, 5], -2000),
        ([-2000, -2000, -1999.7, 5], None),
        ([-2000, -2001, 0, 5], None),
    ):
        stored = stored_slice(np.array([values], np.float32), source(), modality="CT")
        assert padding_value(stored, outside) == expected
        assert padding_value(stored, None) is None and padding_value(stored, np.zeros_like(outside)) is None


def test_t4_padding_beyond_16_bits_is_what_16_bits_can_hold() -> None:
    assert storable_padding(np.array([-33792, -2000, 62512], np.float32)).tolist() == [-32768, -2000, 32767]


@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=1, max_size=30))
def test_p3_a_pet_is_off_by_at_most_half_its_own_slope(values: list[float]) -> None:
    row = np.array([values], np.float32)
    stored = stored_slice(row, source(slope=2.5), modality="PT")
    slope = float(stored.rescale["RescaleSlope"])
    assert np.abs(stored.pixels * slope - row.astype(np.float64)).max() <= slope * 0.5000001
    assert "RescaleType" not in stored.rescale and stored.rescale["RescaleIntercept"] == "0"


def test_p3_an_empty_pet_slice_keeps_the_slope_of_its_source() -> None:
    stored = stored_slice(np.zeros((2, 2), np.float32), source(slope=0.25), modality="PT")
    assert stored.rescale["RescaleSlope"] == "0.25" and not stored.pixels.any()
    upside_down = stored_slice(np.zeros((2, 2), np.float32), source(slope=-0.25), modality="PT")
    assert upside_down.rescale["RescaleSlope"] == "0.25", "a PET's slope is positive"


@given(
    st.lists(st.integers(0, 65535), min_size=1, max_size=30), st.sampled_from([(1.0, 0.0), (2.44, -3.0), (0.1, 7.5)])
)
def test_m2_an_mr_comes_back_to_exactly_its_stored_values(stored: list[int], rescale: tuple[float, float]) -> None:
    slope, intercept = rescale
    values = (np.array([stored]) * slope + intercept).astype(np.float32)
    image = source(slope=slope, intercept=intercept)
    assert (stored_slice(values, image, modality="MR").pixels == [stored]).all()


def test_m2_an_mr_is_signed_only_when_its_source_is() -> None:
    values = np.array([[-5.0, 5.0]], np.float32)
    assert stored_slice(values, source(signed=True), modality="MR").pixels.tolist() == [[-5, 5]]
    unsigned = stored_slice(values, source(), modality="MR")
    assert unsigned.pixels.tolist() == [[0, 5]] and unsigned.pixels.dtype == np.uint16


def test_m2_a_value_beyond_the_stored_scale_fails_and_is_not_cut() -> None:
    for signed, value in ((False, 70000.0), (True, 40000.0), (True, -40000.0)):
        with pytest.raises(OutputFault, match="M2"):
            stored_slice(np.array([[value]], np.float32), replace(source(signed=signed)), modality="MR")
