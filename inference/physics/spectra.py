"""Reads the shipped x-ray spectra and attenuation coefficients (ct_tables.toml, made by make_tables.py)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

METALS = ("titanium", "iron", "cobalt_chromium", "gold", "steel_316l", "zirconia", "amalgam", "tantalum")
"""What implants and fillings are made of; zirconia is a ceramic that looks like one."""


@dataclass(frozen=True, slots=True, eq=False)
class CtTables:
    """energies_kev: (bins,) centres; spectra: kVp -> (bins,) photon shares; attenuation_per_cm: material -> (bins,)."""

    energies_kev: NDArray[np.float64]
    spectra: dict[int, NDArray[np.float64]]
    attenuation_per_cm: dict[str, NDArray[np.float64]]

    def detected(self, kvp: int) -> NDArray[np.float64]:
        """(bins,) share of the signal of an energy-integrating detector in each bin, summing to one."""
        if kvp not in self.spectra:
            raise ValueError(f"there is no spectrum of {kvp} kVp; there are {sorted(self.spectra)}")
        signal = self.spectra[kvp] * self.energies_kev
        return np.asarray(signal / signal.sum())

    def attenuation_at(self, material: str, energy_kev: float) -> float:
        """Linear attenuation of a material in 1/cm at that energy."""
        return float(np.interp(energy_kev, self.energies_kev, self.attenuation_per_cm[material]))


@lru_cache(maxsize=1)
def ct_tables() -> CtTables:
    """The tables, read once."""
    content = tomllib.loads(files("inference.physics").joinpath("ct_tables.toml").read_text(encoding="utf-8"))
    return CtTables(
        np.array(content["energies_kev"], np.float64),
        {int(kvp): np.array(shares, np.float64) for kvp, shares in content["spectra"].items()},
        {name: np.array(row, np.float64) for name, row in content["attenuation_per_cm"].items()},
    )
