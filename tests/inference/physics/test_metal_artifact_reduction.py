"""Correction of simulated metal in phantoms whose truth is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from inference.physics import metal_artifact_reduction
from inference.physics.correction_gate import LEAST_TRACE_SHARE
from inference.physics.ct_simulation import simulate_metal_ct
from inference.physics.metal import find_metal
from inference.physics.metal_artifact_reduction import (
    LARGEST_GRID,
    VirtualScan,
    prior_image,
    reduce_by_interpolation,
    reduce_by_prior,
    seen_circle,
    streak_hu,
)

SIZE, SPACING_MM = 160, 2.2

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]


def pelvis() -> Images:
    """Muscle in fat with two bones, a gas bubble and a faint lesion."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image = np.full((SIZE, SIZE), -1000, np.float32)
    image[(x / 68) ** 2 + (y / 48) ** 2 < 1] = -100
    image[(x / 60) ** 2 + (y / 41) ** 2 < 1] = 50
    for side in (-1, 1):
        image[((x - side * 34) / 9) ** 2 + (y / 12) ** 2 < 1] = 700
    image[x**2 + (y + 22) ** 2 < 6**2] = -900
    image[x**2 + (y - 8) ** 2 < 7**2] = 90
    return image[None]


@lru_cache(maxsize=1)
def hips() -> tuple[Images, Images, Mask]:
    """Clean, with metal, and the metal found."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    implants = ((y - 1) ** 2 + (np.abs(x) - 34) ** 2 < 5**2)[None]
    clean = pelvis()
    spoiled = simulate_metal_ct(clean, implants, metal="cobalt_chromium", spacing_mm=SPACING_MM, seed=1)
    return clean, spoiled, find_metal(spoiled, 3000) | implants


def error_hu(image: Images, clean: Images, metal: Mask) -> float:
    return float(np.sqrt(np.mean((np.clip(image, -1000, 1600) - clean)[~metal] ** 2)))


def test_interpolation_halves_the_error_and_nmar_does_better() -> None:
    clean, spoiled, metal = hips()
    before = error_hu(spoiled, clean, metal)
    interpolation = error_hu(reduce_by_interpolation(spoiled, metal, spacing_mm=SPACING_MM), clean, metal)
    nmar = error_hu(reduce_by_prior(spoiled, metal, spacing_mm=SPACING_MM), clean, metal)
    assert interpolation < before / 2
    assert nmar < before / 2
    assert nmar < 1.02 * interpolation


def test_a_correction_without_metal_changes_nothing() -> None:
    clean = pelvis()
    nothing = np.zeros(clean.shape, bool)
    np.testing.assert_allclose(reduce_by_prior(clean, nothing, spacing_mm=SPACING_MM), clean, atol=1e-3)


def test_streaks_are_measured_higher_before_than_after_and_lowest_in_the_truth() -> None:
    clean, spoiled, metal = hips()
    corrected = reduce_by_prior(spoiled, metal, spacing_mm=SPACING_MM)
    measured = streak_hu(spoiled[0], corrected[0], metal[0])
    truth = streak_hu(spoiled[0], clean[0], metal[0])
    assert measured is not None
    assert truth is not None
    assert measured[0] > measured[1] > truth[1]


def test_metal_in_a_clean_slice_would_only_gain_streaks() -> None:
    """What looks like metal and makes no streaks: the gate must see that the correction does harm."""
    clean, _, metal = hips()
    noisy = clean + np.random.default_rng(1).normal(0, 10, clean.shape).astype(np.float32)
    pasted = np.where(metal, np.float32(3071), noisy)
    corrected = reduce_by_prior(pasted, metal, spacing_mm=SPACING_MM)
    measured = streak_hu(pasted[0], corrected[0], metal[0])
    assert measured is not None
    assert measured[1] > measured[0]


def test_a_few_strong_streaks_count_although_noise_is_in_every_pixel() -> None:
    noisy = np.random.default_rng(1).normal(40, 15, (128, 128)).astype(np.float32)
    metal = np.zeros(noisy.shape, bool)
    metal[62:66, 62:66] = True
    streaked = noisy.copy()
    streaked[20] -= 200
    measured = streak_hu(streaked, noisy, metal)
    assert measured is not None
    assert measured[1] < 0.8 * measured[0]


def test_streaks_are_not_judged_where_there_is_no_tissue() -> None:
    air = np.full((64, 64), -1000, np.float32)
    metal = np.zeros((64, 64), bool)
    metal[30:34, 30:34] = True
    assert streak_hu(air, air, metal) is None


def test_the_prior_keeps_bone_and_fills_metal_with_tissue() -> None:
    clean = pelvis()
    metal = np.zeros(clean.shape, bool)
    metal[0, 90:94, 78:82] = True
    clean[metal] = 3071
    prior = prior_image(clean, metal, spacing_mm=SPACING_MM)
    assert prior[0, 80, 46] == 700
    assert abs(prior[metal] - 50).max() < 60


def test_metal_in_thick_bone_is_not_filled_with_water_where_the_prior_is_hardly_smoothed() -> None:
    bone = np.full((1, 96, 96), 700, np.float32)
    metal = np.zeros(bone.shape, bool)
    metal[0, 46:50, 46:50] = True
    spoiled = np.where(metal, np.float32(3071), bone)
    prior = prior_image(spoiled, metal, spacing_mm=1.0, smoothing_mm=2.0)
    assert abs(prior[metal] - 700).max() < 150


def test_a_coarser_grid_leaves_no_dark_rim_round_the_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    body = np.where(np.hypot(x, y) < 70, 40, -1000).astype(np.float32)
    from_metal = np.hypot(x - 20, y - 5) - 7
    pasted = np.where(from_metal < 0, np.float32(3071), body)
    rim = (from_metal > 1.5) & (from_metal < 4)
    errors = []
    for largest in (LARGEST_GRID, SIZE // 2):
        monkeypatch.setattr(metal_artifact_reduction, "LARGEST_GRID", largest)
        made = reduce_by_prior(pasted[None], (from_metal < 0)[None], spacing_mm=1.0)[0]
        errors.append(float(np.abs(made - body)[rim].mean()))
    assert errors[1] < errors[0] + 30


def test_an_artifact_lies_in_the_metals_trace_and_what_a_needless_correction_changes_does_not() -> None:
    clean, spoiled, metal = hips()
    noisy = clean + np.random.default_rng(1).normal(0, 10, clean.shape).astype(np.float32)
    pasted = np.where(metal, np.float32(3071), noisy)
    smoothed = np.where(metal, pasted, gaussian_filter(noisy, (0, 1, 1)))

    def share(images: Images, corrected: Images) -> float:
        return float(VirtualScan(images, metal, spacing_mm=SPACING_MM).share_in_trace(corrected)[0])

    def corrected(images: Images) -> Images:
        return np.where(metal, images, reduce_by_prior(images, metal, spacing_mm=SPACING_MM))

    assert share(spoiled, corrected(spoiled)) > 2 * LEAST_TRACE_SHARE
    assert share(pasted, corrected(pasted)) < LEAST_TRACE_SHARE / 2
    assert 0 < share(pasted, smoothed) < LEAST_TRACE_SHARE / 2
    assert share(pasted, pasted) == 0


def test_metal_that_cannot_be_moved_within_the_body_gives_no_share() -> None:
    clean, _, _ = hips()
    everywhere = clean > -500
    scan = VirtualScan(np.where(everywhere, np.float32(3071), clean), everywhere, spacing_mm=SPACING_MM)
    assert np.isinf(scan.share_in_trace(clean)).all()


@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (127, 127)])
def test_oblong_and_odd_matrices_are_corrected_on_their_own_grid(shape: tuple[int, int]) -> None:
    clean = np.full((1, *shape), -1000, np.float32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2
    clean[0, (x / 40) ** 2 + (y / 30) ** 2 < 1] = 40
    square = np.full((1, 128, 128), -1000, np.float32)
    top, left = (128 - shape[0]) // 2, (128 - shape[1]) // 2
    square[:, top : top + shape[0], left : left + shape[1]] = clean
    implants = np.zeros(square.shape, bool)
    for column in (43, 84):
        implants[0, 61:67, column - 3 : column + 3] = True
    spoiled = simulate_metal_ct(square, implants, metal="iron", spacing_mm=2.5, seed=1)
    crop = (slice(None), slice(top, top + shape[0]), slice(left, left + shape[1]))
    part, metal = spoiled[crop], find_metal(spoiled, 3000)[crop]
    corrected = reduce_by_prior(part, metal, spacing_mm=2.5)
    assert corrected.shape == part.shape
    assert error_hu(corrected, clean, metal) < 0.7 * error_hu(part, clean, metal)


def test_a_matrix_too_large_for_the_tables_is_corrected_on_a_coarser_grid() -> None:
    clean, spoiled, metal = hips()
    factor = LARGEST_GRID // SIZE + 1
    large, truth = (image.repeat(factor, axis=1).repeat(factor, axis=2) for image in (spoiled, clean))
    mask = metal.repeat(factor, axis=1).repeat(factor, axis=2)
    assert large.shape[1] > LARGEST_GRID
    corrected = reduce_by_prior(large, mask, spacing_mm=SPACING_MM / factor)
    assert error_hu(corrected, truth, mask) < 0.6 * error_hu(large, truth, mask)


def test_the_seen_circle_is_inscribed_in_the_square_that_holds_the_slice() -> None:
    seen = seen_circle((40, 60))
    assert seen.shape == (40, 60)
    assert seen[20, 0]
    assert not seen[0, 0]
