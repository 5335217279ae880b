"""The shipped tables against known physics."""

from __future__ import annotations

import numpy as np
import pytest

from inference.physics.spectra import METALS, ct_tables


def test_every_spectrum_sums_to_one_and_ends_at_its_voltage() -> None:
    tables = ct_tables()
    assert set(tables.spectra) == {70, 80, 90, 100, 110, 120, 130, 140}
    for kvp, spectrum in tables.spectra.items():
        assert spectrum.sum() == pytest.approx(1, abs=1e-4)
        assert spectrum[tables.energies_kev > kvp + 2].sum() == 0
        assert tables.detected(kvp).sum() == pytest.approx(1)


def test_a_higher_voltage_gives_a_harder_beam() -> None:
    tables = ct_tables()
    means = [float((tables.energies_kev * tables.spectra[kvp]).sum()) for kvp in sorted(tables.spectra)]
    assert means == sorted(means)
    assert 55 < float((tables.energies_kev * tables.spectra[120]).sum()) < 70


@pytest.mark.parametrize(
    ("material", "energy_kev", "per_cm"),
    [("water", 70, 0.193), ("water", 100, 0.1707), ("iron", 82, 4.43), ("titanium", 82, 1.74)],
)
def test_attenuation_agrees_with_the_published_tables(material: str, energy_kev: float, per_cm: float) -> None:
    """NIST XCOM within 2 %."""
    assert ct_tables().attenuation_at(material, energy_kev) == pytest.approx(per_cm, rel=0.02)


@pytest.mark.parametrize(("metal", "below", "above", "rise"), [("gold", 78, 82, 3), ("tantalum", 66, 70, 3)])
def test_a_heavy_metal_rises_at_its_k_edge(metal: str, below: float, above: float, rise: float) -> None:
    tables = ct_tables()
    assert tables.attenuation_at(metal, above) > rise * tables.attenuation_at(metal, below)


def test_metals_attenuate_in_the_order_of_their_atomic_numbers() -> None:
    """Just below the edge of tantalum, where no element's edge lifts it above a heavier one."""
    tables = ct_tables()
    order = ("water", "bone", "titanium", "iron", "zirconia", "amalgam", "tantalum", "gold")
    at_66 = [tables.attenuation_at(name, 66) for name in order]
    assert at_66 == sorted(at_66)


def test_every_metal_attenuates_more_than_bone_at_every_energy() -> None:
    tables = ct_tables()
    for name in METALS:
        assert (tables.attenuation_per_cm[name] > 2 * tables.attenuation_per_cm["bone"]).all(), name


def test_steel_attenuates_like_the_iron_that_most_of_it_is() -> None:
    tables = ct_tables()
    ratio = tables.attenuation_per_cm["steel_316l"] / tables.attenuation_per_cm["iron"]
    assert np.all((ratio > 0.95) & (ratio < 1.2))


def test_an_unknown_voltage_is_refused() -> None:
    with pytest.raises(ValueError, match="135"):
        ct_tables().detected(135)
