"""511 keV: the table's branches meet, forward and adjoint agree, and correction gives the activity back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.physics.attenuation import (
    BONE_BRANCH,
    WATER_PER_CM,
    attenuation_factors,
    build_projector,
    measured_counts,
    mu_from_hu,
    reconstruct_osem,
)


def disc(size: int, radius_mm: float, pixel_mm: float) -> NDArray[np.bool_]:
    across = (np.arange(size) - (size - 1) / 2) * pixel_mm
    return (across[:, None] ** 2 + across**2 <= radius_mm**2)[None]


def mu_of(hu: float, kvp: float) -> float:
    return float(mu_from_hu(np.array([hu], dtype=np.float32), kvp=kvp)[0])


@pytest.mark.parametrize("kvp", sorted(BONE_BRANCH))
def test_air_is_zero_water_is_water_and_the_branches_meet_at_the_break_point(kvp: int) -> None:
    slope, _, break_point = BONE_BRANCH[kvp]
    assert mu_of(-1000, kvp) == 0
    assert mu_of(-3024, kvp) == 0
    assert mu_of(0, kvp) == pytest.approx(WATER_PER_CM, rel=1e-6)
    below, above = (mu_of(break_point - 1000 + step, kvp) for step in (-0.01, 0.01))
    # the table is printed with three digits, so the branches meet within half a permille
    assert above == pytest.approx(below, rel=5e-4)
    assert mu_of(break_point - 1000 - 20, kvp) == pytest.approx(9.6e-5 * (break_point - 20), rel=1e-5)
    assert mu_of(break_point - 1000 + 500, kvp) - mu_of(break_point - 1000 + 400, kvp) == pytest.approx(
        100 * slope, rel=1e-3
    )


def test_known_bone_at_120_kvp() -> None:
    assert mu_of(1000, 120) == pytest.approx(5.10e-5 * 2000 + 4.71e-2, rel=1e-6)


def test_a_tube_voltage_without_a_table_is_refused() -> None:
    with pytest.raises(SourceRefused) as refused:
        mu_of(0, 70)
    assert refused.value.reason_code == "kvp-not-tabulated"


def test_forward_and_adjoint_belong_together() -> None:
    projector = build_projector((40, 48), pixel_mm=(5.0, 4.0), views=20)
    random = np.random.default_rng(0)
    image = random.random((3, 40, 48), dtype=np.float32)
    sinogram = random.random((3, projector.views, projector.bins), dtype=np.float32)
    one = float((projector.forward(image).astype(np.float64) * sinogram).sum())
    other = float((image.astype(np.float64) * projector.adjoint(sinogram)).sum())
    assert one == pytest.approx(other, rel=1e-6)


def test_line_integrals_of_a_disc_are_its_chords() -> None:
    projector = build_projector((96, 96), pixel_mm=(3.0, 3.0), views=12)
    integrals = projector.forward(disc(96, 90, 3.0).astype(np.float32))[0]
    off_mm = (np.arange(projector.bins) - projector.bins // 2) * 3.0
    chords_cm = 2 * np.sqrt(np.maximum(90**2 - off_mm**2, 0)) / 10
    inner = np.abs(off_mm) < 75
    # a disc of 3 mm pixels has an edge known to about a pixel
    assert np.abs(integrals[:, inner] - chords_cm[inner]).max() < 0.6
    assert integrals[:, inner].mean() == pytest.approx(chords_cm[inner].mean(), rel=0.01)


def test_a_pixel_that_is_higher_than_wide_keeps_its_size() -> None:
    square = build_projector((64, 64), pixel_mm=(4.0, 4.0), views=16)
    flat = build_projector((32, 64), pixel_mm=(8.0, 4.0), views=16)
    total = (
        square.forward(np.ones((1, 64, 64), np.float32)).sum() / flat.forward(np.ones((1, 32, 64), np.float32)).sum()
    )
    assert total == pytest.approx(1, rel=0.02)


def test_the_middle_of_a_water_disc_looks_dark_uncorrected_and_even_when_corrected() -> None:
    body = disc(64, 110, 4.0)
    activity = body.astype(np.float32)
    projector = build_projector((64, 64), pixel_mm=(4.0, 4.0), views=48)
    factors = attenuation_factors(activity * np.float32(WATER_PER_CM), projector)
    counts, scale = measured_counts(activity, factors, projector, total_counts=3e6, seed=1)
    middle, rim = disc(64, 30, 4.0), disc(64, 104, 4.0) & ~disc(64, 92, 4.0)
    uncorrected = reconstruct_osem(counts, projector) / scale
    corrected = reconstruct_osem(counts, projector, factors=factors) / scale
    assert uncorrected[middle].mean() < 0.5 * uncorrected[rim].mean()
    assert corrected[middle].mean() == pytest.approx(1, abs=0.05)
    assert corrected[body].mean() == pytest.approx(1, abs=0.05)


def test_counts_are_the_same_for_the_same_seed_and_add_up() -> None:
    projector = build_projector((32, 32), pixel_mm=(4.0, 4.0), views=12)
    activity = disc(32, 50, 4.0).astype(np.float32)
    air = np.ones((1, projector.views, projector.bins), dtype=np.float32)
    one, _ = measured_counts(activity, air, projector, total_counts=1e5, seed=3, blur_bins=1.0)
    again, _ = measured_counts(activity, air, projector, total_counts=1e5, seed=3, blur_bins=1.0)
    np.testing.assert_array_equal(one, again)
    # five standard deviations of a Poisson total
    assert one.sum() == pytest.approx(1e5, abs=5 * np.sqrt(1e5))
