"""Metal artifact reduction in reconstructed slices by a virtual scan (interpolation, NMAR), and streak strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, gaussian_filter

from inference.physics.projection import FanGeometry, covering_fan, fan_beam_projector
from inference.physics.sinogram_inpainting import interpolated, normalised, with_measured_detail

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]
_Value = TypeVar("_Value", bound=np.generic)

LARGEST_GRID = 640
"""Pixels along one side above which the correction is computed on a coarser grid, for the tables grow with them."""
AIR_HU = -1000.0
SHORTEST_PATH = 0.05
RIM_PIXELS = 6.0
SOFT_TISSUE_HU = (-300.0, 200.0)
PRIOR_FINE_MM = 1.6
PRIOR_COARSE_MM = 6.4
LEAST_TISSUE = 0.05
"""Share of soft tissue round a voxel from which its mean says something."""
PRIOR_ERROR_MM = 3.5
"""What a line integral of the prior is wrong by, in mm of water; measured on simulated metal in held-out bodies."""
STREAK_REACH_PIXELS = 100
FEWEST_STREAK_PIXELS = 200
FEWEST_TRACE_CELLS = 200
"""Cells of a moved trace in the body from which its mean square is taken; traces have ten thousand and more."""
LEAST_BODY_MM = 5.0
"""Line integrals of the prior below it, in mm of water, are the body's rim."""


def virtual_fan(size: int) -> FanGeometry:
    """The fan in which slices are scanned again; it need not be the scanner's."""
    return covering_fan(size, source_distance=1.25 * size, cells_per_pixel=1.0, views_per_pixel=1.9)


def seen_circle(shape: tuple[int, int]) -> Mask:
    """(rows, columns) True where the virtual scan sees: the circle inscribed in the square that holds the slice."""
    rows, columns = shape
    y, x = np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
    seen: Mask = y[:, None] ** 2 + x**2 <= (max(rows, columns) / 2) ** 2
    return seen


def reduce_by_interpolation(images_hu: Images, metal: Mask, *, spacing_mm: float) -> Images:
    """(slices, rows, columns) HU with the metal trace interpolated linearly; the metal itself is not put back."""
    scan = VirtualScan(images_hu, metal, spacing_mm=spacing_mm)
    return scan.applied(scan.interpolation)


def reduce_by_prior(images_hu: Images, metal: Mask, *, spacing_mm: float) -> Images:
    """(slices, rows, columns) HU with the metal trace made by NMAR; the metal itself is not put back."""
    scan = VirtualScan(images_hu, metal, spacing_mm=spacing_mm)
    return scan.applied(scan.inpainted(scan.smooth_prior()))


class VirtualScan:
    """Slices scanned again, in a fan that need not be the scanner's, with the trace that their metal leaves there.

    images_hu: (slices, rows, columns) HU; metal: the same shape. `images` and `metal` are these on the square grid that
    holds them, (slices, size, size), coarser where the matrix is large; `spacing_mm` is that grid's.
    """

    def __init__(self, images_hu: Images, metal: Mask, *, spacing_mm: float) -> None:
        self._whole = images_hu
        rows, columns = images_hu.shape[1:]
        self._factor = math.ceil(max(rows, columns) / LARGEST_GRID)
        self._size = math.ceil(max(rows, columns) / self._factor) * self._factor
        self.images = self._gridded_hu(images_hu)
        self.metal: Mask = self._gridded(metal, False, lambda blocks: np.asarray(blocks.any(axis=(2, 4))))
        self.spacing_mm = spacing_mm * self._factor
        self._projector = fan_beam_projector(virtual_fan(self._size // self._factor))
        self._path = self._projector.forward(torch.from_numpy(self.metal.astype(np.float32)))
        self._trace = self._path > SHORTEST_PATH
        self._scanned = self._projector.forward(_attenuation(self.images))

    @cached_property
    def interpolation(self) -> Images:
        """(slices, size, size) HU, what linear interpolation of the trace changes."""
        return self._change_hu(interpolated(self._scanned, self._trace))

    def smooth_prior(self) -> Images:
        """(slices, size, size) HU, the prior of NMAR: the interpolated slices without what streaks they have."""
        return prior_image(self.images + self.interpolation, self.metal, spacing_mm=self.spacing_mm)

    def inpainted(self, prior_hu: Images) -> Images:
        """(slices, size, size) HU, what changes when the trace is made as the prior says (NMAR, Meyer et al. 2010)."""
        filled = normalised(self._scanned, self._projector.forward(_attenuation(prior_hu)), self._trace)
        trust = PRIOR_ERROR_MM / self.spacing_mm
        return self._change_hu(with_measured_detail(filled, self._scanned, self._path, self._trace, trust=trust))

    def share_in_trace(self, corrected_hu: Images) -> NDArray[np.float64]:
        """(slices,) What a correction changed in the metal's trace, over what inpainting gets wrong in such a trace.

        corrected_hu: (slices, rows, columns). Both are root mean squares of line integrals: of the change outside the
        metal and two pixels round it, whichever its sign (whether it did good the streaks must say), and of NMAR's
        error in the same trace moved to either side, mean of the places. Moved far, a wide trace comes to lie at the
        body's rim, where NMAR errs more: more is asked of wide metal. Infinite where no moved trace has room.
        """
        corrected = self._gridded_hu(corrected_hu)
        edges = np.stack([binary_dilation(metal, iterations=2) for metal in self.metal])
        change = np.where(edges, 0, self.images - corrected).astype(np.float32)
        taken = self._projector.forward(torch.from_numpy(change).mul_(0.001))
        prior = self._projector.forward(_attenuation(self.smooth_prior()))
        filled = normalised(self._scanned, prior, self._trace)
        shares = np.full(len(change), np.inf)
        for index, trace in enumerate(self._trace):
            if not trace.any():
                continue
            wrong = [
                _root_mean_square(error)
                for error in _errors_beside(filled[index], prior[index], trace, LEAST_BODY_MM / self.spacing_mm)
            ]
            if wrong:
                shares[index] = _root_mean_square(taken[index][trace]) / max(float(np.mean(wrong)), 1e-9)
        return shares

    def applied(self, change_hu: Images) -> Images:
        """(slices, rows, columns) HU, the slices with that change, which fades out at the rim of the circle seen."""
        small = self._size // self._factor
        if self._factor > 1:
            # what changes in the metal and at its edge, thousands of HU, must not be spread into the tissue that
            # may share a coarse pixel with it
            edges = (binary_dilation(metal) for metal in self.metal)
            change_hu = np.stack([_from_nearest(*pair) for pair in zip(change_hu, edges, strict=True)])
        change = torch.from_numpy(change_hu * _fade(small))
        if self._factor > 1:
            size = (self._size, self._size)
            change = torch.nn.functional.interpolate(change[:, None], size=size, mode="bilinear", align_corners=False)
            change = change[:, 0]
        top, left, rows, columns = self._place()
        result: Images = self._whole + change.numpy()[:, top : top + rows, left : left + columns]
        return result

    def _change_hu(self, sinograms: torch.Tensor) -> Images:
        images: Images = self._projector.filtered_backprojection(sinograms - self._scanned).mul_(1000).numpy()
        return images

    def _gridded_hu(self, images_hu: Images) -> Images:
        return self._gridded(images_hu, AIR_HU, lambda blocks: blocks.mean(axis=(2, 4), dtype=np.float32))

    def _gridded(
        self, values: NDArray[_Value], outside: float, joined: Callable[[NDArray[_Value]], NDArray[_Value]]
    ) -> NDArray[_Value]:
        top, left, rows, columns = self._place()
        square = np.full((len(values), self._size, self._size), outside, values.dtype)
        square[:, top : top + rows, left : left + columns] = values
        if self._factor == 1:
            return square
        small = self._size // self._factor
        return joined(square.reshape((len(values), small, self._factor, small, self._factor)))

    def _place(self) -> tuple[int, int, int, int]:
        rows, columns = self._whole.shape[1:]
        return (self._size - rows) // 2, (self._size - columns) // 2, rows, columns


def prior_image(images_hu: Images, metal: Mask, *, spacing_mm: float, smoothing_mm: float = PRIOR_COARSE_MM) -> Images:
    """(slices, rows, columns) HU, the slices without streaks: bone as it is, the rest smoothed, metal filled.

    images_hu, metal: (slices, rows, columns). smoothing_mm: standard deviation in soft tissue; air is always smoothed
    by PRIOR_FINE_MM. Metal gets the level of the soft tissue near it, or of what else is there.
    """
    prior = np.empty_like(images_hu)
    low, high = SOFT_TISSUE_HU
    fine, coarse = PRIOR_FINE_MM / spacing_mm, smoothing_mm / spacing_mm
    for index, image in enumerate(images_hu):
        smooth = gaussian_filter(image, fine)
        soft = (smooth > low) & (smooth < high)
        weight = gaussian_filter(soft.astype(np.float32), coarse)
        tissue = gaussian_filter(np.where(soft, image, 0), coarse) / np.maximum(weight, 1e-3)
        prior[index] = np.where(soft, tissue, np.where(smooth >= high, image, smooth))
        around = _shell(metal[index], nearest=1, farthest=8)
        near_tissue = around & (weight > LEAST_TISSUE)
        level, seen = (tissue, near_tissue) if near_tissue.any() else (smooth, around)
        prior[index][metal[index]] = np.median(level[seen]) if seen.any() else 0.0
    return prior


def streak_hu(before_hu: Images, after_hu: Images, metal: Mask) -> tuple[float, float] | None:
    """Root mean square step between neighbouring pixels in soft tissue near the metal of a slice, HU, before and after.

    Streaks are steps where there is no anatomy, so what rises has got worse; squared, for noise is in every step and
    streaks make the large ones. None where too little tissue is near.
    """
    smooth = gaussian_filter(after_hu, 2.0)
    body = binary_erosion(smooth > SOFT_TISSUE_HU[0], iterations=3)
    near = _shell(metal, nearest=2, farthest=STREAK_REACH_PIXELS)
    judged = body & near & (np.abs(smooth) < SOFT_TISSUE_HU[1])
    if judged.sum() < FEWEST_STREAK_PIXELS:
        return None
    before, after = (
        float(np.sqrt(np.square(np.gradient(np.clip(image, -300, 300))).sum(axis=0)[judged].mean()))
        for image in (before_hu, after_hu)
    )
    return before, after


def _errors_beside(
    filled: torch.Tensor, prior: torch.Tensor, trace: torch.Tensor, least_body: float
) -> Iterator[torch.Tensor]:
    """What NMAR gets wrong of a sinogram without metal, in its trace moved to either side by one and two widths.

    filled, prior, trace: (views, cells). least_body: line integrals of the prior below it are not looked at. Some
    cells more than the widths keep the moved trace, in most views, off the cells that are filled themselves.
    """
    widths = trace.sum(dim=1)
    width = int(widths[widths > 0].median())
    for cells in (-2 * width - 8, -width - 6, width + 6, 2 * width + 8):
        moved = torch.roll(trace, cells, dims=1)
        moved[:, slice(0, cells) if cells > 0 else slice(cells, None)] = False
        looked_at = moved & ~trace & (prior > least_body)
        if int(looked_at.sum()) >= FEWEST_TRACE_CELLS:
            again = normalised(filled[None], prior[None], moved[None])[0]
            yield (filled - again)[looked_at]


def _root_mean_square(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def _from_nearest(values: Images, left_out: Mask) -> Images:
    """(rows, columns), what is left out taken from the nearest pixel that is not."""
    if not left_out.any() or left_out.all():
        return values
    rows, columns = distance_transform_edt(left_out, return_distances=False, return_indices=True)
    return np.asarray(values[rows, columns])


def _attenuation(images_hu: Images) -> torch.Tensor:
    """Attenuation relative to water."""
    return torch.from_numpy(np.maximum(images_hu * np.float32(0.001) + 1, 0).astype(np.float32))


def _fade(size: int) -> Images:
    """(size, size) one inside the circle, falling to zero at its rim."""
    centred = np.arange(size) - (size - 1) / 2
    to_rim = size / 2 - np.hypot(centred[:, None], centred)
    return np.asarray(np.clip(to_rim / RIM_PIXELS, 0, 1), np.float32)


def _shell(metal: Mask, *, nearest: float, farthest: float) -> Mask:
    if not metal.any():
        return np.zeros_like(metal)
    distance = np.asarray(distance_transform_edt(~metal))
    return np.asarray((distance > nearest) & (distance < farthest), bool)
