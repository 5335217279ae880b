"""The simulated scanner against what scanners do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from inference.physics.ct_simulation import CtProtocol, _poisson, scanner_fan, simulate_low_dose_ct, simulate_metal_ct
from inference.physics.ramp_filter import WINDOWS
from inference.physics.spectra import METALS

SIZE, SPACING_MM = 128, 2.5


def water_slice(slices: int = 1) -> NDArray[np.float32]:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return np.where((x / 52) ** 2 + (y / 38) ** 2 < 1, 0, -1000).astype(np.float32)[None].repeat(slices, axis=0)


def pair_of_hips() -> NDArray[np.bool_]:
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.asarray(((y - 64) ** 2 + (np.abs(x - 63.5) - 26) ** 2 < 4**2)[None])


def test_without_metal_nothing_changes() -> None:
    clean = water_slice()
    made = simulate_metal_ct(clean, np.zeros(clean.shape, bool), spacing_mm=SPACING_MM, seed=1)
    np.testing.assert_array_equal(made, clean)


def test_a_pair_of_hips_makes_a_dark_band_between_them_that_grows_with_the_metal() -> None:
    clean, hips = water_slice(), pair_of_hips()
    between = (0, slice(62, 67), slice(56, 72))
    band = [
        float(simulate_metal_ct(clean, hips, metal=metal, spacing_mm=SPACING_MM, seed=1)[between].mean())
        for metal in METALS
    ]
    assert band[0] < -10
    assert band[2] < band[1] < band[0]


def test_the_metal_itself_is_as_bright_as_its_attenuation_up_to_the_number_range() -> None:
    hips = pair_of_hips()
    wide = CtProtocol(highest_hu=60000.0)
    titanium = simulate_metal_ct(water_slice(), hips, metal="titanium", spacing_mm=SPACING_MM, seed=1, protocol=wide)
    assert 6000 < np.median(titanium[hips]) < 14000
    cut = simulate_metal_ct(water_slice(), hips, metal="titanium", spacing_mm=SPACING_MM, seed=1)
    assert cut.max() == 3071
    assert cut.min() >= -1024


def test_a_seed_repeats_itself_and_another_differs() -> None:
    clean, hips = water_slice(), pair_of_hips()
    first, again, other = (
        simulate_metal_ct(clean, hips, metal="gold", spacing_mm=SPACING_MM, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_shape_of_the_detector_changes_neither_the_metal_nor_the_band() -> None:
    """Same physics, another sampling: what both show agrees, and no ray is lost at the rim."""
    clean, hips = water_slice(), pair_of_hips()
    arc, flat = (CtProtocol(highest_hu=60000.0, photons=1e8, detector=detector) for detector in ("arc", "flat"))
    made, known = (
        simulate_metal_ct(clean, hips, spacing_mm=SPACING_MM, seed=1, protocol=protocol) for protocol in (arc, flat)
    )
    assert (made != known).any()
    between = (0, slice(62, 67), slice(56, 72))
    assert made[between].mean() == pytest.approx(known[between].mean(), abs=4)
    assert made[hips].mean() == pytest.approx(known[hips].mean(), rel=0.01)


def test_a_sharper_kernel_makes_sharper_streaks() -> None:
    clean, hips = water_slice(), pair_of_hips()
    body = (clean > -500) & ~binary_dilation(hips[0], iterations=4)
    streaks = {
        window: float(
            simulate_metal_ct(
                clean, hips, metal="iron", spacing_mm=SPACING_MM, seed=1, protocol=CtProtocol(window=window)
            )[body].std()
        )
        for window in WINDOWS
    }
    assert streaks["soft"] < streaks["hamming"] < streaks["ramp"] < streaks["bone"]


def test_a_faint_lesion_is_all_that_two_scans_of_one_seed_differ_by() -> None:
    clean, hips = water_slice(), pair_of_hips()
    y, x = np.mgrid[:SIZE, :SIZE]
    lesion = ((y - 80) ** 2 + (x - 90) ** 2 < 4**2)[None]
    without, with_lesion = (
        simulate_metal_ct(image, hips, spacing_mm=SPACING_MM, seed=1)
        for image in (clean, clean + np.float32(20) * lesion)
    )
    difference = with_lesion - without
    assert difference[lesion].mean() == pytest.approx(20, abs=2)
    assert difference[(clean > -500) & ~lesion & ~hips].std() < 2


@pytest.mark.parametrize("mean", [1e-6, 0.3, 4.0, 29.0, 31.0, 1e6])
def test_drawn_quanta_have_the_mean_and_variance_of_poisson(mean: float) -> None:
    counts = _poisson(np.full(100_000, mean), np.random.default_rng(1).random(100_000))
    assert (counts == np.rint(counts)).all() and counts.min() >= 0
    assert counts.mean() == pytest.approx(mean, rel=0.02, abs=1e-3)
    assert counts.var() == pytest.approx(mean, rel=0.03, abs=1e-3)


def test_scatter_deepens_the_band_between_metals() -> None:
    clean, hips = water_slice(), pair_of_hips()
    between = (0, slice(62, 67), slice(56, 72))
    bands = [
        simulate_metal_ct(clean, hips, spacing_mm=SPACING_MM, seed=1, protocol=CtProtocol(scatter=scatter))[
            between
        ].mean()
        for scatter in (0.0, 0.05)
    ]
    assert bands[1] < bands[0]


def test_noise_of_a_lower_dose_grows_as_the_root_of_what_is_missing() -> None:
    """Variance added is proportional to 1/fraction - 1: 3 at a quarter and 15 at a sixteenth."""
    clean = water_slice(6)
    inner = (slice(None), slice(54, 74), slice(54, 74))
    quarter, sixteenth = (
        float((simulate_low_dose_ct(clean, fraction, spacing_mm=SPACING_MM, seed=3) - clean)[inner].std())
        for fraction in (1 / 4, 1 / 16)
    )
    assert sixteenth / quarter == pytest.approx(5**0.5, rel=0.08)
    np.testing.assert_array_equal(simulate_low_dose_ct(clean, 1.0, spacing_mm=SPACING_MM, seed=3), clean)


def test_a_lower_dose_leaves_the_mean() -> None:
    clean = water_slice(6)
    noisy = simulate_low_dose_ct(clean, 0.25, spacing_mm=SPACING_MM, seed=3)
    body = clean > -500
    noise = float((noisy - clean)[body].std())
    assert abs(float((noisy - clean)[body].mean())) < 0.05 * noise


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_an_impossible_dose_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="dose"):
        simulate_low_dose_ct(water_slice(), fraction, spacing_mm=SPACING_MM, seed=1)


def test_an_unknown_metal_and_an_oblong_slice_are_refused() -> None:
    clean = water_slice()
    with pytest.raises(ValueError, match="lead"):
        simulate_metal_ct(clean, pair_of_hips(), metal="lead", spacing_mm=SPACING_MM, seed=1)
    with pytest.raises(ValueError, match="square"):
        simulate_metal_ct(clean[:, :100], pair_of_hips()[:, :100], spacing_mm=SPACING_MM, seed=1)


def test_the_fan_stands_at_true_scale() -> None:
    fan = scanner_fan(512, spacing_mm=0.8, protocol=CtProtocol())
    assert fan.source_distance * 0.8 == pytest.approx(595)
