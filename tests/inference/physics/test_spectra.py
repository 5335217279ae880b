"""The shipped tables against known physics."""

from __future__ import annotations

import numpy as np
import pytest

from inference.physics.spectra import METALS, ct_tables


def test_every_spectrum_sums_to_one_and_ends_at_its_voltage() -> None:
    tables = ct_tables()
    assert set(tables.spectra) == {80, 100, 120, 140}
    for kvp, spectrum in tables.spectra.items():
        assert spectrum.sum() == pytest.approx(1, abs=1e-4)
        assert spectrum[tables.energies_kev > kvp + 2].sum() == 0
        assert tables.detected(kvp).sum() == pytest.approx(1)


def test_a_higher_voltage_gives_a_harder_beam() -> None:
    tables = ct_tables()
    means = [float((tables.energies_kev * tables.spectra[kvp]).sum()) for kvp in (80, 100, 120, 140)]
    assert means == sorted(means)
    assert 55 < means[2] < 70


@pytest.mark.parametrize(
    ("material", "energy_kev", "per_cm"),
    [("water", 70, 0.193), ("water", 100, 0.1707), ("iron", 82, 4.43), ("titanium", 82, 1.74)],
)
def test_attenuation_agrees_with_the_published_tables(material: str, energy_kev: float, per_cm: float) -> None:
    """NIST XCOM within 2 %."""
    assert ct_tables().attenuation_at(material, energy_kev) == pytest.approx(per_cm, rel=0.02)


def test_gold_rises_at_its_k_edge() -> None:
    tables = ct_tables()
    assert tables.attenuation_at("gold", 82) > 3 * tables.attenuation_at("gold", 78)


def test_metals_attenuate_in_the_order_of_their_atomic_numbers() -> None:
    tables = ct_tables()
    at_70 = [tables.attenuation_at(name, 70) for name in ("water", "bone", *METALS)]
    assert at_70 == sorted(at_70)
    assert np.isfinite(at_70).all()


def test_an_unknown_voltage_is_refused() -> None:
    with pytest.raises(ValueError, match="135"):
        ct_tables().detected(135)
