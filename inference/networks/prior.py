"""A network as the prior of metal artifact reduction: what it sees, and what it makes of a virtual scan."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.physics.metal_artifact_reduction import VirtualScan, prior_image

Images = NDArray[np.float32]
HuValues = NDArray[np.int16] | NDArray[np.float32]

CHANNELS = 4
"""Spoiled, `li`, `nmar` (1000 HU each) and the metal found (0 or 1)."""
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
HU_A_UNIT = 1000.0
MIRRORED: tuple[list[int], ...] = ([], [-2], [-1], [-2, -1])
OWN_SHARE = 0.5
"""Of the network's own slice; the rest is the slice whose trace was filled as that slice says. More of the first gains
a third of a dB on simulated metal, and loses more of faint lesions and leaves more of a real scanner's streaks."""
PRIOR_SMOOTHING_MM = 2.0
"""Standard deviation in the soft tissue of the prior. With less, streaks that the network has left stay in it and
so in the result: without it less than half as much goes from a real dental case. With more, faint lesions go."""


def coded(values_hu: HuValues) -> Images:
    """HU as the network sees them: 1000 HU, cut off at the ends of 12 bits."""
    return np.clip(values_hu, LOWEST_HU, HIGHEST_HU).astype(np.float32) / np.float32(HU_A_UNIT)


def network_input(spoiled: HuValues, interpolated: HuValues, normalised: HuValues, metal: NDArray[np.bool_]) -> Images:
    """(slices, 4, rows, columns) of four times (slices, rows, columns): HU, HU, HU, and where metal was found."""
    return np.stack([coded(spoiled), coded(interpolated), coded(normalised), metal.astype(np.float32)], axis=1)


def answer(network: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """(slices, 1, rows, columns) in 1000 HU: what the network says is added to the `nmar` that it is given."""
    change: torch.Tensor = network(given.contiguous(memory_format=torch.channels_last))
    return given[:, 2:3] + change.float()


def network_prior(network: nn.Module, scan: VirtualScan, *, bf16: bool) -> tuple[Images, Images]:
    """What the network takes for the slices without metal, (slices, size, size) HU, and the `nmar` that it starts from.

    The network's answer is added to `nmar`; where that is beyond 12 bits the answer counts from there. It is the mean
    of four, of the slice and its mirror images.
    """
    interpolated = scan.images + scan.interpolation
    normalised = scan.images + scan.inpainted(scan.smooth_prior())
    given = torch.from_numpy(network_input(scan.images, interpolated, normalised, scan.metal))
    made = np.empty_like(normalised)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for index in range(len(given)):
            made[index] = _mean_of_mirrored(network, given[index : index + 1]).numpy()
    return np.asarray(normalised + made * np.float32(HU_A_UNIT), np.float32), normalised


def _mean_of_mirrored(network: nn.Module, given: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(given.shape[-2:])
    for axes in MIRRORED:
        one = torch.flip(given, axes).contiguous(memory_format=torch.channels_last)
        total += torch.flip(network(one).float(), axes)[0, 0]
    return total / len(MIRRORED)


def reduce_by_network(
    images_hu: Images, metal: NDArray[np.bool_], *, spacing_mm: float, network: nn.Module, bf16: bool
) -> Images:
    """(slices, rows, columns) HU with the network's slice as prior; the metal itself is not put back."""
    scan = VirtualScan(images_hu, metal, spacing_mm=spacing_mm)
    own, _ = network_prior(network, scan, bf16=bf16)
    return scan.applied(fused_change(scan, own))


def fused_change(scan: VirtualScan, own_hu: Images) -> Images:
    """(slices, size, size) HU, what the network's slices, `own_hu`, change in the scan's.

    Two images whose errors differ, weighted by OWN_SHARE: the network's own, and the virtual scan with its trace filled
    as the network's slice says (after Zhang and Yu 2018, whose network made the prior).
    """
    prior = prior_image(own_hu, scan.metal, spacing_mm=scan.spacing_mm, smoothing_mm=PRIOR_SMOOTHING_MM)
    filled = scan.inpainted(prior)
    return np.asarray(filled + OWN_SHARE * (own_hu - scan.images - filled), np.float32)
