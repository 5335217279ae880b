"""Where the body and its lungs are: from a CT, and from a PET that was not corrected for attenuation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_fill_holes,
    binary_opening,
    distance_transform_edt,
    gaussian_filter,
    gaussian_filter1d,
    label,
)

from inference.physics.attenuation import WATER_PER_CM, attenuation_factors, build_projector, reconstruct_osem

Spacing = tuple[float, float, float]

FWHM = 2.3548
RIM_MM = 14.0
EDGE_SHARE = 0.65
"""Where the skin is sought between the level outside and the rim's level: attenuation smears counts outwards."""
LUNG_RUN_MM = 80.0
LUNG_VIEWS = 48
LUNG_GRID_MM = 3.5
_TINY = 1e-6


def body_from_ct(hu: NDArray[np.float32], *, threshold_hu: float = -400.0, opened_pixels: int = 2) -> NDArray[np.bool_]:
    """hu: (slices, rows, columns) -> the body with all that is inside it; a touching table stays."""
    opened = np.stack([binary_opening(cut, iterations=opened_pixels) for cut in hu > threshold_hu])
    return _filled(_large_parts(opened))


def body_from_nac_pet(counts: NDArray[np.float32], spacing_mm: Spacing) -> NDArray[np.bool_]:
    """counts: (slices, rows, columns), not attenuation-corrected -> the body as far as its skin shows; may be empty.

    The skin is where counts pass a share of the way from the local level outside to the local level of the rim.
    """
    spacing = np.asarray(spacing_mm)
    smooth = _smoothed(counts, 8 / FWHM, spacing)
    fine = _smoothed(counts, 4 / FWHM, spacing)
    body = _coarse_body(smooth, spacing)
    if not body.any():
        return body
    # a tumour under the skin must not lift the level there out of reach of the skin beside it
    smooth = np.minimum(smooth, np.float32(3 * float(np.median(smooth[body]))))
    for _ in range(3):
        if not body.any():
            return body
        depth = _depth_mm(body, spacing)
        rim = (depth > 0) & (depth < RIM_MM)
        around = (depth < -10) & (depth > -35)
        inner = _local_mean(smooth, smooth * rim, np.array([6.0, 14, 14]) / spacing)
        outer = _local_mean(smooth, around.astype(np.float32), np.array([6.0, 25, 25]) / spacing)
        bright = ((fine > outer + EDGE_SHARE * (inner - outer)) & (depth > -12)) | (depth > RIM_MM)
        solid = _filled(_large_parts(binary_opening(_filled(bright))))
        body = _filled(_large_parts(_smoothed(solid.astype(np.float32), np.array([4.0, 3, 3]), spacing) > 0.5))
    return body


def rim_contrast(counts: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: Spacing) -> float:
    """How many times brighter the rim is than what surrounds it; near 1 the contour is not to be trusted."""
    depth = _depth_mm(body, np.asarray(spacing_mm))
    rim, around = (depth > 0) & (depth < RIM_MM), (depth < -15) & (depth > -50)
    if not rim.any() or not around.any():
        return 0.0
    return float(counts[rim].mean() / max(float(counts[around].mean()), _TINY * float(counts[rim].mean()) + 1e-30))


def lungs_from_nac_pet(counts: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: Spacing) -> NDArray[np.bool_]:
    """The lungs where they show as a bright, mirrored pair beside a darker middle over 8 cm or more; else nothing.

    Brightness is judged against what a body of water with an even tracer would show through the same contour. One hot
    organ, a lone lung or lungs cut short by the scan's end are not taken: a wrong lung halves the correction there.
    Columns must run across the patient.
    """
    factor = max(1, int(LUNG_GRID_MM // spacing_mm[2])) if spacing_mm[1] == spacing_mm[2] else 1
    if factor > 1:
        rows, columns = (size // factor * factor for size in counts.shape[1:])
        small = _blocks(counts[:, :rows, :columns], factor)
        inside = _blocks(body[:, :rows, :columns].astype(np.float32), factor) > 0.5
        found = lungs_from_nac_pet(small, inside, (spacing_mm[0], spacing_mm[1] * factor, spacing_mm[2] * factor))
        lungs = np.zeros_like(body)
        lungs[:, :rows, :columns] = found.repeat(factor, axis=1).repeat(factor, axis=2)
        return lungs & body
    spacing = np.asarray(spacing_mm)
    depth = _depth_mm(body, spacing)
    core = body & (depth > 12)
    if not core.any():
        return np.zeros_like(body)
    ratio = _ratio_to_water(counts, body, core, spacing)
    to_rim = _ratio_to_rim(counts, body & (depth > 2) & (depth < 15), spacing)
    seen = binary_opening(core & (ratio > 1.8) & (to_rim > 0.36) & (to_rim < 2.2))
    facts = np.array([_pair_facts(*maps, spacing) for maps in zip(seen, body, ratio, to_rim, strict=True)])
    area_cm2, mirrored, middle, level, brightness = gaussian_filter1d(facts, 10 / spacing[0], axis=0, mode="nearest").T
    paired = (area_cm2 > 25) & (mirrored > 0.66) & (middle < 0.9) & (level > 2.4) & (brightness > 0.55)
    run = _longest_run(paired)
    if len(run) * spacing[0] < LUNG_RUN_MM:
        return np.zeros_like(body)
    return _grown_lungs(seen, core, ratio, run, spacing)


@dataclass(frozen=True, slots=True)
class _Run:
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


def _ratio_to_water(
    counts: NDArray[np.float32], body: NDArray[np.bool_], core: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Counts over those of an evenly filled body of water, about 1 in soft tissue."""
    water = body.astype(np.float32)
    projector = build_projector(
        (body.shape[1], body.shape[2]), pixel_mm=(float(spacing[1]), float(spacing[2])), views=LUNG_VIEWS
    )
    factors = attenuation_factors(water * np.float32(WATER_PER_CM), projector)
    expected = reconstruct_osem(projector.forward(water) * factors, projector, iterations=3)
    even = np.maximum(_smoothed(expected * water, 8 / FWHM, spacing), np.float32(1e-3))
    ratio = np.asarray(_smoothed(counts * water, 8 / FWHM, spacing) / even, dtype=np.float32)
    ratio = _local_mean(ratio, core.astype(np.float32), 4 / spacing)
    # over a torso the lower quarter ends at 0.6 of the median; over a chest alone the median would be the lungs'
    return np.asarray(ratio * 0.6 / max(float(np.percentile(ratio[core], 25)), 1e-30), dtype=np.float32)


def _ratio_to_rim(
    counts: NDArray[np.float32], rim: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> NDArray[np.float32]:
    smooth = gaussian_filter(counts, 5 / spacing)
    level = np.array([np.median(cut[mask]) if mask.any() else 0.0 for cut, mask in zip(smooth, rim, strict=True)])
    level = gaussian_filter1d(level, 30 / spacing[0])
    level = np.maximum(level, max(float(level.max()) * 1e-3, 1e-30))
    return np.asarray(smooth / level[:, None, None], dtype=np.float32)


def _pair_facts(
    seen: NDArray[np.bool_],
    body: NDArray[np.bool_],
    ratio: NDArray[np.float32],
    to_rim: NDArray[np.float32],
    spacing: NDArray[np.float64],
) -> tuple[float, float, float, float, float]:
    """Of one slice: smaller side's area in cm2, mirror overlap, middle over sides, ratio to water, ratio to the rim."""
    nothing = (0.0, 0.0, 2.0, 0.0, 0.0)
    if not body.any():
        return nothing
    columns = np.arange(body.shape[1])
    middle = float((body.sum(0) * columns).sum() / body.sum())
    one, other = seen & (columns < middle), seen & (columns >= middle)
    rows = one.any(1) & other.any(1)
    if not rows.any():
        return nothing
    mirror = np.clip(np.rint(2 * middle - columns).astype(int), 0, len(columns) - 1)
    mirrored = other[:, mirror]
    area_cm2 = min(one.sum(), other.sum()) * spacing[1] * spacing[2] / 100
    overlap = 2 * (one & mirrored).sum() / (one.sum() + mirrored.sum() + _TINY)
    brightness = min(float(np.median(to_rim[one])), float(np.median(to_rim[other])))
    between = float(np.median(to_rim[rows][:, np.abs(columns - middle) * spacing[2] < 15]))
    level = min(float(np.percentile(ratio[one], 75)), float(np.percentile(ratio[other], 75)))
    return float(area_cm2), float(overlap), between / max(brightness, _TINY), level, brightness


def _grown_lungs(
    seen: NDArray[np.bool_],
    core: NDArray[np.bool_],
    ratio: NDArray[np.float32],
    run: _Run,
    spacing: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """The lungs to half way between soft tissue and their own level, up to 4 cm past the slices where both show."""
    seed = seen.copy()
    seed[: run.first] = False
    seed[run.last :] = False
    own = np.array([np.percentile(ratio[k][seed[k]], 70) if seed[k].any() else 0.0 for k in range(run.first, run.last)])
    own = gaussian_filter1d(own, 20 / spacing[0], mode="nearest")
    further = int(40 / spacing[0])
    level = np.full(len(seen), np.inf)
    level[max(0, run.first - further) : run.first] = own[0]
    level[run.first : run.last] = own
    level[run.last : run.last + further] = own[-1]
    soft = float(np.median(ratio[core & ~seen]))
    lungs = binary_opening(core & (ratio > ((soft + level) / 2)[:, None, None]))
    parts, _ = label(lungs)
    voxel_ml = float(np.prod(spacing)) / 1000
    kept = [part for part in np.unique(parts[seed & lungs]) if part and (parts == part).sum() * voxel_ml > 100]
    return np.isin(parts, kept)


def _coarse_body(smooth: NDArray[np.float32], spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Above half the level of its slice; hot places do not set the level, for it is a median."""
    seen = smooth > _valley(smooth)
    level = np.array([np.median(cut[mask]) if mask.sum() > 20 else 0.0 for cut, mask in zip(smooth, seen, strict=True)])
    level = gaussian_filter1d(level, 20 / spacing[0])
    level = np.maximum(level, max(float(level.max()) * 1e-2, 1e-30))
    return _filled(_large_parts(binary_opening(smooth > 0.5 * level[:, None, None])))


def _valley(smooth: NDArray[np.float32]) -> float:
    """Between surroundings and body: Otsu's threshold (1979) of the logarithm, which no hot place pulls up."""
    top = float(smooth.max())
    if top <= 0:
        return 0.0
    counts, edges = np.histogram(np.log(np.maximum(smooth, 3e-3 * top)), bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    sums = np.cumsum(counts * centres)
    above = below[-1] - below
    between = (sums[-1] * below - sums * below[-1]) ** 2 / np.maximum(below * above, 1)
    return float(np.exp(centres[int(np.argmax(between))]))


def _depth_mm(body: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """In-plane distance to the skin, positive inside; the edge of the image counts as skin."""
    depth = np.full(body.shape, -1e3, dtype=np.float32)
    for k in np.flatnonzero(body.any(axis=(1, 2))):
        padded = np.pad(body[k], 1)
        inside = distance_transform_edt(padded, sampling=spacing[1:])
        outside = distance_transform_edt(~padded, sampling=spacing[1:])
        depth[k] = (inside - outside)[1:-1, 1:-1]
    return depth


def _smoothed(values: NDArray[np.float32], sigma_mm: object, spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    return gaussian_filter(values, np.asarray(sigma_mm, dtype=float) / spacing)


def _local_mean(
    values: NDArray[np.float32], weight: NDArray[np.float32], sigma: NDArray[np.float64]
) -> NDArray[np.float32]:
    total = gaussian_filter(weight.astype(np.float32), sigma)
    mean = gaussian_filter(values * weight, sigma) / np.maximum(total, max(float(total.max()) * _TINY, 1e-30))
    return np.asarray(mean, dtype=np.float32)


def _large_parts(mask: NDArray[np.bool_], share: float = 0.05) -> NDArray[np.bool_]:
    """The parts that reach that share of the largest: trunk, arms and legs, but no specks."""
    parts, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.max())[parts], dtype=np.bool_)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.stack([binary_fill_holes(cut) for cut in mask])


def _blocks(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    slices, rows, columns = values.shape
    blocks = values.reshape(slices, rows // factor, factor, columns // factor, factor)
    return np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float32)


def _longest_run(flags: NDArray[np.bool_]) -> _Run:
    parts, count = label(flags)
    if not count:
        return _Run(0, 0)
    where = np.flatnonzero(parts == np.bincount(parts)[1:].argmax() + 1)
    return _Run(int(where[0]), int(where[-1]) + 1)
