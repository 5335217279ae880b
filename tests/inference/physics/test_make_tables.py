"""The shipped tables are those that the script makes."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest

from inference.physics import make_tables


class FlatTube:
    """A tube of constant fluence, standing in for spekpy's, which is not installed here."""

    __version__ = "flat"

    class Spek:
        def __init__(self, kvp: float, th: float, dk: float) -> None:
            self.kvp, self.filters = kvp, dict[str, float]()

        def filter(self, material: str, thickness_mm: float) -> None:
            self.filters[material] = thickness_mm

        def get_spectrum(self) -> tuple[Any, Any]:
            energies = np.arange(1, self.kvp, 0.5)
            return energies, np.ones_like(energies)


class UnitElements:
    """An attenuation of one cm2/g for every element, standing in for xraydb's."""

    @staticmethod
    def mu_elam(element: str, energies_ev: list[float]) -> list[float]:
        return [1.0] * len(energies_ev)


def test_the_shipped_file_has_the_scripts_energies_spectra_and_materials() -> None:
    shipped = tomllib.loads(make_tables.TABLES_FILE.read_text(encoding="utf-8"))
    assert tuple(shipped["energies_kev"]) == make_tables.ENERGIES_KEV
    assert {int(kvp) for kvp in shipped["spectra"]} == set(make_tables.TUBE_KVP)
    assert set(shipped["attenuation_per_cm"]) == set(make_tables.MATERIALS)


def test_the_text_is_toml_and_densities_enter_the_attenuation() -> None:
    made = tomllib.loads(make_tables.tables_text(FlatTube, UnitElements))
    assert sum(made["spectra"]["120"]) == pytest.approx(1, abs=1e-4)
    assert made["attenuation_per_cm"]["gold"][0] == pytest.approx(19.3)
    assert made["attenuation_per_cm"]["bone"][0] == pytest.approx(1.92, rel=1e-3)


def test_mass_fractions_sum_to_one() -> None:
    for _, fractions in make_tables.MATERIALS.values():
        assert sum(fractions.values()) == pytest.approx(1, abs=2e-3)
