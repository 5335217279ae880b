"""The x-rays of the second CT scanner (mar_second_scanner.py): spectrum, attenuation, quanta and water correction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.special import ndtri

Image = NDArray[np.float32]
Values = NDArray[np.float64]

BIN_KEV = 3.0
ENERGIES_KEV = (20.1, 25, 30, 40, 50, 60, 80, 100, 140)
# cm2/g at these energies: Chantler 1995 by way of xraydb; the simulator of inference.physics uses Elam 2002.
PER_GRAM: dict[str, tuple[float, ...]] = {
    "Al": (3.291, 1.808, 1.12, 0.5657, 0.3678, 0.2788, 0.2039, 0.173, 0.145),
    "Ti": (15.35, 8.264, 4.877, 2.151, 1.18, 0.7481, 0.3995, 0.2684, 0.1747),
    "V": (17.06, 9.252, 5.459, 2.402, 1.31, 0.824, 0.4313, 0.2837, 0.1791),
    "Cr": (19.63, 10.68, 6.321, 2.777, 1.508, 0.9417, 0.4841, 0.3122, 0.191),
    "Fe": (24.87, 13.54, 8.097, 3.549, 1.911, 1.18, 0.5887, 0.3672, 0.2128),
    "Ni": (31.37, 17.11, 10.24, 4.535, 2.428, 1.486, 0.7241, 0.4399, 0.2425),
    "Cu": (33.05, 18.06, 10.82, 4.817, 2.573, 1.57, 0.7575, 0.4549, 0.245),
    "Mo": (80.2, 45.38, 27.9, 12.87, 6.934, 4.213, 1.952, 1.087, 0.4855),
    "Ag": (17.62, 9.959, 36.92, 16.97, 9.346, 5.686, 2.626, 1.451, 0.6281),
    "Sn": (20.7, 11.54, 40.91, 19.2, 10.58, 6.495, 2.999, 1.651, 0.7071),
    "Ta": (61.34, 34.88, 21.47, 10.02, 5.619, 3.499, 7.564, 4.244, 1.798),
    "Hg": (78.61, 45.03, 27.9, 12.96, 7.272, 4.571, 2.225, 5.226, 2.229),
}
K_EDGE_KEV = {"Ag": 25.514, "Sn": 29.2, "Ta": 67.416, "Hg": 83.102}
# NIST XCOM: water, and cortical bone of ICRU report 44.
TISSUE_KEV = (20, 30, 40, 50, 60, 80, 100, 150)
WATER_PER_CM = (0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505)
BONE_PER_CM = (7.682, 2.556, 1.278, 0.8145, 0.6044, 0.428, 0.3562, 0.2842)
# Density in g/cm3 and parts by mass: Ti-6Al-4V, AISI 316L, amalgam mixed one to one, and tantalum.
METALS: dict[str, tuple[float, dict[str, float]]] = {
    "titanium_alloy": (4.43, {"Ti": 90, "Al": 6, "V": 4}),
    "steel": (7.99, {"Fe": 68, "Cr": 17, "Ni": 12, "Mo": 3}),
    "amalgam": (11.0, {"Hg": 50, "Ag": 30, "Sn": 13, "Cu": 7}),
    "tantalum": (16.69, {"Ta": 100}),
}
MEDIAN_CELLS = 5


@dataclass(frozen=True, slots=True)
class SecondProtocol:
    """How the second scanner looks.

    quanta: per cell and view in air; electronic_kev: standard deviation of the electronics' noise as energy.
    starved_quanta: below this many in air's units a cell takes the median of its neighbours.
    scatter: see _scatter; scatter_removed: the share of it that the scanner takes off again.
    cell_mm: width of a cell at the centre of rotation; views: in fours; cutoff: share of the highest frequency at which
    the kernel has fallen to half.
    """

    kvp: float = 135.0
    aluminium_mm: float = 5.0
    copper_mm: float = 0.2
    quanta: float = 8e5
    electronic_kev: float = 600.0
    starved_quanta: float = 40.0
    scatter: float = 0.006
    scatter_removed: float = 0.8
    source_distance_mm: float = 541.0
    cell_mm: float = 0.55
    views: int = 960
    cutoff: float = 0.7

    def __post_init__(self) -> None:
        if self.views % 4 or self.views < 4:
            raise ValueError(f"views come in fours, not {self.views}")


class SecondBeam:
    """The tube's spectrum as the detector weighs it, what materials let through, and the correction for water."""

    def __init__(self, protocol: SecondProtocol, metal: str) -> None:
        energies = np.arange(21 + BIN_KEV / 2, protocol.kvp, BIN_KEV)
        filters = protocol.aluminium_mm / 10 * 2.70 * _element(energies, "Al")
        filters += protocol.copper_mm / 10 * 8.96 * _element(energies, "Cu")
        # Kramers 1923: photons of a thick target fall as (E0 - E) / E.
        photons = (protocol.kvp - energies) / energies * np.exp(-filters)
        self._quanta = protocol.quanta * photons / photons.sum()
        self._kev = energies
        self._signal = photons * energies / (photons * energies).sum()
        self._air_kev = float((self._quanta * energies).sum())
        self._floor = protocol.electronic_kev / self._air_kev
        self._starved = protocol.starved_quanta / protocol.quanta
        water, bone = (
            np.exp(np.interp(np.log(energies), np.log(TISSUE_KEV), np.log(row))) for row in (WATER_PER_CM, BONE_PER_CM)
        )
        density, parts = METALS[metal]
        whole = sum(parts.values())
        alloy = sum(
            (share / whole * _element(energies, name) for name, share in parts.items()), np.zeros_like(energies)
        )
        self._per_cm = np.stack([water, bone, density * alloy]).astype(np.float32)
        # HU follow the mean energy that is left behind 20 cm of water, for which scanners are calibrated.
        behind = self._signal * np.exp(-20 * water)
        self.bone_to_water = float((behind * bone).sum() / (behind * water).sum())
        path_cm = np.linspace(0.05, 90, 1800)
        logs = -np.log(self.transmitted(np.stack([path_cm, 0 * path_cm, 0 * path_cm], -1)).astype(np.float64))
        powers = logs[:, None] ** np.arange(1, 7)
        self._polynomial = np.linalg.lstsq(powers / path_cm[:, None], np.ones_like(path_cm), rcond=None)[0]

    def transmitted(self, paths_cm: NDArray[np.floating]) -> Image:
        """Share of the air signal behind (..., 3) centimetres of water, bone and metal."""
        return np.asarray(self.through(paths_cm) @ self._signal.astype(np.float32))

    def through(self, paths_cm: NDArray[np.floating]) -> Image:
        """(..., bins) share of the quanta of each energy behind (..., 3) centimetres."""
        return np.asarray(np.exp(-(paths_cm.astype(np.float32) @ self._per_cm)))

    def counted(self, through: Image, random: np.random.Generator) -> Values:
        """The signal, with air's as one, of quanta drawn for each energy, and the electronics' noise."""
        quanta = _poisson(through * self._quanta, random.random(through.shape))
        return np.asarray((quanta @ self._kev) / self._air_kev + self._floor * random.standard_normal(len(quanta)))

    def water_cm(self, signal: NDArray[np.floating]) -> Image:
        """Centimetres of water that would leave that signal."""
        logs = -np.log(np.maximum(signal.astype(np.float64), self._floor))
        path = np.zeros_like(logs)
        for coefficient in self._polynomial[::-1]:
            path = (path + coefficient) * logs
        return path.astype(np.float32)

    def calmed(self, signal: Image) -> Image:
        """(views, cells) with the median of neighbours where next to nothing was counted."""
        median = median_filter(signal, (1, MEDIAN_CELLS))
        return np.where(median < self._starved, median, signal)

    def tissues(self, hu: Image) -> tuple[Image, Image]:
        """Water and bone as shares of full density: from 150 HU up to pure bone more and more of it is bone."""
        attenuation = np.maximum(hu / 1000 + 1, 0)
        bone_share = np.clip((attenuation - 1.15) / (self.bone_to_water - 1.15), 0, 1)
        bone = np.where(bone_share < 1, bone_share, attenuation / self.bone_to_water)
        water = np.maximum(attenuation - bone * self.bone_to_water, 0)
        return water.astype(np.float32), bone.astype(np.float32)


def _poisson(mean: Values, luck: Values) -> Values:
    """Poisson numbers of those means by inversion of uniform numbers.

    Two scans that differ in little then differ in little: a generator's own way of drawing would lose step.
    """
    normal = ndtri(luck)
    # Cornish and Fisher 1938: right to a hundredth of a quantum from a mean of thirty
    counts = np.maximum(np.rint(mean + np.sqrt(mean) * normal + (normal**2 - 1) / 6), 0)
    few = np.flatnonzero(mean < 30)
    left, rate = luck.flat[few], mean.flat[few]
    term = np.exp(-rate)
    counts.flat[few] = 0
    for number in range(1, 100):
        left = left - term
        going = left > 0
        if not going.any():
            break
        few, left, rate, term = few[going], left[going], rate[going], term[going] * rate[going] / number
        counts.flat[few] = number
    return counts


def _element(energies_kev: Values, name: str) -> Values:
    """cm2/g by straight lines in logarithms, on each side of the K edge for itself."""
    known, values = np.log(ENERGIES_KEV), np.log(PER_GRAM[name])
    edge = math.log(K_EDGE_KEV.get(name, ENERGIES_KEV[0]))
    wanted = np.log(energies_kev)
    result = np.empty_like(wanted)
    for side, points in ((wanted < edge, known < edge), (wanted >= edge, known >= edge)):
        if side.any():
            result[side] = _line(wanted[side], known[points], values[points])
    return np.exp(result)


def _line(wanted: Values, known: Values, values: Values) -> Values:
    """Linear interpolation that goes on beyond the first and last known point with the slope that it has there."""
    index = np.clip(np.searchsorted(known, wanted) - 1, 0, len(known) - 2)
    slope = (values[index + 1] - values[index]) / (known[index + 1] - known[index])
    return np.asarray(values[index] + slope * (wanted - known[index]))
