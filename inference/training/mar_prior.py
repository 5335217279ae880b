"""Trains the network that `prior_net` of metal artifact reduction takes as its prior.

    python -m inference.training.mar_prior scenes out --held-out held_out_scenes
    python -m inference.training.mar_prior scenes out-gan --objective ct_artifact_gan --minutes 60

The same command goes on where an earlier run stopped; `curves.png` shows how it went.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from inference.networks import UNet
from inference.networks.prior import CHANNELS, answer
from inference.training.crops import Crops
from inference.training.loop import Plan, train
from inference.training.mar_objectives import OBJECTIVES

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of shards, made by inference.training.mar_scenes")
    parser.add_argument("folder", type=Path, help="folder for checkpoint, curves and weights")
    parser.add_argument("--held-out", type=Path, help="folder of shards of other subjects, for the curves only")
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="supervised")
    parser.add_argument("--steps", type=int, default=12000, help="steps in all (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=0, help="of this run; 0: until done (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="crops a step (default: %(default)s)")
    parser.add_argument("--crop", type=int, default=256, help="pixels along one side (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    crops = Crops(chosen.scenes, size=chosen.crop, seed=chosen.seed)
    held = Crops(chosen.held_out or chosen.scenes, size=chosen.crop, seed=chosen.seed + 1)
    plan = Plan(
        chosen.steps,
        minutes=chosen.minutes,
        scenes_a_batch=chosen.batch,
        rate=chosen.rate,
        seed=chosen.seed,
        device=chosen.device,
    )
    done = train(
        UNet(CHANNELS, 1, WIDTHS),
        OBJECTIVES[chosen.objective](CHANNELS),
        plan,
        batches=crops.batch,
        made_by=answer,
        held_out=held_out_figures(held, chosen.device),
        folder=chosen.folder,
    )
    print(f"{'done' if done else 'stopped; the same command goes on'}: {chosen.folder}")


if __name__ == "__main__":
    main()
