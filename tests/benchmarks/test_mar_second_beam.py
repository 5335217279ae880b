"""The second scanner's x-rays against published figures, and against the first scanner's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.mar_second_beam import METALS, SecondBeam, SecondProtocol, _element, _poisson
from inference.physics.spectra import ct_tables

PROTOCOL = SecondProtocol()


@pytest.mark.parametrize(
    ("element", "energy_kev", "per_gram"),
    [("Al", 60, 0.2778), ("Fe", 60, 1.205), ("Cu", 100, 0.4584), ("Ag", 50, 9.444), ("Hg", 60, 4.683)],
)
def test_elements_attenuate_as_published(element: str, energy_kev: float, per_gram: float) -> None:
    """NIST XCOM, other authors still, within 4 %."""
    assert _element(np.array([energy_kev], float), element)[0] == pytest.approx(per_gram, rel=0.04)


@pytest.mark.parametrize(("element", "edge_kev"), [("Ag", 25.514), ("Sn", 29.2), ("Ta", 67.416), ("Hg", 83.102)])
def test_a_k_edge_is_a_step_at_its_own_energy(element: str, edge_kev: float) -> None:
    below, above = _element(np.array([edge_kev - 0.01, edge_kev + 0.01]), element)
    assert 3 < above / below < 8


@pytest.mark.parametrize(("metal", "first_scanners"), [("tantalum", "tantalum"), ("steel", "steel_316l")])
def test_what_lets_through_agrees_with_the_tables_of_other_authors(metal: str, first_scanners: str) -> None:
    """Away from the K edge, which the tables spread over a bin."""
    tables = ct_tables()
    for energy_kev in (40.0, 58.0, 90.0, 110.0):
        density, parts = METALS[metal]
        own = sum(share / 100 * _element(np.array([energy_kev]), name)[0] for name, share in parts.items()) * density
        assert own == pytest.approx(tables.attenuation_at(first_scanners, energy_kev), rel=0.06)


def test_copper_hardens_the_beam() -> None:
    """What is harder is let through by bone more readily."""
    bone = np.array([0.0, 3.0, 0.0])
    soft, hard = (SecondBeam(replace(PROTOCOL, copper_mm=copper), "steel").transmitted(bone) for copper in (0.0, 0.5))
    assert hard > 1.1 * soft


def test_the_correction_turns_what_water_leaves_into_its_length() -> None:
    beam = SecondBeam(PROTOCOL, "steel")
    path_cm = np.linspace(0.5, 45, 90)
    behind = beam.transmitted(np.stack([path_cm, 0 * path_cm, 0 * path_cm], axis=-1))
    np.testing.assert_allclose(beam.water_cm(behind), path_cm, atol=0.01)
    assert beam.water_cm(np.ones(1))[0] == 0
    assert np.isfinite(beam.water_cm(np.array([-0.1, 0.0]))).all()


def test_tissue_is_water_then_more_and_more_bone_and_keeps_its_attenuation() -> None:
    beam = SecondBeam(PROTOCOL, "steel")
    hu = np.array([-1000, -500, 0, 149, 400, 1000, 1400, 2500], np.float32)
    water, bone = beam.tissues(hu)
    np.testing.assert_allclose(water + beam.bone_to_water * bone, hu / 1000 + 1, atol=1e-5)
    assert (bone[:4] == 0).all() and (np.diff(bone[3:]) > 0).all()
    assert water[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("mean", [0.3, 4.0, 25.0, 31.0, 400.0])
def test_drawn_quanta_have_the_mean_variance_and_skew_of_poisson(mean: float) -> None:
    counts = _poisson(np.full(200_000, mean), np.random.default_rng(1).random(200_000))
    assert (counts == np.rint(counts)).all() and counts.min() >= 0
    assert counts.mean() == pytest.approx(mean, rel=0.01)
    assert counts.var() == pytest.approx(mean, rel=0.02)
    assert ((counts - mean) ** 3).mean() == pytest.approx(mean, rel=0.3 if mean < 50 else 1.5)


def test_noise_of_an_energy_integrating_detector_exceeds_that_of_counting() -> None:
    """Compound Poisson: quanta of more energy count for more, so the variance is above that of as many equal quanta."""
    protocol = replace(PROTOCOL, electronic_kev=1e-3)
    beam = SecondBeam(protocol, "steel")
    signal = beam.counted(np.ones((20_000, len(beam.through(np.zeros(3)))), np.float32), np.random.default_rng(3))
    assert signal.mean() == pytest.approx(1, abs=1e-4)
    assert 1.03 < signal.var() * protocol.quanta < 1.3


def test_a_little_less_signal_has_the_same_luck() -> None:
    beam = SecondBeam(PROTOCOL, "steel")
    through = np.tile(beam.through(np.array([30.0, 0.0, 0.2])), (3000, 1))
    first, other = (beam.counted(share * through, np.random.default_rng(7)) for share in (1.0, 0.999))
    assert np.corrcoef(first, other)[0, 1] > 0.99
    assert (first != other).any()


def test_only_where_almost_nothing_was_counted_a_cell_takes_the_median_of_its_neighbours() -> None:
    signal = np.full((1, 20), 0.5, np.float32)
    signal[0, 5] = 0.9
    signal[0, 10:16] = (1e-6, 3e-6, -1e-6, 4e-6, 2e-6, 1e-6)
    calmed = SecondBeam(PROTOCOL, "steel").calmed(signal)
    np.testing.assert_array_equal(calmed[0, :10], signal[0, :10])
    assert np.ptp(calmed[0, 12:14]) < np.ptp(signal[0, 12:14])


def test_views_that_do_not_come_in_fours_are_refused() -> None:
    with pytest.raises(ValueError, match="fours"):
        SecondProtocol(views=962)
