"""What is taken for metal in a series."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.physics.metal import find_metal, metal_threshold_hu, touches, without_specks


def body(slices: int = 4, size: int = 64) -> NDArray[np.float32]:
    values = np.full((slices, size, size), 40, np.float32)
    values[:, 8:14, 20:40] = 1500  # cortical bone
    return values


@pytest.mark.parametrize(("bits", "highest", "expected"), [(12, 3071, 3000), (16, 9000, 4000), (16, 3071, 3070)])
def test_the_threshold_follows_the_stored_bits_and_where_the_numbers_end(
    bits: int, highest: float, expected: float
) -> None:
    values = body()
    values[1:3, 30:36, 30:36] = highest
    assert metal_threshold_hu(values, bits_stored=bits) == expected


def test_numbers_that_pile_up_below_3000_are_metal_cut_off_by_the_scanner() -> None:
    values = body()
    values[1:3, 30:36, 30:36] = 2976
    assert metal_threshold_hu(values, bits_stored=12) == 2975


def test_bone_that_reaches_a_high_peak_is_not_a_pile() -> None:
    values = body()
    values[1, 30, 20:50] = np.linspace(2300, 2900, 30)
    assert metal_threshold_hu(values, bits_stored=12) == 3000


def test_a_large_part_is_found_whole_and_bone_is_not() -> None:
    values = body()
    values[1:3, 30:40, 30:40] = 3071
    metal = find_metal(values, 3000)
    assert metal[1:3, 30:40, 30:40].all()
    assert metal.sum() == 200


def test_pixels_that_are_nearly_metal_beside_metal_belong_to_it() -> None:
    values = body()
    values[1:3, 30:40, 30:40] = 3071
    values[1:3, 29, 30:40] = 2600
    values[1:3, 50, 30:40] = 2600
    metal = find_metal(values, 3000)
    assert metal[1:3, 29, 30:40].all()
    assert not metal[:, 50].any()


def test_a_small_part_reaches_down_to_half_of_its_height() -> None:
    values = body()
    y, x = np.mgrid[:64, :64]
    values[1:3] += 3100 * np.exp(-((y - 45) ** 2 + (x - 45) ** 2) / (2 * 2.0**2)).astype(np.float32)
    metal = find_metal(values, 3000)
    # The half maximum of a Gaussian lies at 1.18 standard deviations: 2.35 pixels, an area of 17.
    assert 13 <= metal[1].sum() <= 21


def test_single_bright_voxels_are_noise() -> None:
    values = body()
    values[1, 40, 40] = 3071
    values[3, 20, 50] = 3071
    assert not find_metal(values, 3000).any()


def test_a_thin_wire_through_the_slices_is_one_part() -> None:
    values = body()
    for index in range(4):
        values[index, 40 + index, 40] = 3071
    assert find_metal(values, 3000).any(axis=(1, 2)).all()


def test_metal_beside_what_was_not_seen_touches_it() -> None:
    metal = np.zeros((4, 20, 20), bool)
    unseen = np.zeros((20, 20), bool)
    unseen[:, :3] = True
    metal[0, 10, 3] = metal[1, 10, 5] = metal[2, 0, 10] = True
    assert touches(metal, unseen).tolist() == [True, False, True, False]


def test_specks_are_parts_of_fewer_than_three_voxels_in_three_dimensions() -> None:
    metal = np.zeros((3, 8, 8), bool)
    metal[0, 1, 1:3] = True  # two, and a third over a corner in the next slice
    metal[1, 2, 3] = True
    speck = metal.copy()
    speck[2, 6, 6:8] = True
    assert np.array_equal(without_specks(speck), metal)
    assert not without_specks(metal[:1]).any() and not without_specks(np.zeros_like(metal)).any()
