"""Contours and lungs come out where they were drawn; a hot organ is no lung."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from inference.physics.attenuation import (
    attenuation_factors,
    build_projector,
    measured_counts,
    mu_from_hu,
    reconstruct_osem,
)
from inference.physics.body import body_from_ct, body_from_nac_pet, lungs_from_nac_pet, rim_contrast

SPACING_MM = (6.0, 5.0, 5.0)
SLICES, SIZE = 26, 88


def ellipse(at_mm: tuple[float, float], radii_mm: tuple[float, float]) -> NDArray[np.bool_]:
    across = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM[1]
    x, y = across[None, :] - at_mm[0], across[:, None] - at_mm[1]
    return np.broadcast_to((x / radii_mm[0]) ** 2 + (y / radii_mm[1]) ** 2 <= 1, (SLICES, SIZE, SIZE))


BODY = ellipse((0, 0), (165, 110))
PAIR = (ellipse((-75, 0), (45, 70)) | ellipse((75, 0), (45, 70))) & (np.arange(SLICES) > 3)[:, None, None]


@cache
def nac(kind: str) -> NDArray[np.float32]:
    """A simulated NAC PET: of a chest, of a body with a hot liver, or of one with a hot tumour under its skin."""
    hu, activity = np.where(BODY, 0, -1000).astype(np.float32), BODY.astype(np.float32)
    if kind == "chest":
        hu[PAIR], activity[PAIR] = -750, 0.45
    elif kind == "liver":
        activity[ellipse((-70, 0), (65, 65))] = 2.5
    elif kind == "tumour":
        activity[ellipse((120, 30), (28, 28)) & (np.arange(SLICES) % 26 > 8)[:, None, None]] = 25
    projector = build_projector((SIZE, SIZE), pixel_mm=SPACING_MM[1:], views=48)
    factors = attenuation_factors(mu_from_hu(hu, kvp=120), projector)
    counts, _ = measured_counts(activity, factors, projector, total_counts=2e5 * SLICES, seed=2, blur_bins=0.6)
    return gaussian_filter(reconstruct_osem(counts, projector, iterations=3), 0.4)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("kind", ["water", "chest", "liver", "tumour"])
def test_the_contour_of_a_nac_pet_is_the_bodys(kind: str) -> None:
    body = body_from_nac_pet(nac(kind), SPACING_MM)
    # the bar for a learned contour is 0.97; half a pixel all round is 0.96 here
    assert dice(body, BODY) > 0.95
    assert rim_contrast(nac(kind), body, SPACING_MM) > 5


def test_lungs_are_found_where_the_pet_shows_a_pair_of_them() -> None:
    lungs = lungs_from_nac_pet(nac("chest"), BODY, SPACING_MM)
    # a baseline: most of what it takes is lung, and it finds the larger part
    assert (lungs & PAIR).sum() / lungs.sum() > 0.8
    assert (lungs & PAIR).sum() / PAIR.sum() > 0.5


@pytest.mark.parametrize("kind", ["water", "liver", "tumour"])
def test_a_body_without_lungs_is_given_none(kind: str) -> None:
    assert not lungs_from_nac_pet(nac(kind), BODY, SPACING_MM).any()


def test_lungs_are_found_on_a_finer_grid_too() -> None:
    fine = nac("chest").repeat(2, axis=1).repeat(2, axis=2)
    lungs = lungs_from_nac_pet(fine, BODY.repeat(2, axis=1).repeat(2, axis=2), (6.0, 2.5, 2.5))
    assert lungs.shape == fine.shape
    assert dice(lungs, lungs_from_nac_pet(nac("chest"), BODY, SPACING_MM).repeat(2, axis=1).repeat(2, axis=2)) > 0.8


def test_an_empty_pet_has_no_body_and_no_lungs() -> None:
    empty = np.zeros((SLICES, SIZE, SIZE), dtype=np.float32)
    body = body_from_nac_pet(empty, SPACING_MM)
    assert not body.any()
    assert not lungs_from_nac_pet(empty, body, SPACING_MM).any()
    assert rim_contrast(empty, body, SPACING_MM) == 0


def test_the_body_of_a_ct_holds_its_lungs_but_not_the_table() -> None:
    hu = np.where(BODY, 40, -1000).astype(np.float32)
    hu[PAIR] = -800
    table = ellipse((0, 150), (100, 4))
    hu[table] = 200
    body = body_from_ct(hu)
    assert dice(body, BODY) > 0.97
    assert body[PAIR].all()
    assert not (body & table).any()
