"""The noise map finds the noise that was put in, where it was put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from inference.physics.noise import noise_level, noise_map

EVERYWHERE = np.ones((2, 128, 128), dtype=np.bool_)


def white(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(EVERYWHERE.shape).astype(np.float32)


def test_white_noise_is_found_within_a_tenth() -> None:
    assert noise_level(100 + 12 * white(), EVERYWHERE) == pytest.approx(12, rel=0.1)


def test_noise_of_one_pixel_correlation_is_found_within_a_fifth() -> None:
    grain = gaussian_filter(white(), (0, 1, 1))
    assert noise_level(20 * grain / grain.std(), EVERYWHERE) == pytest.approx(20, rel=0.2)


def test_noise_that_grows_across_the_image_is_followed() -> None:
    deviation = np.linspace(5, 25, 128, dtype=np.float32)
    found = noise_map(white() * deviation, EVERYWHERE, reach_pixels=15)
    assert found[:, :, 24].mean() == pytest.approx(deviation[24], rel=0.25)
    assert found[:, :, 104].mean() == pytest.approx(deviation[104], rel=0.25)


def test_edges_of_anatomy_are_not_taken_for_noise() -> None:
    stripes = np.where(np.arange(128) // 32 % 2, 300, 0).astype(np.float32)
    assert noise_level(10 * white() + stripes, EVERYWHERE) == pytest.approx(10, rel=0.15)


def test_only_the_region_counts_and_an_empty_region_gives_zero() -> None:
    values = np.where(np.arange(128) < 64, 5, 80).astype(np.float32) * white()
    left = EVERYWHERE & (np.arange(128) < 64)
    assert noise_level(values, left) == pytest.approx(5, rel=0.15)
    assert noise_level(values, np.zeros_like(EVERYWHERE)) == 0
    assert not noise_map(values, np.zeros_like(EVERYWHERE)).any()
