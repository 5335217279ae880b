"""Positions make one regular stack or a refusal that says why."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicomnode.errors import SeriesUnusable
from dicomnode.stack import Stack, regular_stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def corners(heights: Any) -> NDArray[np.float64]:
    return np.array([[-100.0, -120.0, height] for height in heights])


def stack(points: NDArray[np.float64], orientation: tuple[float, ...] = AXIAL, thickness: float | None = 3.0) -> Stack:
    return regular_stack(points, orientation, pixel_spacing_mm=(0.5, 0.7), slice_thickness_mm=thickness)


def refusal_of(points: NDArray[np.float64], **options: Any) -> str:
    with pytest.raises(SeriesUnusable) as refusal:
        stack(points, **options)
    assert len(str(refusal.value).split()) > 8
    return refusal.value.reason_code


def test_slices_in_any_order_are_stacked_along_the_normal() -> None:
    found = stack(corners([6.0, 0.0, 3.0]))
    assert found.order == (1, 2, 0)
    assert found.positions_mm == (0.0, 3.0, 6.0)
    assert np.allclose(found.affine @ [2, 10, 20, 1], [-100 + 20 * 0.7, -120 + 10 * 0.5, 6.0, 1])


@given(
    st.integers(2, 40),
    st.floats(0.3, 12.0),
    st.tuples(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)),
    st.randoms(),
)
def test_any_oblique_stack_with_written_rounding_is_taken(
    count: int, spacing: float, angles: tuple[float, float, float], shuffle: Any
) -> None:
    a, b, c = angles
    turn = (
        np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        @ np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    )
    points = np.round([k * spacing * turn[:, 2] + [10, -20, 300] for k in range(count)], 5)
    where = list(range(count))
    shuffle.shuffle(where)
    found = stack(points[where], tuple(np.round([*turn[:, 0], *turn[:, 1]], 6)))
    assert [where[index] for index in found.order] == list(range(count))
    assert np.allclose(found.affine[:3, 0], spacing * turn[:, 2], atol=1e-3)


def test_i6_a_missing_slice_is_counted_and_refused() -> None:
    assert refusal_of(corners([0, 3, 6, 12, 15])) == "slices-missing"
    assert refusal_of(corners([0, 1, 2, 5, 6, 7, 10])) == "slices-missing"


def test_i6_uneven_distances_are_refused() -> None:
    assert refusal_of(corners([0, 3, 6, 10.2, 13.2])) == "spacing-not-uniform"


def test_small_jitter_of_real_positions_is_taken_and_a_tenth_of_a_thin_slice_is_not() -> None:
    assert stack(corners([0, 3.08, 6, 8.95, 12])).positions_mm[1] == 3.08
    assert refusal_of(corners([0, 0.56, 1.0, 1.5])) == "spacing-not-uniform"


def test_i5_two_images_at_one_position_are_refused() -> None:
    assert refusal_of(corners([0, 3, 3, 6])) == "same-position"


@pytest.mark.parametrize("tilt_deg", [0.2, 12.0, -25.0])
def test_i7_a_tilted_gantry_is_refused(tilt_deg: float) -> None:
    points = corners([0, 3, 6, 9, 12])
    points[:, 1] += np.tan(np.radians(tilt_deg)) * points[:, 2]
    assert refusal_of(points) == "gantry-tilt"


def test_a_slice_shifted_in_its_plane_is_refused() -> None:
    points = corners([0, 3, 6, 9, 12])
    points[2, 0] += 5
    assert refusal_of(points) == "positions-not-on-a-line"


def test_i8_a_single_slice_is_as_thick_as_it_says_and_refused_when_it_does_not_say() -> None:
    assert np.allclose(stack(corners([7.0]), thickness=5.0).affine[:3, 0], [0, 0, 5.0])
    assert refusal_of(corners([7.0]), thickness=None) == "slice-thickness-missing"


def test_an_orientation_that_is_none_is_refused() -> None:
    assert refusal_of(corners([0, 3]), orientation=(1, 0, 0, 1, 0, 0)) == "orientation-invalid"
    assert refusal_of(corners([0, 3]), orientation=(0, 0, 0, 0, 0, 0)) == "orientation-invalid"
