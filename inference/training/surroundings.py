"""What lies round a body in the scanner: table, pad, clothes and cables, which a network must not take for streaks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from inference.physics.body import body_from_ct
from inference.physics.metal_artifact_reduction import AIR_HU, seen_circle

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

BODY_HU = -400.0
AIR_ABOVE_HU = 12.0
"""How far above -1000 HU a scanner's air may lie."""
WITH_TABLE, WITH_CLOTHES = 0.7, 0.7
"""Shares of the slices."""
MOST_LAYERS, MOST_CABLES = 3, 5
FOAM_HU = (-985.0, -860.0)
SHELL_HU = (-700.0, 100.0)
CLOTH_HU = (-950.0, -500.0)
CABLE_HU = (-500.0, 700.0)
"""Ranges of what foam, a table's shell, cloth and cables show, HU."""
CABLE_REACH_MM = 60.0


def with_surroundings(clean_hu: Image, *, spacing_mm: float, random: np.random.Generator) -> Image:
    """(rows, columns) HU of a slice without its surroundings -> the same with some drawn; the body stays as it is."""
    body = body_from_ct(clean_hu[None], threshold_hu=BODY_HU)[0]
    outside = ~body & (clean_hu < BODY_HU) & seen_circle((clean_hu.shape[0], clean_hu.shape[1]))
    if not body.any():
        return clean_hu
    off_body_mm = np.asarray(distance_transform_edt(~body), np.float32) * np.float32(spacing_mm)
    things = np.full_like(clean_hu, AIR_HU + random.uniform(0, AIR_ABOVE_HU))
    if random.random() < WITH_TABLE:
        things = np.maximum(things, _table(body, spacing_mm, random))
    if random.random() < WITH_CLOTHES:
        for _ in range(int(random.integers(1, MOST_LAYERS + 1))):
            things = np.maximum(things, _cloth(off_body_mm, spacing_mm, random))
    for _ in range(int(random.integers(0, MOST_CABLES + 1))):
        things = np.maximum(things, _cable(off_body_mm, spacing_mm, random))
    return np.where(outside, np.maximum(clean_hu, things), clean_hu).astype(np.float32)


def _table(body: Mask, spacing_mm: float, random: np.random.Generator) -> Image:
    """A hollow board under the body: two curved shells, foam between them and often a pad on top."""
    rows, columns = np.mgrid[: body.shape[0], : body.shape[1]].astype(np.float32) * np.float32(spacing_mm)
    places = np.argwhere(body) * spacing_mm
    lowest, middle = places[:, 0].max(), places[:, 1].mean() + random.normal(0, 30)
    across = np.abs(columns - middle)
    half_width = random.uniform(120, 280)
    pad = random.uniform(0, 30) if random.random() < 0.6 else 0.0
    # the middle hangs lowest; a head's holder is curved the most
    radius = float(np.exp(random.uniform(np.log(150), np.log(2500))))
    top = lowest - random.uniform(0, 15) + pad - np.minimum(across**2 / (2 * radius), 120)
    depth = random.uniform(8, 90) * np.sqrt(np.clip(1 - (across / half_width) ** 2, 0, 1))
    into = np.minimum(rows - top, top + depth - rows)
    thick, soft = random.uniform(0.8, 4), spacing_mm
    shell = _level(thick / 2 - np.abs(into), soft, random.uniform(*SHELL_HU))
    foam = _level(into, soft, random.uniform(*FOAM_HU))
    mattress = _level(np.minimum(rows - top + pad, top - rows), soft, random.uniform(*FOAM_HU))
    return np.where(across < half_width, np.maximum(np.maximum(shell, foam), mattress), np.float32(AIR_HU))


def _cloth(off_body_mm: Image, spacing_mm: float, random: np.random.Generator) -> Image:
    """A fold of cloth along part of the skin."""
    waves = _smooth_noise(off_body_mm.shape, random.uniform(8, 40) / spacing_mm, random)
    offset = random.uniform(0, 25) + waves * random.uniform(0.5, 10)
    thick = random.uniform(0.6, 5)
    layer = _level(thick / 2 - np.abs(off_body_mm - offset), spacing_mm, random.uniform(*CLOTH_HU))
    part = _smooth_noise(off_body_mm.shape, 60 / spacing_mm, random) > random.uniform(-1.5, 0.5)
    return np.where(part, layer, np.float32(AIR_HU))


def _cable(off_body_mm: Image, spacing_mm: float, random: np.random.Generator) -> Image:
    """A cable, or a tube with air in it, beside the body."""
    around = np.argwhere((off_body_mm > 2) & (off_body_mm < CABLE_REACH_MM))
    if not len(around):
        return np.full_like(off_body_mm, AIR_HU)
    at = around[random.integers(len(around))]
    rows, columns = np.indices(off_body_mm.shape, np.float32)
    from_middle = np.hypot(rows - at[0], columns - at[1]) * np.float32(spacing_mm)
    radius = float(np.exp(random.uniform(np.log(0.8), np.log(7))))
    inside = radius - from_middle
    if radius > 2 and random.random() < 0.5:
        inside = np.minimum(inside, from_middle - radius + random.uniform(0.7, 2))
    return _level(inside, spacing_mm, random.uniform(*CABLE_HU))


def _level(inside_mm: NDArray[np.floating], soft_mm: float, hu: float) -> Image:
    """Air outside, `hu` inside, an edge one pixel wide between."""
    share = np.clip(inside_mm / soft_mm + 0.5, 0, 1)
    return np.asarray(AIR_HU + share * (hu - AIR_HU), np.float32)


def _smooth_noise(shape: tuple[int, ...], pixels: float, random: np.random.Generator) -> Image:
    """Of unit spread."""
    # white noise is drawn coarsely: a wide filter over the whole grid takes a second
    step = max(1, int(pixels // 4))
    coarse = gaussian_filter(random.normal(size=[size // step + 2 for size in shape]), pixels / step)
    grid = np.repeat(np.repeat(coarse, step, 0), step, 1)[: shape[0], : shape[1]]
    fine = gaussian_filter(grid, step)
    return np.asarray((fine - fine.mean()) / max(float(fine.std()), 1e-6), np.float32)
