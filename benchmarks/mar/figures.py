"""What a corrected slice is judged by: the figures of one scene.

PSNR and SSIM: HU clipped to [-1000, 1604] (0 to 0.5 per cm, as published), metal set to the lowest value in both
images, a range of 2604 HU; SSIM with Gaussian weights of 1.5 pixels (Wang et al. 2004). All else leaves out metal, true
and found, and is in HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter
from skimage.metrics import structural_similarity

from benchmarks.mar.scenes import LESION_HU, SOFT_HU, Scene, body_of

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

LOWEST_HU, HIGHEST_HU = -1000.0, 1604.0
RANGE_HU = HIGHEST_HU - LOWEST_HU
FAR_PIXELS = 60
SHELL_MM = (1.0, 5.0)
STREAK_PIXELS = (2.0, 100.0)
RING_MM = (2.0, 5.0)
"""From the lesion's edge."""
NO_CONTRAST = float("nan")
FEWEST_PIXELS = 20
"""A median or mean over fewer pixels is not given."""


@dataclass(frozen=True, slots=True, eq=False)
class Zones:
    """Where each figure of a scene is taken; all (rows, columns) bool and, but for left_out, without metal.

    far: in the body and further than FAR_PIXELS from metal. shell: SHELL_MM from the metal. streaks: soft tissue within
    STREAK_PIXELS of it. discs, rings: each lesion without its edge, and round it.
    """

    left_out: Mask
    body: Mask
    far: Mask
    shell: Mask
    streaks: Mask
    discs: tuple[Mask, ...]
    rings: tuple[Mask, ...]


def zones_of(scene: Scene, found: Mask) -> Zones:
    """The zones of a scene in which that metal was found."""
    left_out = scene.metal | found
    body = body_of(scene.clean) & ~left_out
    pixels = _distance(left_out)
    off_metal_mm = _distance(scene.metal) * scene.spacing_mm
    smooth = gaussian_filter(scene.clean, 2.0)
    soft = binary_erosion((smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]), iterations=3)
    return Zones(
        left_out=left_out,
        body=body,
        far=body & (pixels > FAR_PIXELS),
        shell=body & (off_metal_mm > SHELL_MM[0]) & (off_metal_mm <= SHELL_MM[1]),
        streaks=body & np.asarray(soft) & (pixels > STREAK_PIXELS[0]) & (pixels < STREAK_PIXELS[1]),
        discs=tuple((lesion == 1) & ~left_out for lesion in scene.lesions),
        rings=tuple(_round(lesion, scene.spacing_mm) & body for lesion in scene.lesions),
    )


def figures_of(image: Image, with_lesions: Image | None, scene: Scene, zones: Zones) -> dict[str, float]:
    """The figures of one result; NaN where a scene has no place for one. Gains are over the scene as it came."""
    kept = (NO_CONTRAST, NO_CONTRAST) if with_lesions is None else contrasts_kept(image, with_lesions, zones)
    return {
        "psnr_db": psnr_db(image, scene.clean, zones.left_out),
        "gain_db": psnr_db(image, scene.clean, zones.left_out) - psnr_db(scene.spoiled, scene.clean, zones.left_out),
        "body_gain_db": body_gain_db(image, scene, zones),
        "ssim": ssim(image, scene.clean, zones.left_out),
        "rmse_hu": root_mean_square(image - scene.clean, zones.body),
        "far_change_hu": _median(image - scene.spoiled, zones.far),
        "far_bias_hu": _median(image - scene.clean, zones.far),
        "shell_bias_hu": _mean(image - scene.clean, zones.shell),
        "streak_hu": root_mean_square(image - scene.clean, zones.streaks),
        "contrast_2_mm": kept[0],
        "contrast_15_mm": kept[1],
    }


def psnr_db(image: Image, clean: Image, left_out: Mask) -> float:
    """Peak signal-to-noise ratio over the whole slice; infinite for the truth itself."""
    error = _clipped(image, left_out) - _clipped(clean, left_out)
    mean_square = float(np.mean(error**2))
    return float("inf") if mean_square == 0 else float(20 * np.log10(RANGE_HU / np.sqrt(mean_square)))


def body_gain_db(image: Image, scene: Scene, zones: Zones) -> float:
    """By how much the root mean square error in the body fell; infinite for the truth itself."""
    before, after = (root_mean_square(values - scene.clean, zones.body) for values in (scene.spoiled, image))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(20 * (np.log10(before) - np.log10(after)))


def ssim(image: Image, clean: Image, left_out: Mask) -> float:
    """Structural similarity over the whole slice."""
    pair = (_clipped(image, left_out), _clipped(clean, left_out))
    return float(
        structural_similarity(*pair, data_range=RANGE_HU, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


def contrasts_kept(image: Image, with_lesions: Image, zones: Zones) -> tuple[float, ...]:
    """Share of each lesion's contrast that is left, by the difference between the results with lesions and without."""
    difference = with_lesions - image
    return tuple(
        (_mean(difference, disc) - _mean(difference, ring)) / LESION_HU
        for disc, ring in zip(zones.discs, zones.rings, strict=True)
    )


def root_mean_square(values: Image, where: Mask) -> float:
    """Of those pixels; NaN where there are too few."""
    return float(np.sqrt(_mean(values.astype(np.float64) ** 2, where)))


def _clipped(image: Image, left_out: Mask) -> NDArray[np.float64]:
    return np.where(left_out, LOWEST_HU, np.clip(image.astype(np.float64), LOWEST_HU, HIGHEST_HU))


def _round(lesion: Image, spacing_mm: float) -> Mask:
    off_mm = _distance(lesion > 0.5) * spacing_mm
    return np.asarray((lesion == 0) & (off_mm > RING_MM[0]) & (off_mm <= RING_MM[1]))


def _distance(mask: Mask) -> NDArray[np.float64]:
    """Pixels to the nearest that is True; infinite where none is."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(distance_transform_edt(~mask))


def _mean(values: NDArray[np.floating], where: Mask) -> float:
    return float(values[where].mean(dtype=np.float64)) if where.sum() >= FEWEST_PIXELS else float("nan")


def _median(values: Image, where: Mask) -> float:
    return float(np.median(values[where])) if where.sum() >= FEWEST_PIXELS else float("nan")
