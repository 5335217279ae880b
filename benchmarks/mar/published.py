"""Protocol (a): the simulation of the published comparisons, whose methods get the measured sinogram.

The setting of SynDeepLesion (InDuDoNet, DICDNet, OSCNet, ACDNet; after CNNMAR, Zhang and Yu 2018, and Yu et al. 2020):

- slices resampled to 416x416; a pixel counts as 512 / 416 * 0.3 mm whatever it was, so that bodies are 13 cm wide;
- a flat-detector fan, source 1075 pixels from the centre, 640 views over a full turn; 641 cells as wide as the image's
  diagonal at the centre (here 640 of the same width: the projector takes even numbers, and no ray through the inscribed
  circle is lost);
- water up to 100 HU, bone from 1500 HU, a mixture between, water 0.192 per cm at 70 keV; 120 kVp, an energy-blind
  detector, 2e7 quanta a ray and 20 of scatter, Poisson noise; titanium of 4.5 g/cm3 on top of the tissue, a quarter of
  its path at the ends of the trace in each view;
- the logarithm corrected for water by a polynomial of third order; FBP with an unwindowed ramp.

Ten metals of the published sizes (2061, 890, 881, 451, 254, 124, 118, 112, 53 and 35 pixels) in each slice. The
published outlines are not to be had here; these are drawn as pairs of hips, stems, screws, fillings, rods and clips.
Metric: see figures.py. The truth is the resampled slice itself; the methods get the trace of the true metal. How well
the same slice scanned without metal does depends on the body: 47 to 50 dB in smooth abdomens, 32 dB where a chest is
cut by the field of view. Figures are compared over several subjects, or as gains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import binary_erosion
from torch import nn

from benchmarks.mar.methods import settings_of
from benchmarks.mar.scenes import LESION_HU, Scene, disc, lesions_near, rod
from inference.mar_methods import SEED, weights_for
from inference.mar_settings import Settings, read_mar_settings
from inference.model_files import load_network
from inference.networks.dual_domain import ANATOMY, diffused
from inference.networks.prior import fused_change, network_prior
from inference.physics.metal_artifact_reduction import PRIOR_ERROR_MM, VirtualScan, prior_image
from inference.physics.projection import FanBeamProjector, FanGeometry, fan_beam_projector
from inference.physics.sinogram_inpainting import interpolated, normalised, with_measured_detail
from inference.physics.spectra import ct_tables

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIZE = 416
VIEWS, CELLS = 640, 640
SOURCE_PIXELS = 1075.0
WATER_PER_CM, WATER_UP_TO_HU, BONE_FROM_HU = 0.192, 100.0, 1500.0
KVP, REFERENCE_KEV = 120, 70.0
QUANTA, SCATTERED = 2e7, 20.0
METAL = "titanium"
METALS_A_SLICE = 10
FEWEST_SLICES = 3
"""Of ten metals each: at least as many pairs as the 21 that the known figures are from."""

Drawing = Callable[[float], Mask]


@dataclass(frozen=True, slots=True, eq=False)
class PublishedScenes:
    """The scenes of one slice, the scan of all without and with lesions, and the slice scanned without metal."""

    scenes: tuple[Scene, ...]
    scan: MeasuredScan
    metal_free: Image


class MeasuredScan:
    """What a scanner measured of slices with metal: a VirtualScan whose sinograms are true.

    sinograms: (slices, views, cells), attenuation relative to water times pixels; metal: (slices, size, size).
    """

    def __init__(self, sinograms: torch.Tensor, metal: Mask, *, spacing_mm: float, projector: FanBeamProjector) -> None:
        self.metal, self.spacing_mm = metal, spacing_mm
        self._projector, self._measured = projector, sinograms
        self._path = projector.forward(torch.from_numpy(metal.astype(np.float32)))
        self._trace = self._path > 0
        self.images = reconstructed(projector, sinograms)

    @cached_property
    def interpolation(self) -> Image:
        """(slices, size, size) HU, what linear interpolation of the trace changes."""
        return self._change(interpolated(self._measured, self._trace))

    def smooth_prior(self) -> Image:
        """(slices, size, size) HU, the prior of NMAR."""
        return prior_image(self.images + self.interpolation, self.metal, spacing_mm=self.spacing_mm)

    def inpainted(self, prior_hu: Image) -> Image:
        """(slices, size, size) HU, what changes when the trace is made as the prior says, with the measured detail."""
        attenuation = torch.from_numpy(np.maximum(prior_hu / 1000 + 1, 0).astype(np.float32))
        filled = normalised(self._measured, self._projector.forward(attenuation), self._trace)
        trust = PRIOR_ERROR_MM / self.spacing_mm
        return self._change(with_measured_detail(filled, self._measured, self._path, self._trace, trust=trust))

    def _change(self, sinograms: torch.Tensor) -> Image:
        return np.asarray(reconstructed(self._projector, sinograms) - self.images, np.float32)


def change_of(method: str) -> Callable[[MeasuredScan], Image] | None:
    """What a method of the benchmark changes in a measured scan, HU; None for what is left out of protocol (a).

    Left out is metal by the network: all methods of this protocol get the trace of the true metal.
    """
    settings = read_mar_settings(settings_of(method))
    if settings.metal_mask == "network":
        return None
    return partial(CHANGES[settings.method], settings=settings)


def prior_net_change(scan: MeasuredScan, *, settings: Settings) -> Image:
    """HU, as inference.networks.prior.reduce_by_network does with a virtual scan."""
    network, bf16 = _network(settings)
    # a measured scan answers all that a virtual one is asked
    of = cast(VirtualScan, scan)
    own, _ = network_prior(network, of, bf16=bf16)
    return fused_change(of, own)


def diffusion_change(scan: MeasuredScan, *, settings: Settings) -> Image:
    """HU, as inference.networks.dual_domain.reduce_by_diffusion does with a virtual scan of no known anatomy."""
    network, bf16 = _network(settings)
    guidance = ANATOMY["other"]
    of = cast(VirtualScan, scan)
    return diffused(of, network=network, steps=settings.steps, guidance=guidance, seed=SEED, bf16=bf16)


def _network(settings: Settings) -> tuple[nn.Module, bool]:
    manifest = weights_for(settings).method
    assert manifest is not None
    return load_network(manifest), manifest.bf16


CHANGES: Mapping[str, Callable[..., Image]] = {
    "li": lambda scan, settings: scan.interpolation,
    "nmar": lambda scan, settings: scan.inpainted(scan.smooth_prior()),
    "prior_net": prior_net_change,
    "dual_domain_diffusion": diffusion_change,
}
"""What a rung changes in a measured scan, HU, by scan and settings."""


def reconstructed(projector: FanBeamProjector, sinograms: torch.Tensor) -> Image:
    """HU of line integrals relative to water."""
    images: Image = projector.filtered_backprojection(sinograms, window="ramp").mul_(1000).sub_(1000).numpy()
    return images


def published_fan(size: int) -> FanGeometry:
    """The fan over that many pixels, to the scale of the published one."""
    pitch = math.hypot(SIZE, SIZE) / 641
    cells = 2 * math.ceil(size * CELLS / SIZE / 2)
    return FanGeometry(size, 8 * math.ceil(size * VIEWS / SIZE / 8), cells, SOURCE_PIXELS * size / SIZE, pitch)


def published_scenes(
    slices: NDArray[np.int16], *, spacing_mm: float, count: int, seed: int, size: int = SIZE
) -> Iterator[PublishedScenes]:
    """Ten metals in each of `count` slices spread over the stack."""
    spacing_mm *= slices.shape[1] / size
    projector = fan_beam_projector(published_fan(size))
    for number in range(count):
        chosen = slices[int((number + 0.5) * len(slices) / count)]
        whole = Picture.fromarray(chosen.astype(np.float32))
        clean = np.maximum(np.asarray(whole.resize((size, size), Picture.Resampling.BILINEAR)), np.float32(-1000))
        masks = ten_metals(clean)
        lesions = np.stack([lesions_near(clean, mask, spacing_mm=spacing_mm) for mask in masks])
        noise = [seed, number]
        with_metal = measured(np.stack([clean] * len(masks)), masks, projector, noise)
        lesion = measured(clean + np.float32(LESION_HU) * lesions.sum(axis=1), masks, projector, noise)
        free = measured(clean[None], np.zeros((1, size, size), bool), projector, noise)
        scan = MeasuredScan(
            torch.cat([with_metal, lesion]), np.concatenate([masks, masks]), spacing_mm=spacing_mm, projector=projector
        )
        scenes = tuple(
            Scene(
                f"{int(mask.sum())} pixels, {METAL}",
                clean,
                scan.images[index],
                scan.images[len(masks) + index],
                lesions[index],
                mask,
                spacing_mm,
            )
            for index, mask in enumerate(masks)
        )
        yield PublishedScenes(scenes, scan, reconstructed(projector, free)[0])


def measured(clean_hu: Image, metal: Mask, projector: FanBeamProjector, seed: list[int]) -> torch.Tensor:
    """(slices, views, cells) line integrals relative to water, in pixels, as the scanner's logarithm leaves them."""
    random = np.random.default_rng(seed)
    size = clean_hu.shape[1]
    pixel_cm = 512 / size * 0.03
    tables = ct_tables()
    attenuation = np.maximum(clean_hu / 1000 + 1, 0)
    bone_share = np.clip((clean_hu - WATER_UP_TO_HU) / (BONE_FROM_HU - WATER_UP_TO_HU), 0, 1)
    at_reference = [
        WATER_PER_CM * attenuation * (1 - bone_share),
        WATER_PER_CM * attenuation * bone_share,
        tables.attenuation_at(METAL, REFERENCE_KEV) * metal,
    ]
    paths = [projector.forward(torch.from_numpy(part.astype(np.float32))) * pixel_cm for part in at_reference]
    inside = paths[2].numpy() > 0
    ends = inside & ~binary_erosion(inside, structure=np.ones((1, 1, 3), bool))
    paths[2][torch.from_numpy(ends)] /= 4
    expected = QUANTA * _signal(paths).numpy().astype(np.float64) + SCATTERED
    counts = np.maximum(random.poisson(expected), 1)
    logs = np.log(QUANTA / counts)
    first, second, third = _water_polynomial()
    corrected = ((third * logs + second) * logs + first) * logs
    return torch.from_numpy((corrected / (WATER_PER_CM * pixel_cm)).astype(np.float32))


def _signal(paths: list[torch.Tensor]) -> torch.Tensor:
    """Share of the quanta behind these line integrals at the reference energy of water, bone and metal."""
    tables = ct_tables()
    total = torch.zeros_like(paths[0])
    materials = ("water", "bone", METAL)
    ratios = [tables.attenuation_per_cm[name] / tables.attenuation_at(name, REFERENCE_KEV) for name in materials]
    quanta = tables.spectra[KVP] / tables.spectra[KVP].sum()
    for index, share in enumerate(quanta):
        if share > 1e-6:
            path = sum(part * float(ratio[index]) for part, ratio in zip(paths, ratios, strict=True))
            total += float(share) * torch.exp(-torch.as_tensor(path))
    return total


@lru_cache(maxsize=1)
def _water_polynomial() -> tuple[float, float, float]:
    """What turns the logarithm behind 0 to 50 cm of water into the line integral at the reference energy."""
    line = torch.arange(0, 50.01, 0.05, dtype=torch.float64) * WATER_PER_CM
    nothing = torch.zeros_like(line)
    logs = -np.log(_signal([line, nothing, nothing]).numpy())
    powers = np.stack([logs, logs**2, logs**3], axis=1)
    first, second, third = np.linalg.lstsq(powers, line.numpy(), rcond=None)[0]
    return float(first), float(second), float(third)


def ten_metals(clean: Image) -> Mask:
    """(10, size, size): metal of the published sizes, to the scale of the slice, where it could lie in this body."""
    size = clean.shape[0]
    body = clean > -300
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    high, wide = np.ptp(rows), np.ptp(columns)

    def at(across: float, down: float) -> dict[str, float]:
        return {"x": float(columns[0] + across * wide), "y": float(rows[0] + down * high)}

    shape = (size, size)

    def discs(radius: float, *spots: tuple[float, float]) -> Mask:
        return np.asarray(np.stack([disc(shape, radius=radius, **at(*spot)) for spot in spots]).any(axis=0))

    def bars(length: float, width: float, *turned: tuple[float, float, float]) -> Mask:
        every = [rod(shape, length=length, width=width, angle=angle, **at(x, y)) for x, y, angle in turned]
        return np.asarray(np.stack(every).any(axis=0))

    screws = ((0.43, 0.66, 1.92), (0.57, 0.66, 1.22))
    teeth = tuple((0.5 + 0.13 * math.cos(angle), 0.42 - 0.16 * math.sin(angle)) for angle in (0.3, 0.9, 2.1, 2.7))
    drawings: tuple[tuple[int, Drawing], ...] = (
        (2061, lambda scale: discs(scale, (0.25, 0.55), (0.75, 0.55))),
        (890, lambda scale: discs(scale, (0.28, 0.57))),
        (881, lambda scale: bars(9 * scale, 2 * scale, *screws)),
        (451, lambda scale: discs(scale, (0.3, 0.6), (0.7, 0.6))),
        (254, lambda scale: discs(scale, *teeth)),
        (124, lambda scale: bars(8 * scale, scale, *screws)),
        (118, lambda scale: bars(9 * scale, scale, (0.6, 0.35, 0.5))),
        (112, lambda scale: discs(scale, (0.44, 0.76), (0.56, 0.76))),
        (53, lambda scale: bars(3 * scale, scale, (0.36, 0.45, 2.2))),
        (35, lambda scale: discs(scale, (0.55, 0.5))),
    )
    scaled = (size / SIZE) ** 2
    return np.stack([_of_area(drawing, pixels * scaled) for pixels, drawing in drawings])


def _of_area(drawing: Drawing, pixels: float) -> Mask:
    """The drawing at the scale whose area comes nearest."""
    scales = [float(scale) for scale in np.geomspace(0.5, 60, 400)]
    low, high = 0, len(scales) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if drawing(scales[middle]).sum() <= pixels else (low, middle)
    nearest = min((low, high), key=lambda index: abs(float(drawing(scales[index]).sum()) - pixels))
    return drawing(scales[nearest])
