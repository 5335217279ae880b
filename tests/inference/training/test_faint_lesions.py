"""Faint lesions lie in tissue, near metal, and are faint."""

from __future__ import annotations

import numpy as np

from inference.training.faint_lesions import CONTRAST_HU, faint_lesions

SIZE = 128


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where(np.hypot(x, y) < 60, 40, -1000).astype(np.float32)
    metal = (np.hypot(x - 30, y) < 5).astype(np.float32)
    return clean, metal, faint_lesions(clean, metal, spacing_mm=1.0, random=np.random.default_rng(seed))


def test_lesions_are_faint_and_most_lie_near_the_metal() -> None:
    near = far = 0.0
    for seed in range(20):
        lesions = drawn(seed)[2]
        assert 0 < np.abs(lesions).max() <= CONTRAST_HU[1]
        distance = np.hypot(*(np.argwhere(lesions != 0) - [63.5, 93.5]).T)
        near, far = near + (distance < 30).sum(), far + (distance >= 30).sum()
    assert near > 2 * far


def test_the_same_chance_gives_the_same_lesions() -> None:
    assert np.array_equal(drawn(1)[2], drawn(1)[2]) and not np.array_equal(drawn(1)[2], drawn(2)[2])


def test_there_are_none_without_metal_or_without_a_body() -> None:
    clean, metal, _ = drawn(1)
    for image, share in ((clean, 0 * metal), (np.full_like(clean, -1000), metal)):
        assert not faint_lesions(image, share, spacing_mm=1.0, random=np.random.default_rng(1)).any()
