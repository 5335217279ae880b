"""Trains the network that finds metal in spoiled slices, and tells its Dice beside the threshold's.

    python -m inference.training.metal_mask scenes out --held-out held_out_scenes

Goes on where an earlier run stopped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from inference.networks.metal_mask import CHANNELS, HALF
from inference.networks.unet import UNet
from inference.training.crops import Crops
from inference.training.loop import train
from inference.training.manifest_draft import Recipe
from inference.training.mar_objectives import Objective
from inference.training.options import begin, end, recipe_parser, words_of

WIDTHS = (16, 32, 48, 64)
HELD_OUT_BATCHES = 8
GIVEN = ("slice, 1000 HU, cut off at -1024 and 3071 HU", "slice, 10000 HU, cut off at 0 and 30000 HU")


class Overlap(Objective):
    """Cross entropy with each voxel's share of metal, and the soft Dice of the whole batch (Milletari et al. 2016)."""

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        likely = torch.sigmoid(made)
        dice = (2 * (likely * true).sum() + 1) / (likely.sum() + true.sum() + 1)
        return binary_cross_entropy_with_logits(made, true) * 10 + 1 - dice


def scored(network: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """Logits."""
    scores: torch.Tensor = network(given.contiguous(memory_format=torch.channels_last))
    return scores


def dice(first: torch.Tensor, second: torch.Tensor) -> float:
    """Twice the common voxels by the voxels of both; 1 when there are none."""
    both = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / both if both else 1.0


def held_out_figures(crops: Crops, device: str) -> Callable[[nn.Module], dict[str, float]]:
    """Dice of the network and of the threshold with the true metal, as one minus it: curves show what is left."""
    batches = [(crops.metal_batch(number, 4), crops.batch(number, 4)) for number in range(HELD_OUT_BATCHES)]

    def figures(network: nn.Module) -> dict[str, float]:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            by_network = torch.cat([scored(network, given.to(device)).float().cpu() for (given, _, _), _ in batches])
        true = torch.cat([share for (_, share, _), _ in batches]) > HALF
        by_threshold = torch.cat([given[:, 3:4] > 0 for _, (given, _, _) in batches])
        return {
            "1 - Dice": 1 - dice(torch.sigmoid(by_network) > HALF, true),
            "1 - Dice, threshold": 1 - dice(by_threshold, true),
        }

    return figures


def main() -> None:
    """Trains until the steps or the minutes are over."""
    chosen = recipe_parser(__doc__, steps=4000, batch=8, crop=128).parse_args()
    plan, crops, held = begin(chosen)
    done = train(
        UNet(CHANNELS, 1, WIDTHS),
        Overlap(),
        plan,
        batches=crops.metal_batch,
        made_by=scored,
        held_out=held_out_figures(held, chosen.device),
        folder=chosen.folder,
    )
    recipe = Recipe(
        "unet",
        {"channels_in": CHANNELS, "channels_out": 1, "widths": WIDTHS},
        GIVEN,
        "logit of metal in a voxel",
        words_of(chosen, "metal_mask"),
    )
    end(chosen, recipe, done=done)


if __name__ == "__main__":
    main()
