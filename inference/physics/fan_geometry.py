"""Where the rays of a fan-beam scanner run: a full turn around a square slice, with a flat or an arc detector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Detector = Literal["flat", "arc"]


@dataclass(frozen=True, slots=True)
class FanGeometry:
    """A full turn of a fan, lengths in pixels of the square image it looks at.

    size: pixels along one side; only the inscribed circle is seen.
    views: a multiple of eight, half a step off the axes, so that the eight symmetries of the square map views to views.
    cells: even; pitch: cell width scaled to the centre of rotation.
    detector: "flat" has cells of equal width on a straight line, "arc" cells of equal angle about the source.
    """

    size: int
    views: int
    cells: int
    source_distance: float
    pitch: float
    detector: Detector = "flat"

    def __post_init__(self) -> None:
        if self.views % 8 or self.cells % 2:
            raise ValueError(
                f"a fan needs views in eights and an even number of cells, not {self.views} and {self.cells}"
            )
        if self.source_distance <= self.size / 2 or self.size < 8:
            raise ValueError(f"the source must stand outside the image ({self.source_distance} of {self.size} pixels)")
        if self.detector not in get_args(Detector):
            raise ValueError(f"the detector is flat or arc, not {self.detector!r}")
        if self.detector == "arc" and self.cells * self.cell_angle_rad >= math.pi:
            raise ValueError(f"an arc detector spans less than half a turn, not {self.cells} cells of {self.pitch}")

    @property
    def angles_rad(self) -> NDArray[np.float64]:
        """(views,) angle of the source, from +column towards +row."""
        return np.asarray(2 * np.pi * (np.arange(self.views) + 0.5) / self.views)

    @property
    def cell_angle_rad(self) -> float:
        """Angle from cell to cell seen from the source, at the middle of the detector."""
        return self.pitch / self.source_distance

    @property
    def cell_positions(self) -> NDArray[np.float64]:
        """(cells,) where the rays to the cells' centres cross the line through the centre of rotation, square to it."""
        steps = np.arange(self.cells) - (self.cells - 1) / 2
        if self.detector == "arc":
            return np.asarray(self.source_distance * np.tan(steps * self.cell_angle_rad))
        return np.asarray(steps * self.pitch)


def covering_fan(
    size: int,
    *,
    source_distance: float,
    cells_per_pixel: float,
    views_per_pixel: float,
    detector: Detector = "flat",
) -> FanGeometry:
    """The fan that just sees the inscribed circle of a square of `size` pixels from that distance."""
    radius = size / 2
    if detector == "arc":
        half_width = source_distance * math.asin(radius / source_distance)
    else:
        half_width = source_distance * radius / math.sqrt(source_distance**2 - radius**2)
    cells = 2 * math.ceil(half_width * cells_per_pixel) + 4
    views = 8 * math.ceil(size * views_per_pixel / 8)
    return FanGeometry(size, views, cells, source_distance, 1 / cells_per_pixel, detector)


def inscribed_circle(size: int) -> NDArray[np.bool_]:
    """(size, size) True in the inscribed circle, which every view sees whole."""
    centred = np.arange(size) - (size - 1) / 2
    inside: NDArray[np.bool_] = centred[:, None] ** 2 + centred**2 <= (size / 2) ** 2
    return inside
