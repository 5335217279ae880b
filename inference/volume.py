"""A series as numbers with a physical unit and a place in the patient (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Unit(StrEnum):
    """What one voxel's number means."""

    HU = "HU"
    BQ_PER_ML = "Bq/ml"
    SUV_BW = "SUVbw"
    PROPORTIONAL_COUNTS = "propcps"
    PER_CM = "1/cm"
    ARBITRARY = "arbitrary"


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Where voxel (k, j, i) lies in the patient.

    affine: (4, 4) float64; (slice k, row j, column i, 1) -> LPS mm.
    corners_mm: (slices, 3) float64, LPS mm of voxel (k, 0, 0), of slices that are no even, perpendicular stack (gaps,
        gantry tilt); the affine then holds the mean step along the normal. None for an even stack, where the affine
        says all.
    """

    affine: NDArray[np.float64]
    frame_of_reference_uid: str
    corners_mm: NDArray[np.float64] | None = None

    @property
    def is_even(self) -> bool:
        """Whether the affine holds for every slice."""
        return self.corners_mm is None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring slices, rows and columns in mm."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])

    def slice_depths_mm(self, slices: int) -> NDArray[np.float64]:
        """(slices,) mm along the normal that each slice stands for: of an uneven stack the nearer neighbour's distance.

        What lies in a gap was not imaged and belongs to no slice.
        """
        if self.corners_mm is None or slices == 1:
            return np.full(slices, self.spacing_mm[0])
        normal = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        gaps = np.abs(np.diff(self.corners_mm @ (normal / np.linalg.norm(normal))))
        padded = np.concatenate([[np.inf], gaps, [np.inf]])
        depths: NDArray[np.float64] = np.minimum(padded[:-1], padded[1:])
        return depths


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What the headers say of how the values came to be; absent attributes are None or empty."""

    modality: str
    bits_stored: int = 16
    image_type: tuple[str, ...] = ()
    kvp: float | None = None
    convolution_kernel: str = ""
    body_part_examined: str = ""
    corrected_image: tuple[str, ...] = ()
    units: str = ""
    attenuation_correction_method: str = ""
    radiopharmaceutical: str = ""
    frame_duration_s: float | None = None
    suv_bw_factor: float | None = None
    """SUVbw per Bq/ml, when the headers allow it to be known."""
    metal_artifact_reduction: str = ""
    """The header's words that say metal artifacts were reduced already; empty when nothing says so."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A regular stack of slices.

    values: (slices, rows, columns) float32 in `unit`; slice 0 first along the stack normal.
    outside: (slices, rows, columns) bool, True where the voxel holds padding or lies outside the
        reconstructed field of view; None when the headers name no padding.
    """

    values: NDArray[np.float32]
    unit: Unit
    geometry: Geometry
    acquisition: Acquisition
    outside: NDArray[np.bool_] | None = field(default=None)

    def with_values(self, values: NDArray[np.float32], unit: Unit | None = None) -> Volume:
        """The same place and acquisition with other values, and another unit when one is given."""
        return replace(self, values=values, unit=unit or self.unit)
