"""Faint lesions in the tissue round metal, that a network must not take for streaks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from inference.training.implants import BODY_HU, Canvas

MOST_LESIONS = 6
FALL_OFF_MM = 12.0
"""Of the places drawn: so much further from metal, lesions are a third as frequent."""
CONTRAST_HU = (10.0, 60.0)
HALF_AXES_MM = (2.0, 10.0)


def faint_lesions(
    clean_hu: NDArray[np.float32],
    metal_share: NDArray[np.float32],
    *,
    spacing_mm: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """(rows, columns) HU to add to one slice: ellipses a little brighter or darker than the tissue, most near metal.

    clean_hu: (rows, columns) HU. metal_share: the same shape, each voxel's share of metal.
    """
    lesions = np.zeros_like(clean_hu)
    metal = metal_share > 0
    places = np.argwhere((clean_hu > BODY_HU) & ~metal)
    if not len(places) or not metal.any():
        return lesions
    off_metal_mm = np.asarray(distance_transform_edt(~metal))[tuple(places.T)] * spacing_mm
    chances = np.exp(-off_metal_mm / FALL_OFF_MM) + 1e-6
    for _ in range(int(random.integers(1, MOST_LESIONS + 1))):
        at = places[random.choice(len(places), p=chances / chances.sum())].astype(np.float64)
        canvas = Canvas((clean_hu.shape[0], clean_hu.shape[1]), spacing_mm)
        along = float(np.exp(random.uniform(*np.log(HALF_AXES_MM))))
        across = along * float(random.uniform(0.6, 1))
        canvas.ellipse(at, along_mm=along, across_mm=across, angle=float(random.uniform(0, np.pi)))
        contrast = float(np.exp(random.uniform(*np.log(CONTRAST_HU)))) * float(random.choice([-1, 1]))
        lesions = np.where(canvas.share > 0, np.float32(contrast) * canvas.share, lesions)
    return np.asarray(lesions, np.float32)
