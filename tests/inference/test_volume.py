"""Volumes keep their place and their unit."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from inference.volume import Acquisition, Geometry, Unit, Volume


def oblique() -> Geometry:
    """Slices 3 mm apart, rows 0.8 mm, columns 0.5 mm, turned by 30 degrees about the second axis."""
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([3.0, 0.8, 0.5])
    affine[:3, 3] = (10, -20, 300)
    return Geometry(affine, "1.2.840.1")


def small() -> Volume:
    outside = np.zeros((2, 3, 4), bool)
    outside[0, 0, 0] = True
    return Volume(np.zeros((2, 3, 4), np.float32), Unit.HU, oblique(), Acquisition("CT", kvp=120.0), outside)


def test_spacing_is_the_length_of_the_steps_however_the_stack_is_turned() -> None:
    assert oblique().spacing_mm == pytest.approx((3.0, 0.8, 0.5))


def test_new_values_stay_in_their_place_unit_and_acquisition() -> None:
    source = small()
    made = source.with_values(np.ones((2, 3, 4), np.float32))
    assert made.values.all()
    assert not source.values.any()
    assert made.unit is Unit.HU
    assert made.geometry is source.geometry
    assert made.acquisition is source.acquisition
    assert made.outside is source.outside


def test_new_values_take_another_unit_only_when_one_is_given() -> None:
    assert small().with_values(np.ones((2, 3, 4), np.float32), Unit.PER_CM).unit is Unit.PER_CM


def test_a_volume_cannot_be_changed_in_passing() -> None:
    with pytest.raises(FrozenInstanceError):
        small().unit = Unit.ARBITRARY  # type: ignore[misc]


def test_absent_headers_are_none_or_empty() -> None:
    acquisition = Acquisition("PT")
    assert acquisition.kvp is None
    assert acquisition.suv_bw_factor is None
    assert acquisition.corrected_image == ()


def test_a_slice_of_an_even_stack_is_as_deep_as_the_step_to_the_next() -> None:
    assert oblique().is_even
    assert oblique().slice_depths_mm(3) == pytest.approx([3.0, 3.0, 3.0])


def test_a_slice_beside_a_gap_is_no_deeper_than_its_nearer_neighbour_is_far() -> None:
    geometry = oblique()
    heights = np.array([0.0, 3.0, 6.0, 30.0, 35.0])
    normal = geometry.affine[:3, 0] / 3.0
    corners = geometry.affine[:3, 3] + heights[:, None] * normal
    corners += np.outer(heights, 0.2 * geometry.affine[:3, 1])  # a tilted gantry changes no depth
    uneven = replace(geometry, corners_mm=corners)
    assert not uneven.is_even
    assert uneven.slice_depths_mm(5) == pytest.approx([3.0, 3.0, 3.0, 5.0, 5.0])
