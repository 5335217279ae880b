"""Makes ct_tables.toml, x-ray spectra and attenuation coefficients, once, with spekpy and xraydb.

Run as `python inference/physics/make_tables.py` in a virtual environment of its own with spekpy and xraydb from
PyPI; neither is needed to run or test anything else.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

TABLES_FILE = Path(__file__).with_name("ct_tables.toml")

BIN_KEV = 4
ENERGIES_KEV = tuple(range(18, 140, BIN_KEV))
"""Centres of the energy bins."""

TUBE_KVP = (70, 80, 90, 100, 110, 120, 130, 140)
ANODE_ANGLE_DEG = 8.0
FILTER_MM_ALUMINIUM = 7.0

# Density in g/cm3 and mass fractions. Cortical bone: ICRU report 44. Cobalt-chromium: ASTM F75, rounded. Steel 316L:
# the middle of ASTM F138. Amalgam: equal masses of mercury and a dispersed-phase alloy of 69 % silver, 18 % tin, 12 %
# copper and 1 % zinc. Zirconia: 3 mol% yttria, ISO 13356.
MATERIALS: dict[str, tuple[float, dict[str, float]]] = {
    "water": (1.0, {"H": 0.1119, "O": 0.8881}),
    "bone": (
        1.92,
        {
            "H": 0.034,
            "C": 0.155,
            "N": 0.042,
            "O": 0.435,
            "Na": 0.001,
            "Mg": 0.002,
            "P": 0.103,
            "S": 0.003,
            "Ca": 0.225,
        },
    ),
    "titanium": (4.51, {"Ti": 1.0}),
    "iron": (7.87, {"Fe": 1.0}),
    "cobalt_chromium": (8.3, {"Co": 0.65, "Cr": 0.285, "Mo": 0.065}),
    "gold": (19.3, {"Au": 1.0}),
    "steel_316l": (7.95, {"Fe": 0.63, "Cr": 0.18, "Ni": 0.14, "Mo": 0.03, "Mn": 0.02}),
    "zirconia": (6.05, {"Zr": 0.702, "Y": 0.041, "O": 0.257}),
    "amalgam": (11.3, {"Hg": 0.5, "Ag": 0.345, "Sn": 0.09, "Cu": 0.06, "Zn": 0.005}),
    "tantalum": (16.65, {"Ta": 1.0}),
}


def tube_spectrum(spekpy: Any, kvp: int) -> list[float]:
    """Share of the photons in each energy bin behind the filter, summing to one."""
    spectrum = spekpy.Spek(kvp=kvp, th=ANODE_ANGLE_DEG, dk=0.5)
    spectrum.filter("Al", FILTER_MM_ALUMINIUM)
    energies_kev, fluence = spectrum.get_spectrum()
    bins = [0.0] * len(ENERGIES_KEV)
    for energy_kev, photons in zip(energies_kev, fluence, strict=True):
        index = int((energy_kev - ENERGIES_KEV[0] + BIN_KEV / 2) // BIN_KEV)
        if 0 <= index < len(bins):
            bins[index] += float(photons)
    total = sum(bins)
    return [share / total for share in bins]


def attenuation_per_cm(xraydb: Any, density: float, fractions: dict[str, float]) -> list[float]:
    """Linear attenuation coefficient at each bin's centre, 1/cm."""
    energies_ev = [1000.0 * energy for energy in ENERGIES_KEV]
    total = [0.0] * len(energies_ev)
    for element, fraction in fractions.items():
        for index, per_gram in enumerate(xraydb.mu_elam(element, energies_ev)):
            total[index] += density * fraction * float(per_gram)
    return total


def tables_text(spekpy: Any, xraydb: Any) -> str:
    """The whole file as TOML."""

    def row(values: list[float]) -> str:
        return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"

    lines = [
        "# Made by inference/physics/make_tables.py; do not edit.",
        f"# Spectra: shares of photons, by spekpy {spekpy.__version__}",
        f"# (tungsten anode at {ANODE_ANGLE_DEG:g} degrees, {FILTER_MM_ALUMINIUM:g} mm aluminium).",
        "# Attenuation: xraydb (Elam, Ravel and Sieber 2002), 1/cm, coherent scatter included.",
        f"energies_kev = {list(ENERGIES_KEV)}",
        "",
        "[spectra]",
        *(f"{kvp} = {row(tube_spectrum(spekpy, kvp))}" for kvp in TUBE_KVP),
        "",
        "[attenuation_per_cm]",
        *(f"{name} = {row(attenuation_per_cm(xraydb, *material))}" for name, material in MATERIALS.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLES_FILE.write_text(tables_text(import_module("spekpy"), import_module("xraydb")), encoding="utf-8")
