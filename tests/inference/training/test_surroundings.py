"""What is drawn round a body stays outside of it, within the scan, and looks like table, cloth and cable."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.physics.metal_artifact_reduction import AIR_HU, seen_circle
from inference.training import surroundings
from inference.training.surroundings import AIR_ABOVE_HU, CABLE_HU, with_surroundings

SIZE, SPACING_MM = 160, 3.0


def body() -> NDArray[np.float32]:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image = np.full((SIZE, SIZE), AIR_HU, np.float32)
    image[(x / 45) ** 2 + (y / 32) ** 2 < 1] = 40
    image[np.hypot(x - 15, y) < 6] = -900
    return image


def drawn(seed: int) -> NDArray[np.float32]:
    return with_surroundings(body(), spacing_mm=SPACING_MM, random=np.random.default_rng(seed))


def only(monkeypatch: pytest.MonkeyPatch, *, table: float = 0, cloth: float = 0, cables: int = 0) -> None:
    monkeypatch.setattr(surroundings, "WITH_TABLE", table)
    monkeypatch.setattr(surroundings, "WITH_CLOTHES", cloth)
    monkeypatch.setattr(surroundings, "MOST_CABLES", cables)


def test_the_body_and_its_cavities_stay_and_nothing_lies_outside_the_scan() -> None:
    clean = body()
    inside = np.hypot(*((np.indices(clean.shape) - (SIZE - 1) / 2) / np.array([32, 45])[:, None, None])) < 1
    for seed in range(12):
        image = drawn(seed)
        assert np.array_equal(image[inside], clean[inside])
        assert np.array_equal(image[~seen_circle(clean.shape)], clean[~seen_circle(clean.shape)])
        assert image.min() >= AIR_HU and image[~inside].max() <= CABLE_HU[1]


def test_air_lies_at_a_level_of_its_own_in_each_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    levels = {float(drawn(seed)[SIZE // 2, 3]) for seed in range(8)}
    assert len(levels) == 8 and min(levels) >= AIR_HU and max(levels) <= AIR_HU + AIR_ABOVE_HU


def test_the_table_lies_under_the_body_and_reaches_across_it(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, table=1)
    lowest = np.argwhere(body() > AIR_HU)[:, 0].max()
    for seed in range(6):
        rows, columns = np.nonzero((drawn(seed) > AIR_HU + AIR_ABOVE_HU + 1) & (body() == AIR_HU))
        assert np.ptp(columns) * SPACING_MM > 100
        # its middle hangs lowest; its ends may come up beside the body, but not above it
        assert rows.min() > np.argwhere(body() > AIR_HU)[:, 0].min()
        middle = np.abs(columns - (SIZE - 1) / 2) < 10
        assert rows[middle].max() >= lowest


def test_cloth_follows_the_skin(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, cloth=1)
    farthest = []
    for seed in range(6):
        places = np.argwhere((drawn(seed) > AIR_HU + AIR_ABOVE_HU + 1) & (body() == AIR_HU)) - (SIZE - 1) / 2
        if len(places):
            farthest.append(np.max(np.hypot(*(places / [32, 45]).T)))
    assert len(farthest) > 3 and max(farthest) < 2.2


def test_a_cable_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, cables=1)
    new = [((drawn(seed) > AIR_HU + AIR_ABOVE_HU + 1) & (body() == AIR_HU)).sum() for seed in range(12)]
    assert 0 < max(new) * SPACING_MM**2 < 400


def test_a_slice_without_a_body_stays_as_it_is() -> None:
    air = np.full((SIZE, SIZE), AIR_HU, np.float32)
    assert np.array_equal(with_surroundings(air, spacing_mm=SPACING_MM, random=np.random.default_rng(1)), air)


def test_the_same_chance_draws_the_same() -> None:
    assert np.array_equal(drawn(4), drawn(4)) and not np.array_equal(drawn(4), drawn(5))
