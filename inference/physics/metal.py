"""Finds metal in a reconstructed CT series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, label

THRESHOLD_12_BIT_HU = 3000.0
THRESHOLD_16_BIT_HU = 4000.0
LOWEST_SATURATION_HU = 2400.0
"""Numbers that pile up below this level are not metal cut off by the number range."""
PILE_VOXELS = 12
PILE_DEPTH_HU = 60.0
EDGE_SHARE = 0.75
SMALL_PART_PIXELS = 40
SMALL_PART_MARGIN = 4
FEWEST_VOXELS = 3


def metal_threshold_hu(values_hu: NDArray[np.float32], *, bits_stored: int) -> float:
    """The HU from which a voxel is metal.

    3000 where 12 bits are stored and 4000 otherwise; lower where the series ends earlier in a pile of equal numbers,
    for scanners cut metal off at the end of their numbers (2976 HU on some Philips, 3071 HU in 16 bits on some GE).
    """
    usual = THRESHOLD_12_BIT_HU if bits_stored <= 12 else THRESHOLD_16_BIT_HU
    highest = float(values_hu.max())
    if highest >= usual + PILE_DEPTH_HU or highest < LOWEST_SATURATION_HU:
        return usual
    at_end = int((values_hu >= highest - 1).sum())
    just_below = int((values_hu >= highest - PILE_DEPTH_HU).sum()) - at_end
    if at_end >= PILE_VOXELS and at_end > just_below:
        return min(usual, highest - 1)
    return usual


def find_metal(values_hu: NDArray[np.float32], threshold_hu: float) -> NDArray[np.bool_]:
    """The voxels that hold metal, (slices, rows, columns) bool.

    Voxels above the threshold and those beside them that are nearly so. Parts connected in three dimensions of fewer
    than 3 voxels are noise; small parts, whose peak the reconstruction blurs, reach down to half of their height.
    """
    seeds = values_hu >= threshold_hu
    metal = np.zeros(values_hu.shape, bool)
    box = _bounding_box(seeds, margin=SMALL_PART_MARGIN + 2)
    if box is None:
        return metal
    inner, values = metal[box], values_hu[box]
    everywhere = np.ones((3, 3, 3), bool)
    edge = binary_dilation(seeds[box], structure=everywhere) & (values >= EDGE_SHARE * threshold_hu)
    labels, _ = label(seeds[box] | edge, structure=everywhere)
    for number, place in enumerate(find_objects(labels), start=1):
        part = labels[place] == number
        if part.sum() < FEWEST_VOXELS:
            continue
        inner[place] |= part
        if part.sum(axis=(1, 2)).max() < SMALL_PART_PIXELS:
            wider = tuple(
                slice(max(0, axis.start - margin), axis.stop + margin)
                for axis, margin in zip(place, (0, SMALL_PART_MARGIN, SMALL_PART_MARGIN), strict=True)
            )
            inner[wider] |= _half_height(values[wider], labels[wider] == number)
    return metal


def without_specks(metal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(slices, rows, columns) bool without the parts connected in three dimensions of fewer than 3 voxels."""
    kept = np.zeros_like(metal)
    box = _bounding_box(metal, margin=0)
    if box is None:
        return kept
    labels, _ = label(metal[box], structure=np.ones((3, 3, 3), bool))
    large = np.bincount(labels[metal[box]]) >= FEWEST_VOXELS
    kept[box] = large[labels]
    return kept


def _half_height(values: NDArray[np.float32], part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part grown to where it falls below the middle between its peak and its surroundings."""
    near = binary_dilation(part, structure=np.ones((1, 3, 3), bool), iterations=2)
    around = values[~near]
    if around.size == 0:
        return part
    half = (float(values[part].max()) + float(np.median(around))) / 2
    grown: NDArray[np.bool_] = part | (near & (values >= half))
    return grown


def touches(metal: NDArray[np.bool_], unseen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(slices,) True where metal lies in or beside what was not seen, or at the edge of the matrix."""
    blocked = np.broadcast_to(unseen, metal.shape)
    result = np.zeros(len(metal), bool)
    for index in np.flatnonzero(metal.any(axis=(1, 2))):
        framed = np.pad(blocked[index], 1, constant_values=True)
        around = binary_dilation(framed, structure=np.ones((3, 3), bool))[1:-1, 1:-1]
        result[index] = bool((metal[index] & around).any())
    return result


def _bounding_box(mask: NDArray[np.bool_], *, margin: int) -> tuple[slice, ...] | None:
    """The box round the True voxels, wider by the margin in the plane and by one slice."""
    box = []
    for axis, size in enumerate(mask.shape):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(hit):
            return None
        extra = 1 if axis == 0 else margin
        box.append(slice(max(0, int(hit[0]) - extra), min(size, int(hit[-1]) + 1 + extra)))
    return tuple(box)
