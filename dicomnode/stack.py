"""Slices with positions as one regular stack, or the reason why they are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import SeriesUnusable

SAME_POSITION_MM = 0.01
LARGEST_TILT_DEG = 0.05
SMALLEST_SHEAR_MM = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """order: index of the given slice for each slice k of the volume, along the normal.

    positions_mm: of the ordered slices along the normal. affine: (4, 4) float64, (k, j, i, 1) -> LPS mm.
    """

    order: tuple[int, ...]
    positions_mm: tuple[float, ...]
    affine: NDArray[np.float64]


def regular_stack(
    corners_mm: NDArray[np.float64],
    orientation: tuple[float, ...],
    *,
    pixel_spacing_mm: tuple[float, float],
    slice_thickness_mm: float | None,
) -> Stack:
    """The stack of slices whose first voxels lie at `corners_mm` (slices, 3); refused where it is not regular.

    A slice may be off the even grid by 1 % of the distance between slices, or by 0.1 mm where that is at most a tenth
    of it: positions are written with few decimals, and a slice off by more would be taken for one that it is not.
    """
    row, column, normal = _axes(orientation)
    along = corners_mm @ normal
    order = np.argsort(along, kind="stable")
    along, corners = along[order], corners_mm[order]
    step = _step(along, corners, normal, slice_thickness_mm)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = step, corners[0]
    affine[:3, 1], affine[:3, 2] = column * pixel_spacing_mm[0], row * pixel_spacing_mm[1]
    return Stack(tuple(int(index) for index in order), tuple(float(value) for value in along), affine)


def _axes(
    orientation: tuple[float, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    row, column = np.asarray(orientation[:3], np.float64), np.asarray(orientation[3:], np.float64)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(row @ column) > 1e-3:
        raise SeriesUnusable(
            "orientation-invalid",
            "ImageOrientationPatient is not two perpendicular unit vectors; have the sender corrected",
        )
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _step(
    along: NDArray[np.float64], corners: NDArray[np.float64], normal: NDArray[np.float64], thickness: float | None
) -> NDArray[np.float64]:
    """From one slice to the next, mm."""
    count = len(along)
    if count == 1:
        if not thickness or thickness <= 0:
            raise SeriesUnusable(
                "slice-thickness-missing",
                "the series is a single slice without SliceThickness; its voxels have no known size",
            )
        return normal * thickness
    gaps = np.diff(along)
    if gaps.min() < SAME_POSITION_MM:
        raise SeriesUnusable(
            "same-position",
            f"{int((gaps < SAME_POSITION_MM).sum()) + 1} or more images share a position (a dynamic series, several "
            "echoes, or a reconstruction sent twice); send each as a series of its own",
        )
    step: NDArray[np.float64] = (corners[-1] - corners[0]) / (count - 1)
    spacing = float(step @ normal)
    allowed = max(0.01 * spacing, min(0.1, 0.1 * spacing))
    off = corners - (corners[0] + np.arange(count)[:, None] * step)
    if np.abs(off @ normal).max() > allowed:
        _refuse_uneven(gaps, allowed)
    in_plane = (corners[-1] - corners[0]) - (corners[-1] - corners[0]) @ normal * normal
    shear = float(np.linalg.norm(in_plane))
    tilt = float(np.degrees(np.arctan2(shear, abs(along[-1] - along[0]))))
    if tilt > LARGEST_TILT_DEG and shear > SMALLEST_SHEAR_MM:
        raise SeriesUnusable(
            "gantry-tilt",
            f"the slices are stacked {tilt:.2f} degrees off their normal (gantry tilt); resample the series first, "
            "or scan without tilt",
        )
    if np.linalg.norm(off, axis=1).max() > max(allowed, SAME_POSITION_MM):
        raise SeriesUnusable(
            "positions-not-on-a-line", "the slices are shifted against each other in their plane; send them apart"
        )
    return step


def _refuse_uneven(gaps: NDArray[np.float64], allowed: float) -> None:
    usual = float(np.median(gaps))
    missing = np.rint(gaps / usual) - 1
    if missing.sum() >= 1 and np.abs(gaps - (missing + 1) * usual).max() <= 2 * allowed:
        raise SeriesUnusable(
            "slices-missing",
            f"{int(missing.sum())} slice(s) are missing inside the series (slices lie {usual:.3g} mm apart); "
            "send the whole series again",
        )
    raise SeriesUnusable(
        "spacing-not-uniform",
        f"the distance between slices varies from {gaps.min():.4g} to {gaps.max():.4g} mm; "
        "send each evenly spaced part as a series of its own",
    )
