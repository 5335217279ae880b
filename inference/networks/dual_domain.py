"""Metal artifact reduction by diffusion in two domains: a model of clean slices, led by what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import nn

from inference.networks.diffusion import levels, noised, reversed_process
from inference.networks.prior import HIGHEST_HU, HU_A_UNIT, LOWEST_HU, coded
from inference.physics.metal_artifact_reduction import VirtualScan

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Guidance:
    """How the two domains are weighed in one anatomy.

    start: noise deviation that the interpolated slices begin with, 1000 HU; more lets the model change more.
    reach_mm: how far from metal the model's own image counts. near_share: its weight at the metal when no noise is
    left; while there is much, the sinogram leads.
    """

    start: float
    reach_mm: float
    near_share: float


ANATOMY: Mapping[str, Guidance] = MappingProxyType(
    {
        "head": Guidance(start=0.4, reach_mm=40.0, near_share=1.0),
        "spine": Guidance(start=0.6, reach_mm=60.0, near_share=1.0),
        "hip": Guidance(start=0.8, reach_mm=60.0, near_share=1.0),
        "other": Guidance(start=0.8, reach_mm=60.0, near_share=1.0),
    }
)
"""Chosen on four trunks with metal, noise of 100 to 800 HU and reaches of 12 to 150 mm beside each other. In heads and
spines, which were not measured, small structures lie beside the metal: there the model may change less."""
_WORDS = MappingProxyType(
    {
        "head": ("HEAD", "SKULL", "JAW", "MANDIBLE", "MAXILLA", "TOOTH", "NECK", "BRAIN", "FACE"),
        "spine": ("SPINE",),
        "hip": ("HIP", "PELVIS", "FEMUR", "THIGH", "SHOULDER", "HUMERUS", "KNEE", "EXTREMITY", "LEG"),
    }
)


def anatomy_of(body_part_examined: str) -> str:
    """The key of ANATOMY for a Body Part Examined (PS3.16 annex L); "other" where it names none of them."""
    words = body_part_examined.upper()
    return next((name for name, parts in _WORDS.items() if any(part in words for part in parts)), "other")


def reduce_by_diffusion(
    images_hu: Images,
    metal: Mask,
    *,
    spacing_mm: float,
    network: nn.Module,
    steps: int,
    guidance: Guidance,
    seed: int,
    bf16: bool = False,
) -> Images:
    """(slices, rows, columns) HU as `diffused` has them; the metal itself is not put back."""
    scan = VirtualScan(images_hu, metal, spacing_mm=spacing_mm)
    change = diffused(scan, network=network, steps=steps, guidance=guidance, seed=seed, bf16=bf16)
    return scan.applied(change)


def diffused(
    scan: VirtualScan, *, network: nn.Module, steps: int, guidance: Guidance, seed: int, bf16: bool = False
) -> Images:
    """(slices, size, size) HU, what changes when the trace is filled as a model of clean slices would have it.

    Begins at linear interpolation with noise; at each of `steps` levels the model's clean slice is scanned, its trace
    fills the measured sinogram's, and the two images are fused by a weight that falls with the distance to metal and
    grows as the noise falls. Every slice begins with the same noise, which the seed makes, and goes through the network
    alone: its result does not depend on the slices beside it, and slices alike become alike.
    """
    near = _nearness(scan.metal, reach_mm=guidance.reach_mm, spacing_mm=scan.spacing_mm)
    beyond_hu = np.zeros_like(scan.images)  # what is measured above and below the numbers that the model knows

    def fused(clean: torch.Tensor, level: float) -> torch.Tensor:
        model_hu = clean[:, 0].numpy() * np.float32(HU_A_UNIT)
        measured_hu = scan.images + scan.inpainted(model_hu)
        within_hu = np.clip(measured_hu, LOWEST_HU, HIGHEST_HU)
        np.subtract(measured_hu, within_hu, out=beyond_hu)
        weight = near * np.float32(guidance.near_share * (1 - level / guidance.start))
        return torch.from_numpy(coded(within_hu + weight * (model_hu - within_hu)))[:, None]

    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        begin = torch.from_numpy(coded(scan.images + scan.interpolation))[:, None]
        noise = noised(torch.zeros_like(begin[:1]), torch.full((1,), guidance.start), random)
        one_by_one = _OneByOne(network)
        clean = reversed_process(one_by_one, begin + noise, levels(steps, guidance.start), corrected=fused)
    return np.asarray(clean[:, 0].numpy() * np.float32(HU_A_UNIT) + beyond_hu - scan.images, np.float32)


class _OneByOne(nn.Module):
    """A network that sees one image at a time: in a batch it rounds in another way."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.network(images[index : index + 1]) for index in range(len(images))])


def _nearness(metal: Mask, *, reach_mm: float, spacing_mm: float) -> Images:
    """One at the metal, falling to 1/e at the reach."""
    distances = [np.asarray(distance_transform_edt(~one)) if one.any() else np.full(one.shape, np.inf) for one in metal]
    return np.exp(-np.stack(distances) * spacing_mm / reach_mm).astype(np.float32)
