"""Trains the network that `prior_net` of metal artifact reduction takes as its prior.

    python -m inference.training.mar_prior scenes out --held-out held_out_scenes
    python -m inference.training.mar_prior scenes out-gan --objective ct_artifact_gan --minutes 60

The same command goes on where an earlier run stopped; `curves.png` shows how it went.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from inference.networks.prior import CHANNELS, answer
from inference.networks.unet import UNet
from inference.training.crops import Crops
from inference.training.loop import train
from inference.training.mar_objectives import OBJECTIVES
from inference.training.options import begin, recipe_parser, tell_end

WIDTHS = (32, 64, 96, 128, 128)
HELD_OUT_BATCHES = 6


def held_out_figures(crops: Crops, device: str) -> Callable[[nn.Module], dict[str, float]]:
    """Root mean square error in HU, of `nmar` and of the network, on the same crops each time."""
    batches = [crops.batch(number, 4) for number in range(HELD_OUT_BATCHES)]

    def figures(network: nn.Module) -> dict[str, float]:
        sums = torch.zeros(3)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for given, true, counted in batches:
                for index, made in enumerate((given[:, 2:3], answer(network, given.to(device)).cpu())):
                    sums[index] += (((made - true) * counted) ** 2).sum()
                sums[2] += counted.sum()
        begun, ended = (1000 * math.sqrt(float(sums[index] / sums[2])) for index in range(2))
        return {"held out, HU": ended, "nmar there, HU": begun}

    return figures


def main() -> None:
    """Trains until the steps or the minutes are over."""
    parser = recipe_parser(__doc__, steps=12000, batch=4, crop=256)
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="supervised", help="default: %(default)s")
    chosen = parser.parse_args()
    plan, crops, held = begin(chosen)
    done = train(
        UNet(CHANNELS, 1, WIDTHS),
        OBJECTIVES[chosen.objective](CHANNELS),
        plan,
        batches=crops.batch,
        made_by=answer,
        held_out=held_out_figures(held, chosen.device),
        folder=chosen.folder,
    )
    tell_end(chosen, done=done)


if __name__ == "__main__":
    main()
