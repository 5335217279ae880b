"""How noisy an image is, place by place, estimated from the image itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

_MAD_TO_DEVIATION = 1.4826
_FLAT_SHARE = 0.5


def noise_map(
    values: NDArray[np.float32], region: NDArray[np.bool_], *, texture_pixels: float = 3.0, reach_pixels: float = 30.0
) -> NDArray[np.float32]:
    """Standard deviation of the noise at every voxel, (slices, rows, columns), in the unit of `values`.

    values: (slices, rows, columns) float32; region: where to look, the body. Each slice is taken alone. The image less
    its own blur of `texture_pixels` is noise plus edges; its absolute value, cut at three times the median, is averaged
    within `reach_pixels` over the flatter half of the region. Fine anatomy counts as noise, and noise coarser than
    `texture_pixels` is not seen: a smooth kernel makes the figure too small.
    Where the region is empty the map is 0.
    """
    return np.stack(
        [_slice_noise(cut, mask, texture_pixels, reach_pixels) for cut, mask in zip(values, region, strict=True)]
    )


def noise_level(values: NDArray[np.float32], region: NDArray[np.bool_], *, texture_pixels: float = 3.0) -> float:
    """One number for the whole stack: the median of the noise map within the region; 0 where the region is empty."""
    if not region.any():
        return 0.0
    return float(np.median(noise_map(values, region, texture_pixels=texture_pixels)[region]))


def _slice_noise(
    cut: NDArray[np.float32], region: NDArray[np.bool_], texture_pixels: float, reach_pixels: float
) -> NDArray[np.float32]:
    if not region.any():
        return np.zeros_like(cut)
    weight = region.astype(np.float32)
    # outside the region the blur must not see the step to air
    blurred = _mean_within(cut, weight, texture_pixels)
    slope = gaussian_gradient_magnitude(np.where(region, cut, blurred), 2 * texture_pixels)
    flat = region & (slope <= np.quantile(slope[region], _FLAT_SHARE))
    detail = np.abs(cut - blurred)
    cap = 3 * float(np.median(detail[flat]))
    level = _mean_within(np.minimum(detail, cap), flat.astype(np.float32), reach_pixels)
    # a normal variable's mean |x| is 0.798 deviations; the cut at three medians (2.02 deviations) takes 0.017
    spread = _MAD_TO_DEVIATION * float(np.median(detail[flat]))
    fallback = np.float32(spread)
    reached = gaussian_filter(flat.astype(np.float32), reach_pixels) > 1e-3
    return np.where(reached, level / np.float32(0.781), fallback).astype(np.float32)


def _mean_within(values: NDArray[np.float32], weight: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    total = gaussian_filter(weight, sigma)
    return (gaussian_filter(values * weight, sigma) / np.maximum(total, 1e-6)).astype(np.float32)
