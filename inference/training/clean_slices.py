"""Trains the diffusion model of clean slices that `dual_domain_diffusion` begins from.

    python -m inference.training.clean_slices scenes out --steps 20000

Reads the clean slices of the scenes that inference.training.mar_scenes makes; goes on where an earlier run stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from inference.networks.diffusion import CHANNELS, HIGHEST_LEVEL, LOWEST_LEVEL, denoised, noised
from inference.networks.unet import UNet
from inference.training.crops import Crops
from inference.training.loop import Batch, train
from inference.training.manifest_draft import Recipe
from inference.training.mar_objectives import Objective
from inference.training.options import begin, end, recipe_parser, words_of

WIDTHS = (32, 64, 96, 128, 128)
GIVEN = ("noisy slice, scaled as inference.networks.diffusion says", "a quarter of the log of the noise in 1000 HU")
HELD_OUT_LEVELS = (0.03, 0.1, 0.3)
MEAN_LOG_LEVEL, SPREAD_LOG_LEVEL = -2.3, 1.2
"""Of the levels drawn in training: half of them lie between 45 and 225 HU, where a correction begins and ends."""


class Denoising(Objective):
    """Squared error, weighted so that each level counts the same (Karras et al. 2022)."""

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        return (counted * (made - true) ** 2).mean()


class NoisyCrops:
    """Clean crops with noise of a random level; `given` holds the noisy crop and its level, `counted` the weight."""

    def __init__(self, crops: Crops, seed: int) -> None:
        self._crops, self._seed = crops, seed

    def batch(self, number: int, scenes: int, level: float | None = None) -> Batch:
        """The same for the same number; with one level for all where one is given."""
        _, clean, _ = self._crops.batch(number, scenes)
        random = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        drawn = (MEAN_LOG_LEVEL + SPREAD_LOG_LEVEL * torch.randn(scenes, generator=random)).exp()
        at = drawn.clamp(LOWEST_LEVEL, HIGHEST_LEVEL) if level is None else torch.full((scenes,), level)
        noisy = noised(clean, at, random)
        broad = at.view(-1, 1, 1, 1).expand_as(clean)
        return torch.cat([noisy, broad], 1), clean, (broad**2 + 0.25) / (0.5 * broad) ** 2


def cleaned(network: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """What the model makes of a batch of NoisyCrops."""
    return denoised(network, given[:, :1], given[:, 1, 0, 0])


def held_out_figures(noisy: NoisyCrops, device: str) -> Callable[[nn.Module], dict[str, float]]:
    """Root mean square error in HU at a few levels of noise, on the same crops each time."""
    batches = {level: noisy.batch(1, 6, level) for level in HELD_OUT_LEVELS}

    def figures(network: nn.Module) -> dict[str, float]:
        result = {}
        with torch.inference_mode():
            for level, (given, clean, _) in batches.items():
                error = cleaned(network, given.to(device)).cpu() - clean
                result[f"{1000 * level:.0f} HU of noise"] = 1000 * math.sqrt(float((error**2).mean()))
        return result

    return figures


def main() -> None:
    """Trains until the steps or the minutes are over."""
    chosen = recipe_parser(__doc__, steps=20000, batch=4, crop=256).parse_args()
    plan, crops, held = begin(chosen)
    done = train(
        UNet(CHANNELS, 1, WIDTHS, residual=True),
        Denoising(),
        plan,
        batches=NoisyCrops(crops, chosen.seed).batch,
        made_by=cleaned,
        held_out=held_out_figures(NoisyCrops(held, chosen.seed + 1), chosen.device),
        folder=chosen.folder,
    )
    recipe = Recipe(
        "unet",
        {"channels_in": CHANNELS, "channels_out": 1, "widths": WIDTHS, "residual": True},
        GIVEN,
        "1000 HU, scaled as inference.networks.diffusion says",
        words_of(chosen, "clean_slices"),
    )
    end(chosen, recipe, done=done)


if __name__ == "__main__":
    main()
