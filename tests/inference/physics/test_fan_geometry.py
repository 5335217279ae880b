"""Where a fan's rays run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inference.physics.fan_geometry import Detector, FanGeometry, covering_fan, inscribed_circle

both_detectors = pytest.mark.parametrize("detector", ["flat", "arc"])


@both_detectors
def test_a_covering_fan_just_sees_the_inscribed_circle(detector: Detector) -> None:
    fan = covering_fan(100, source_distance=125, cells_per_pixel=2, views_per_pixel=1.5, detector=detector)
    angle = math.atan(fan.cell_positions[-1] / fan.source_distance)
    nearest_to_centre = fan.source_distance * math.sin(angle)
    assert 50 < nearest_to_centre < 51.5


def test_a_flat_detector_has_equal_widths_and_an_arc_equal_angles() -> None:
    flat = FanGeometry(64, 96, 64, 80.0, 1.5)
    arc = FanGeometry(64, 96, 64, 80.0, 1.5, "arc")
    np.testing.assert_allclose(np.diff(flat.cell_positions), 1.5)
    np.testing.assert_allclose(np.diff(np.arctan(arc.cell_positions / 80.0)), 1.5 / 80)
    assert arc.cell_positions[32] == pytest.approx(flat.cell_positions[32], rel=1e-4)


@both_detectors
def test_the_cells_lie_evenly_about_the_central_ray(detector: Detector) -> None:
    positions = FanGeometry(64, 96, 64, 80.0, 1.5, detector).cell_positions
    np.testing.assert_allclose(positions, -positions[::-1])


@pytest.mark.parametrize(("views", "cells", "distance"), [(100, 64, 80.0), (96, 65, 80.0), (96, 64, 20.0)])
def test_a_geometry_without_the_symmetries_is_refused(views: int, cells: int, distance: float) -> None:
    with pytest.raises(ValueError, match=r"fan|source"):
        FanGeometry(64, views, cells, distance, 1.0)


def test_an_arc_of_half_a_turn_and_an_unknown_detector_are_refused() -> None:
    with pytest.raises(ValueError, match="half a turn"):
        FanGeometry(64, 96, 128, 40.0, 1.0, "arc")
    with pytest.raises(ValueError, match="curved"):
        FanGeometry(64, 96, 64, 80.0, 1.0, "curved")  # type: ignore[arg-type]


def test_the_inscribed_circle_touches_the_middle_of_the_sides_and_leaves_the_corners() -> None:
    circle = inscribed_circle(10)
    assert circle[0, 4] and circle[5, 9]
    assert not circle[0, 0] and not circle[0, 1]
