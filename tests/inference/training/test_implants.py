"""Implants for training are metal of true size, inside what a scan sees."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.training.implants import KINDS, random_implant

SIZE, SPACING_MM = 128, 3.0


def body() -> NDArray[np.float32]:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image = np.full((SIZE, SIZE), -1000, np.float32)
    image[np.hypot(x, y) < 50] = 40
    image[np.hypot(x - 20, y) < 8] = 700
    return image


def test_all_kinds_come_up_and_lie_within_the_circle_that_is_scanned() -> None:
    random = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    seen = set()
    for _ in range(120):
        share, kind = random_implant(body(), spacing_mm=SPACING_MM, random=random)
        seen.add(kind)
        assert share.shape == (SIZE, SIZE) and share.dtype == np.float32
        assert share.min() >= 0 and share.max() <= 1
        assert not share[np.hypot(x, y) > SIZE / 2].any()
    assert seen == set(KINDS)


def test_the_same_seed_makes_the_same_implant() -> None:
    first, second = (
        random_implant(body(), spacing_mm=SPACING_MM, random=np.random.default_rng(5))[0] for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_an_implant_is_as_large_whatever_the_pixels_are() -> None:
    def area_mm2(size: int, spacing_mm: float) -> float:
        image = np.full((size, size), 40, np.float32)
        areas = [
            float(random_implant(image, spacing_mm=spacing_mm, random=np.random.default_rng(seed))[0].sum())
            for seed in range(40)
        ]
        return float(np.mean(areas)) * spacing_mm**2

    assert area_mm2(400, 0.8) == pytest.approx(area_mm2(200, 1.6), rel=0.2)


def test_an_empty_slice_is_refused() -> None:
    with pytest.raises(ValueError, match="no body"):
        random_implant(np.full((64, 64), -1000, np.float32), spacing_mm=1, random=np.random.default_rng(1))
