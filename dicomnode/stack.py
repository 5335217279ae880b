"""Slices with positions as one regular stack, or the reason why they are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import SeriesUnusable

SAME_POSITION_MM = 0.01
LARGEST_TILT_DEG = 0.05
SMALLEST_SHEAR_MM = 0.01
STEEPEST_TILT_DEG = 45.0
"""No gantry tilts further (30 degrees at most): what lies further off the normal is no stack of slices."""
UNEVEN = frozenset({"slices-missing", "spacing-not-uniform"})
"""The reason codes of a series that may be run part by part."""
THICKNESS_SHARE = 0.02
"""Slices whose thickness differs from their distance by less are taken to touch (I8)."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """order: index of the given slice for each slice k of the volume, along the normal.

    positions_mm: of the ordered slices along the normal. affine: (4, 4) float64, (k, j, i, 1) -> LPS mm.
    corners_mm: (slices, 3) float64, LPS mm of the first voxels of the ordered slices, where the affine does not give
        them (uneven or tilted); else None.
    notes: sentences for the audit on gaps, overlap and tilt.
    """

    order: tuple[int, ...]
    positions_mm: tuple[float, ...]
    affine: NDArray[np.float64]
    corners_mm: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()


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
    order, along, corners = _ordered(corners_mm, normal)
    step = _step(along, corners, normal, slice_thickness_mm)
    if fault := _unevenness(along, corners, normal):
        raise fault
    notes = _thickness_note(along, slice_thickness_mm)
    return Stack(order, tuple(map(float, along)), _affine(step, row, column, corners[0], pixel_spacing_mm), None, notes)


def stack_in_place(
    corners_mm: NDArray[np.float64],
    orientation: tuple[float, ...],
    *,
    pixel_spacing_mm: tuple[float, float],
    slice_thickness_mm: float | None,
) -> Stack:
    """As `regular_stack`, but uneven or tilted slices are stacked too, each in its own place (I6, I7).

    The affine then has the mean step along the normal.
    """
    row, column, normal = _axes(orientation)
    order, along, corners = _ordered(corners_mm, normal)
    step = _step(along, corners, normal, slice_thickness_mm)
    notes = _thickness_note(along, slice_thickness_mm)
    if (fault := _unevenness(along, corners, normal)) is None:
        corners_kept = None
    else:
        if _tilt_deg(along, corners, normal) > STEEPEST_TILT_DEG:
            raise fault
        corners_kept, step = corners, float(along[-1] - along[0]) / (len(along) - 1) * normal
        told = str(fault).partition(";")[0]
        notes = (*notes, f"{told}: each slice was processed in its own place")
    affine = _affine(step, row, column, corners[0], pixel_spacing_mm)
    return Stack(order, tuple(map(float, along)), affine, corners_kept, notes)


def even_parts(corners_mm: NDArray[np.float64], orientation: tuple[float, ...]) -> list[list[int]]:
    """The indices of the given slices, parted where the distance between neighbours changes; each part in order (I6).

    Two slices make a part only when they lie as far apart as is usual in the series: the gap where slices are missing
    is never taken for a thick slice.
    """
    _, _, normal = _axes(orientation)
    order, along, corners = _ordered(corners_mm, normal)
    _step(along, corners, normal, 1.0)  # no two slices in one place
    gaps = np.diff(along)
    usual = _usual(gaps)
    parts, start = [], 0
    while start < len(along):
        end = start + 1
        begins = start < len(gaps) and (
            _alike(gaps[start], usual) or (start + 1 < len(gaps) and _alike(gaps[start], gaps[start + 1]))
        )
        while begins and end < len(along) and _is_even(along[start : end + 1]):
            end += 1
        parts.append([order[index] for index in range(start, end)])
        start = end
    return parts


def shares_position(corners_mm: NDArray[np.float64], orientation: tuple[float, ...]) -> bool:
    """Whether two of the slices lie in one place along the normal (I5)."""
    along = np.sort(corners_mm @ _axes(orientation)[2])
    return bool(len(along) > 1 and np.diff(along).min() < SAME_POSITION_MM)


def _ordered(
    corners_mm: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[tuple[int, ...], NDArray[np.float64], NDArray[np.float64]]:
    along = corners_mm @ normal
    order = np.argsort(along, kind="stable")
    return tuple(int(index) for index in order), along[order], corners_mm[order]


def _affine(
    step: NDArray[np.float64],
    row: NDArray[np.float64],
    column: NDArray[np.float64],
    corner: NDArray[np.float64],
    pixel_spacing_mm: tuple[float, float],
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = step, corner
    affine[:3, 1], affine[:3, 2] = column * pixel_spacing_mm[0], row * pixel_spacing_mm[1]
    return affine


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
    """From one slice to the next, mm, in the mean; refused where slices share a place or one alone has no depth."""
    count = len(along)
    if count == 1:
        if not thickness or thickness <= 0:
            raise SeriesUnusable(
                "slice-thickness-missing",
                "the series is a single slice without SliceThickness, so its depth is not known; send the whole series",
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
    return step


def _unevenness(
    along: NDArray[np.float64], corners: NDArray[np.float64], normal: NDArray[np.float64]
) -> SeriesUnusable | None:
    """Why one step does not lead from slice to slice; None when it does."""
    count = len(along)
    if count == 1:
        return None
    if not _is_even(along):
        return _gaps_fault(np.diff(along))
    tilt, shear = _tilt_deg(along, corners, normal), _shear_mm(corners, normal)
    if tilt > LARGEST_TILT_DEG and shear > SMALLEST_SHEAR_MM:
        return SeriesUnusable(
            "gantry-tilt",
            f"the slices are stacked {tilt:.2f} degrees off their normal (gantry tilt); resample the series first, "
            "or scan without tilt",
        )
    step = (corners[-1] - corners[0]) / (count - 1)
    off = corners - (corners[0] + np.arange(count)[:, None] * step)
    if np.linalg.norm(off, axis=1).max() > max(_tolerance(float(step @ normal)), SAME_POSITION_MM):
        return SeriesUnusable(
            "positions-not-on-a-line",
            "the slices are shifted against each other in their plane; send each part as its own series",
        )
    return None


def _tolerance(spacing_mm: float) -> float:
    return max(0.01 * spacing_mm, min(0.1, 0.1 * spacing_mm))


def _is_even(along: NDArray[np.float64]) -> bool:
    count = len(along)
    spacing = float(along[-1] - along[0]) / (count - 1)
    return float(np.abs(along - (along[0] + np.arange(count) * spacing)).max()) <= _tolerance(spacing)


def _alike(gap: float, other: float) -> bool:
    return abs(gap - other) <= 2 * _tolerance(min(gap, other))


def _usual(gaps: NDArray[np.float64]) -> float:
    """The distance that most neighbours have; the smallest such."""
    if not len(gaps):
        return 0.0
    ordered = np.sort(gaps)
    spread = np.array([2 * _tolerance(float(gap)) for gap in ordered])
    # how many of the sorted gaps lie within the tolerance of each
    alike = np.searchsorted(ordered, ordered + spread, "right") - np.searchsorted(ordered, ordered - spread, "left")
    return float(ordered[int(np.argmax(alike))])


def _shear_mm(corners: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    whole = corners[-1] - corners[0]
    return float(np.linalg.norm(whole - whole @ normal * normal))


def _tilt_deg(along: NDArray[np.float64], corners: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arctan2(_shear_mm(corners, normal), abs(along[-1] - along[0]))))


def _gaps_fault(gaps: NDArray[np.float64]) -> SeriesUnusable:
    usual = float(np.median(gaps))
    missing = np.rint(gaps / usual) - 1
    if missing.sum() >= 1 and np.abs(gaps - (missing + 1) * usual).max() <= 2 * _tolerance(float(gaps.mean())):
        return SeriesUnusable(
            "slices-missing",
            f"{int(missing.sum())} slice(s) are missing inside the series (slices lie {usual:.3g} mm apart); "
            "send the whole series again",
        )
    return SeriesUnusable(
        "spacing-not-uniform",
        f"the distance between slices varies from {gaps.min():.4g} to {gaps.max():.4g} mm; "
        "send each evenly spaced part as a series of its own",
    )


def _thickness_note(along: NDArray[np.float64], thickness: float | None) -> tuple[str, ...]:
    """A sentence where the slices overlap, or do not reach each other (I8)."""
    if len(along) < 2 or not thickness or thickness <= 0:
        return ()
    spacing = float(np.median(np.diff(along)))
    if abs(thickness - spacing) <= THICKNESS_SHARE * spacing:
        return ()
    how = "overlap" if thickness > spacing else "do not reach each other"
    return (f"slices of {thickness:.4g} mm lie {spacing:.4g} mm apart: they {how}",)
