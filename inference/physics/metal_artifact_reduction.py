"""Metal artifact reduction in reconstructed slices by a virtual scan (interpolation, NMAR), and streak strength."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from inference.physics.projection import FanBeamProjector, FanGeometry, covering_fan, fan_beam_projector
from inference.physics.sinogram_inpainting import interpolated, normalised, with_measured_detail

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]

LARGEST_GRID = 640
"""Pixels along one side above which the correction is computed on a coarser grid, for the tables grow with them."""
AIR_HU = -1000.0
SHORTEST_PATH = 0.05
RIM_PIXELS = 6.0
SOFT_TISSUE_HU = (-300.0, 200.0)
PRIOR_FINE_MM = 1.6
PRIOR_COARSE_MM = 6.4
PRIOR_ERROR_MM = 3.5
"""What a line integral of the prior is wrong by, in mm of water; measured on simulated metal in held-out bodies."""
STREAK_REACH_PIXELS = 100
FEWEST_STREAK_PIXELS = 200
LEAST_STREAK_DROP = 0.03
"""Share by which streaks must fall for a correction to stand: none of 165 simulated scenes that got worse passed it."""


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
    del spacing_mm
    return _corrected(images_hu, metal, lambda projector, images, mask: _interpolation(projector, images, mask)[0])


def reduce_by_prior(images_hu: Images, metal: Mask, *, spacing_mm: float) -> Images:
    """(slices, rows, columns) HU with the metal trace made by NMAR; the metal itself is not put back."""

    def difference(projector: FanBeamProjector, images: Images, mask: Mask) -> Images:
        pixel_mm = spacing_mm * max(images_hu.shape[1:]) / projector.geometry.size
        first, scanned, path, trace = _interpolation(projector, images, mask)
        prior = prior_image(images + first, mask, spacing_mm=pixel_mm)
        filled = normalised(scanned, projector.forward(_attenuation(prior)), trace)
        filled = with_measured_detail(filled, scanned, path, trace, trust=PRIOR_ERROR_MM / pixel_mm)
        return _difference_hu(projector, filled - scanned)

    return _corrected(images_hu, metal, difference)


def prior_image(images_hu: Images, metal: Mask, *, spacing_mm: float) -> Images:
    """The slices without streaks: bone as it is, air and soft tissue smoothed, metal filled from around it."""
    prior = np.empty_like(images_hu)
    low, high = SOFT_TISSUE_HU
    fine, coarse = PRIOR_FINE_MM / spacing_mm, PRIOR_COARSE_MM / spacing_mm
    for index, image in enumerate(images_hu):
        smooth = gaussian_filter(image, fine)
        soft = (smooth > low) & (smooth < high)
        weight = gaussian_filter(soft.astype(np.float32), coarse)
        tissue = gaussian_filter(np.where(soft, image, 0), coarse) / np.maximum(weight, 1e-3)
        prior[index] = np.where(soft, tissue, np.where(smooth >= high, image, smooth))
        around = _shell(metal[index], nearest=1, farthest=8)
        prior[index][metal[index]] = np.median(tissue[around]) if around.any() else 0.0
    return prior


def streak_hu(before_hu: Images, after_hu: Images, metal: Mask) -> tuple[float, float] | None:
    """Mean step between neighbouring pixels in the soft tissue near the metal of one slice, HU, before and after.

    Streaks are steps where there is no anatomy, so what rises has got worse. None where too little tissue is near.
    """
    smooth = gaussian_filter(after_hu, 2.0)
    body = binary_erosion(smooth > SOFT_TISSUE_HU[0], iterations=3)
    near = _shell(metal, nearest=2, farthest=STREAK_REACH_PIXELS)
    judged = body & near & (np.abs(smooth) < SOFT_TISSUE_HU[1])
    if judged.sum() < FEWEST_STREAK_PIXELS:
        return None
    before, after = (
        float(np.hypot(*np.gradient(np.clip(image, -300, 300)))[judged].mean()) for image in (before_hu, after_hu)
    )
    return before, after


def _interpolation(
    projector: FanBeamProjector, images: Images, mask: Mask
) -> tuple[Images, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The correction in HU by linear interpolation, the scanned slices, the path through metal, and its trace."""
    path = projector.forward(torch.from_numpy(mask.astype(np.float32)))
    trace = path > SHORTEST_PATH
    scanned = projector.forward(_attenuation(images))
    return _difference_hu(projector, interpolated(scanned, trace) - scanned), scanned, path, trace


def _attenuation(images_hu: Images) -> torch.Tensor:
    """Attenuation relative to water."""
    return torch.from_numpy(np.maximum(images_hu * np.float32(0.001) + 1, 0).astype(np.float32))


def _difference_hu(projector: FanBeamProjector, sinograms: torch.Tensor) -> Images:
    images: Images = projector.filtered_backprojection(sinograms).mul_(1000).numpy()
    return images


def _corrected(
    images_hu: Images, metal: Mask, difference: Callable[[FanBeamProjector, Images, Mask], Images]
) -> Images:
    """images + difference, computed on the square grid that holds them and faded out at the rim of the circle."""
    slices, rows, columns = images_hu.shape
    factor = math.ceil(max(rows, columns) / LARGEST_GRID)
    size = math.ceil(max(rows, columns) / factor) * factor
    top, left = (size - rows) // 2, (size - columns) // 2
    square = np.full((slices, size, size), AIR_HU, np.float32)
    square[:, top : top + rows, left : left + columns] = images_hu
    mask: Mask = np.zeros(square.shape, bool)
    mask[:, top : top + rows, left : left + columns] = metal
    small = size // factor
    if factor > 1:
        blocks = (slices, small, factor, small, factor)
        square = square.reshape(blocks).mean(axis=(2, 4), dtype=np.float32)
        mask = np.asarray(mask.reshape(blocks).any(axis=(2, 4)))
    change = torch.from_numpy(difference(fan_beam_projector(virtual_fan(small)), square, mask) * _fade(small))
    if factor > 1:
        change = torch.nn.functional.interpolate(
            change[:, None], size=(size, size), mode="bilinear", align_corners=False
        )[:, 0]
    corrected: Images = images_hu + change.numpy()[:, top : top + rows, left : left + columns]
    return corrected


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
