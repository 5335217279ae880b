"""A diffusion model of clean slices: the forward process, its denoiser, and the reverse process in a few steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

DATA_DEVIATION = 0.5
"""Of clean slices in the network's unit (1000 HU), air included."""
LOWEST_LEVEL, HIGHEST_LEVEL = 0.005, 2.0
"""Noise deviations that the model knows, 1000 HU: 5 to 2000 HU."""
SPACING_POWER = 7.0
CHANNELS = 2
"""The noisy slice, scaled, and the level of its noise."""


def noised(clean: torch.Tensor, level: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """The forward process: (images, 1, rows, columns) with noise of that deviation, (images,), added."""
    noise = torch.randn(clean.shape, generator=random).to(clean.device)
    return clean + level.view(-1, 1, 1, 1) * noise


def denoised(network: nn.Module, noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """What the network takes for the clean slices: (images, 1, rows, columns) in 1000 HU, of noise of that deviation.

    Input and output are scaled so that the network sees and makes numbers of order one at every level (Karras et al.
    2022, table 1).
    """
    level = level.view(-1, 1, 1, 1).to(noisy.dtype)
    total = (level**2 + DATA_DEVIATION**2).sqrt()
    given = torch.cat([noisy / total, (level.log() / 4).expand_as(noisy)], 1)
    made = network(given.contiguous(memory_format=torch.channels_last)).float()
    result: torch.Tensor = (DATA_DEVIATION / total) ** 2 * noisy + level * DATA_DEVIATION / total * made
    return result


def levels(steps: int, highest: float, lowest: float = LOWEST_LEVEL) -> torch.Tensor:
    """(steps + 1,) noise levels from highest to nought, wider apart the more noise there is (Karras et al. 2022)."""
    if steps < 1 or not lowest < highest <= HIGHEST_LEVEL:
        raise ValueError(f"levels fall from at most {HIGHEST_LEVEL} to {lowest} in one step or more, not {steps}")
    share = torch.linspace(0, 1, steps)
    ends = highest ** (1 / SPACING_POWER), lowest ** (1 / SPACING_POWER)
    return torch.cat([(ends[0] + share * (ends[1] - ends[0])) ** SPACING_POWER, torch.zeros(1)])


def reversed_process(
    network: nn.Module,
    noisy: torch.Tensor,
    falling: torch.Tensor,
    *,
    corrected: Callable[[torch.Tensor, float], torch.Tensor],
) -> torch.Tensor:
    """The clean slices that the noisy ones, (images, 1, rows, columns) with noise of the first level, become.

    Each step is a strided, deterministic one (Song et al. 2021). corrected: the clean slices as the network sees them
    at a level -> as the measurement wants them; this is where the data come in.
    """
    clean = noisy
    for level, following in zip(falling[:-1].tolist(), falling[1:].tolist(), strict=True):
        at = torch.full((len(noisy),), level)
        clean = corrected(denoised(network, noisy, at), level)
        noisy = clean + following / level * (noisy - clean)
    return clean
