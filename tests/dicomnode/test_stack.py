"""Positions make one regular stack or a refusal that says why."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicomnode.errors import SeriesUnusable
from dicomnode.stack import Stack, even_parts, regular_stack, shares_position, stack_in_place

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


def in_place(points: NDArray[np.float64], thickness: float | None = 3.0) -> Stack:
    return stack_in_place(points, AXIAL, pixel_spacing_mm=(0.5, 0.7), slice_thickness_mm=thickness)


def test_an_even_stack_in_place_is_the_regular_one() -> None:
    points = corners([6.0, 0.0, 3.0])
    assert in_place(points).corners_mm is None
    assert np.array_equal(in_place(points).affine, stack(points).affine) and in_place(points).order == (1, 2, 0)


def test_i6_i7_uneven_slices_stay_where_they_are_and_the_affine_has_their_mean_step() -> None:
    points = corners([12, 0, 3, 6, 15])
    points[:, 1] += 0.2 * points[:, 2]
    found = in_place(points)
    assert found.order == (1, 2, 3, 0, 4) and found.corners_mm is not None
    assert np.array_equal(found.corners_mm, points[list(found.order)])
    assert np.allclose(found.affine[:3, 0], [0, 0, 15 / 4]) and np.allclose(found.affine[:3, 3], points[1])
    assert "1 slice(s) are missing" in found.notes[0] and "own place" in found.notes[0]


def test_a_slice_shifted_in_its_plane_is_taken_in_its_place() -> None:
    points = corners([0, 3, 6, 9, 12])
    points[2, 0] += 5
    found = in_place(points)
    assert found.corners_mm is not None and found.corners_mm[2, 0] == -95
    assert "shifted against each other" in found.notes[0]


def test_even_in_place_two_images_at_one_position_and_a_lone_slice_without_depth_are_refused() -> None:
    for points, thickness, code in (
        (corners([0, 3, 3]), 3.0, "same-position"),
        (corners([7]), None, "slice-thickness-missing"),
    ):
        with pytest.raises(SeriesUnusable) as refusal:
            in_place(points, thickness)
        assert refusal.value.reason_code == code


def test_i8_only_slices_that_overlap_or_leave_a_gap_are_noted() -> None:
    assert stack(corners([0, 3, 6])).notes == ()
    assert "overlap" in stack(corners([0, 3, 6]), thickness=5.0).notes[0]
    assert "do not reach" in stack(corners([0, 3, 6]), thickness=1.0).notes[0]
    assert stack(corners([0, 3, 6]), thickness=None).notes == ()


@pytest.mark.parametrize(
    ("heights", "parts"),
    [
        ([0, 3, 6, 9], [[0, 1, 2, 3]]),
        ([0, 3, 6, 12, 15], [[0, 1, 2], [3, 4]]),
        ([0, 1, 2, 3, 6, 9, 12], [[0, 1, 2, 3], [4, 5, 6]]),
        ([0, 3, 6, 10.2, 13.2], [[0, 1, 2], [3, 4]]),
        ([0, 3, 6, 12, 30, 33, 36], [[0, 1, 2], [3], [4, 5, 6]]),
        ([0, 50, 53, 56], [[0], [1, 2, 3]]),
        ([0, 1, 3, 4, 6, 7], [[0, 1], [2, 3], [4, 5]]),
        ([7], [[0]]),
    ],
)
def test_i6_an_uneven_series_is_parted_where_its_distances_change(heights: list[float], parts: list[list[int]]) -> None:
    assert even_parts(corners(heights), AXIAL) == parts


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.6, 1.0, 1.5, 3.0, 5.0, 20.0]), min_size=1, max_size=20), st.randoms())
def test_i6_every_slice_is_in_one_part_and_every_part_is_a_regular_stack(gaps: list[float], shuffle: Any) -> None:
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    where = list(range(len(heights)))
    shuffle.shuffle(where)
    points = corners(heights)[where]
    parts = even_parts(points, AXIAL)
    assert [where[index] for part in parts for index in part] == list(range(len(heights)))
    for part in parts:
        found = stack(points[part])
        assert found.corners_mm is None and found.order == tuple(range(len(part)))


def test_slices_that_share_a_position_are_told_whatever_their_order() -> None:
    assert shares_position(corners([0, 3, 0.001]), AXIAL)
    assert not shares_position(corners([0, 3, 1]), AXIAL) and not shares_position(corners([0]), AXIAL)
