"""Simulates what a CT scanner makes of a clean slice: metal artifacts, and the noise of a lower dose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtri, pdtrik

from inference.physics.fan_geometry import Detector, FanGeometry, covering_fan
from inference.physics.projection import FanBeamProjector, fan_beam_projector
from inference.physics.spectra import METALS, CtTables, ct_tables

REFERENCE_KEV = 70.0
BATCH_SLICES = 8
BONE_BEGINS_HU = 100.0
BONE_IS_PURE_HU = 1500.0


@dataclass(frozen=True, slots=True)
class CtProtocol:
    """How the simulated scanner looks.

    photons: quanta per ray and cell in air; electronic_noise: its standard deviation in quanta.
    starved_quanta: below about this many quanta a ray is smoothed with its neighbours.
    scatter: scattered signal as a share of the smoothed primary, uncorrected.
    source_distance_mm: source to the centre of rotation; detector: flat or arc, as in fan_geometry.
    window: FBP's kernel, one of ramp_filter.WINDOWS.
    lowest_hu, highest_hu: where the stored numbers end; 12 bits end at 3071.
    """

    kvp: int = 120
    photons: float = 1e6
    electronic_noise: float = 10.0
    starved_quanta: float = 100.0
    scatter: float = 0.0
    source_distance_mm: float = 595.0
    cells_per_pixel: float = 1.2
    views_per_pixel: float = 1.6
    window: str = "hamming"
    detector: Detector = "flat"
    lowest_hu: float = -1024.0
    highest_hu: float = 3071.0


def scanner_fan(size: int, *, spacing_mm: float, protocol: CtProtocol) -> FanGeometry:
    """The protocol's fan over an image of that many pixels of that size, at true scale."""
    distance = max(protocol.source_distance_mm / spacing_mm, 0.55 * size)
    return covering_fan(
        size,
        source_distance=distance,
        cells_per_pixel=protocol.cells_per_pixel,
        views_per_pixel=protocol.views_per_pixel,
        detector=protocol.detector,
    )


def simulate_metal_ct(
    clean_hu: NDArray[np.float32],
    metal_mask: NDArray[np.bool_] | NDArray[np.float32],
    *,
    metal: str = "titanium",
    spacing_mm: float,
    seed: int,
    protocol: CtProtocol | None = None,
) -> NDArray[np.float32]:
    """The slices as reconstructed with metal in them, HU, (slices, rows, columns).

    clean_hu: (slices, size, size) HU, square. metal_mask: the same shape, True or the metal's share of each voxel.
    What the metal adds is the difference of two reconstructions, so the anatomy keeps its own sharpness and noise, and
    noise is added only on rays through metal. Voxels where no ray through metal passes barely change.
    """
    protocol = protocol or CtProtocol()
    if metal not in METALS:
        raise ValueError(f"metal is one of {', '.join(METALS)}, not {metal!r}")
    projector = _projector(clean_hu, spacing_mm, protocol)
    beam = _Beam(ct_tables(), protocol, metal)
    random = np.random.default_rng(seed)
    share = _soft_edged(metal_mask)
    result = clean_hu.astype(np.float32, copy=True)
    with_metal = np.flatnonzero(share.any(axis=(1, 2)))
    for start in range(0, len(with_metal), BATCH_SLICES):
        chosen = with_metal[start : start + BATCH_SLICES]
        result[chosen] += _metal_difference(projector, beam, clean_hu[chosen], share[chosen], spacing_mm, random)
    return np.clip(result, protocol.lowest_hu, protocol.highest_hu)


def simulate_low_dose_ct(
    clean_hu: NDArray[np.float32],
    dose_fraction: float,
    *,
    spacing_mm: float,
    seed: int,
    protocol: CtProtocol | None = None,
) -> NDArray[np.float32]:
    """The slices as they would look at that fraction of their dose: HU, (slices, size, size), square.

    Adds the noise by which the lower dose exceeds the full one, with the correlation that the reconstruction gives it.
    """
    if not 0 < dose_fraction <= 1:
        raise ValueError(f"the dose fraction is above 0 and at most 1, not {dose_fraction}")
    protocol = protocol or CtProtocol()
    projector = _projector(clean_hu, spacing_mm, protocol)
    beam = _Beam(ct_tables(), protocol, METALS[0])
    random = np.random.default_rng(seed)
    result = clean_hu.astype(np.float32, copy=True)
    for start in range(0, len(clean_hu), BATCH_SLICES):
        chosen = slice(start, start + BATCH_SLICES)
        water, bone = (_paths_cm(projector, part, spacing_mm) for part in beam.materials(clean_hu[chosen]))
        quanta = protocol.photons * beam.signal(water, bone, None)
        low = dose_fraction * quanta
        electronic = protocol.electronic_noise**2
        variance = (low + electronic) / np.maximum(low, 1) ** 2 - (quanta + electronic) / np.maximum(quanta, 1) ** 2
        noise = random.standard_normal(quanta.shape, np.float32) * np.sqrt(np.maximum(variance, 0))
        result[chosen] += _reconstructed_hu(projector, beam, noise.astype(np.float32), spacing_mm)
    return np.clip(result, protocol.lowest_hu, protocol.highest_hu)


class _Beam:
    """One beam: what tissue is made of, the signal behind it, and the correction for water's hardening."""

    def __init__(self, tables: CtTables, protocol: CtProtocol, metal: str) -> None:
        self.protocol = protocol
        self._signal_share = tables.detected(protocol.kvp).astype(np.float32)
        rows = (tables.attenuation_per_cm[name] for name in ("water", "bone", metal))
        self._water, self._bone, self._metal = (row.astype(np.float32) for row in rows)
        self.water_per_cm = tables.attenuation_at("water", REFERENCE_KEV)
        self._bone_per_cm = tables.attenuation_at("bone", REFERENCE_KEV)
        self._water_cm = np.linspace(0, 400, 8001)
        self._water_signal_log = -np.log(self.signal(self._water_cm.astype(np.float32), None, None).astype(np.float64))

    def materials(self, hu: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Water and bone as shares of their full density; at the reference energy they attenuate as the HU say."""
        attenuation = np.maximum(hu / 1000 + 1, 0)
        bone_share = np.clip((hu - BONE_BEGINS_HU) / (BONE_IS_PURE_HU - BONE_BEGINS_HU), 0, 1)
        bone = attenuation * bone_share * (self.water_per_cm / self._bone_per_cm)
        return (attenuation * (1 - bone_share)).astype(np.float32), bone.astype(np.float32)

    def signal(
        self, water_cm: NDArray[np.float32], bone_cm: NDArray[np.float32] | None, metal_cm: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Share of the air signal that is left behind these paths (Beer-Lambert over the spectrum)."""
        water = torch.from_numpy(np.ascontiguousarray(water_cm))
        bone = None if bone_cm is None else torch.from_numpy(np.ascontiguousarray(bone_cm))
        metal = None if metal_cm is None else torch.from_numpy(np.ascontiguousarray(metal_cm))
        total = torch.zeros_like(water)
        for share, by_water, by_bone, by_metal in zip(
            self._signal_share, self._water, self._bone, self._metal, strict=True
        ):
            if share < 1e-6:
                continue
            path = water * float(by_water)
            if bone is not None:
                path.add_(bone, alpha=float(by_bone))
            if metal is not None:
                path.add_(metal, alpha=float(by_metal))
            total.add_(path.neg_().exp_(), alpha=float(share))
        signal: NDArray[np.float32] = total.numpy()
        return signal

    def corrected(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Line integral at the reference energy, as if all of the path were water."""
        measured = -np.log(np.maximum(signal, max(self.protocol.electronic_noise, 1) / self.protocol.photons))
        path_cm = np.interp(measured, self._water_signal_log, self._water_cm)
        return (path_cm * self.water_per_cm).astype(np.float32)


def _metal_difference(
    projector: FanBeamProjector,
    beam: _Beam,
    clean_hu: NDArray[np.float32],
    share: NDArray[np.float32],
    spacing_mm: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    protocol = beam.protocol
    water, bone = beam.materials(clean_hu)
    clean_paths = [_paths_cm(projector, part, spacing_mm) for part in (water, bone)]
    metal_paths = [_paths_cm(projector, part * (1 - share), spacing_mm) for part in (water, bone)]
    metal_cm = _paths_cm(projector, share, spacing_mm)
    primary = _with_scatter(_cell_mean(beam, metal_paths[0], metal_paths[1], metal_cm), protocol)
    trace = metal_cm > 1e-4
    quanta = _poisson(protocol.photons * primary[trace].astype(np.float64), random.random(int(trace.sum())))
    counts = quanta + protocol.electronic_noise * random.standard_normal(len(quanta))
    primary[trace] = counts / protocol.photons
    primary = _smoothed_where_starved(primary, protocol)
    clean = _with_scatter(_cell_mean(beam, clean_paths[0], clean_paths[1], None), protocol)
    return _reconstructed_hu(projector, beam, beam.corrected(primary) - beam.corrected(clean), spacing_mm)


def _poisson(mean: NDArray[np.float64], luck: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poisson numbers of those means for uniform random numbers, one each.

    A generator's own method takes as many random numbers as it happens to need, so that with a faint lesion all rays
    would have another noise; here the same seed gives slices that differ by the lesion alone.
    """
    normal = ndtri(luck)
    # Cornish and Fisher 1938, right to a hundredth of a quantum from a mean of thirty; below it the exact inverse.
    quanta = np.maximum(np.rint(mean + np.sqrt(mean) * normal + (normal**2 - 1) / 6), 0)
    few = mean < 30
    quanta[few] = np.where(luck[few] <= np.exp(-mean[few]), 0, np.ceil(pdtrik(luck[few], mean[few])))
    return quanta


def _with_scatter(primary: NDArray[np.float32], protocol: CtProtocol) -> NDArray[np.float32]:
    """The primary signal and a share of its broad average, which fills in where metal leaves none."""
    if not protocol.scatter:
        return primary
    broad = gaussian_filter1d(primary, 0.1 * primary.shape[-1], axis=-1)
    return np.asarray(primary + protocol.scatter * broad, np.float32)


def _smoothed_where_starved(signal: NDArray[np.float32], protocol: CtProtocol) -> NDArray[np.float32]:
    """Rays with few quanta take the mean of their neighbours, as scanners do before the logarithm (Hsieh 1998)."""
    smooth = gaussian_filter1d(gaussian_filter1d(signal, 2.0, axis=-1), 1.0, axis=-2)
    starved = 1 / (1 + np.maximum(smooth, 0) * protocol.photons / protocol.starved_quanta)
    return (signal + starved * (smooth - signal)).astype(np.float32)


def _cell_mean(
    beam: _Beam, water: NDArray[np.float32], bone: NDArray[np.float32], metal: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Signal over the width of each cell: the mean of two rays a quarter of a cell either side."""

    def aside(path: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        neighbour = np.roll(path, step, axis=-1)
        return 0.75 * path + 0.25 * neighbour

    halves = [
        beam.signal(aside(water, step), aside(bone, step), None if metal is None else aside(metal, step))
        for step in (-1, 1)
    ]
    return np.asarray((halves[0] + halves[1]) / 2, np.float32)


def _projector(clean_hu: NDArray[np.float32], spacing_mm: float, protocol: CtProtocol) -> FanBeamProjector:
    rows, columns = clean_hu.shape[1:]
    if rows != columns:
        raise ValueError(f"the simulation takes square slices, not {rows} x {columns}")
    return fan_beam_projector(scanner_fan(rows, spacing_mm=spacing_mm, protocol=protocol))


def _paths_cm(projector: FanBeamProjector, share: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    paths: NDArray[np.float32] = projector.forward(torch.from_numpy(np.ascontiguousarray(share))).numpy()
    return paths * np.float32(spacing_mm / 10)


def _reconstructed_hu(
    projector: FanBeamProjector, beam: _Beam, sinograms: NDArray[np.float32], spacing_mm: float
) -> NDArray[np.float32]:
    """HU above the HU of nothing: a line integral of zero gives zero."""
    images = projector.filtered_backprojection(torch.from_numpy(sinograms), window=beam.protocol.window).numpy()
    return np.asarray(images * np.float32(1000 / (beam.water_per_cm * spacing_mm / 10)), np.float32)


def _soft_edged(metal_mask: NDArray[np.bool_] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The metal's share of each voxel; a mask of True and False gets partial volume along its edge."""
    if metal_mask.dtype != np.bool_:
        return np.clip(metal_mask, 0, 1).astype(np.float32)
    share = torch.from_numpy(np.ascontiguousarray(metal_mask)).to(torch.float32)[:, None]
    weights = torch.tensor([0.16, 0.68, 0.16])
    kernel = torch.outer(weights, weights)[None, None]
    softened: NDArray[np.float32] = torch.nn.functional.conv2d(share, kernel, padding=1)[:, 0].numpy()
    return softened
