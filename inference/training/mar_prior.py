"""Trains the network that `prior_net` of metal artifact reduction takes as its prior.

    python -m inference.training.mar_prior scenes out --held-out held_out_scenes
    python -m inference.training.mar_prior scenes out-gan --objective ct_artifact_gan --begin out/model.safetensors

The same command goes on where an earlier run stopped; `curves.png` shows how it went.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from inference.networks.prior import CHANNELS, answer
from inference.networks.unet import UNet
from inference.training.crops import Crops
from inference.training.loop import train
from inference.training.manifest_draft import Recipe
from inference.training.mar_objectives import OBJECTIVES, WithFaintLesions, second_less_first
from inference.training.options import begin, end, recipe_parser, words_of

WIDTHS = (32, 64, 96, 128, 128)
HELD_OUT_BATCHES = 6
GIVEN = (
    "spoiled slice, 1000 HU, cut off at -1024 and 3071 HU",
    "the same after linear interpolation (li)",
    "the same after normalized inpainting (nmar)",
    "metal found by threshold, 0 or 1",
)


def held_out_figures(crops: Crops, device: str) -> Callable[[nn.Module], dict[str, float]]:
    """Root mean square error in HU, and what is lost of faint lesions, of `nmar` and of the network on the same crops.

    Lost is one less the slope of what the lesions changed in the result over the lesions themselves.
    """
    batches = [crops.paired_batch(number, 4) for number in range(HELD_OUT_BATCHES)]

    def figures(network: nn.Module) -> dict[str, float]:
        errors, kept = torch.zeros(2), torch.zeros(2)
        voxels = lesions = 0.0
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for given, true, counted in batches:
                lesion = second_less_first(true) * counted.chunk(2)[0]
                voxels, lesions = voxels + float(counted.sum()), lesions + float((lesion**2).sum())
                for index, made in enumerate((given[:, 2:3], answer(network, given.to(device)).cpu())):
                    errors[index] += (((made - true) * counted) ** 2).sum()
                    kept[index] += (second_less_first(made) * lesion).sum()
        begun, ended = (1000 * math.sqrt(float(error) / voxels) for error in errors)
        lost = [1 - float(one) / max(lesions, 1e-9) for one in kept]
        return {"held out, HU": ended, "nmar there, HU": begun, "lesions lost": lost[1], "nmar's lesions lost": lost[0]}

    return figures


def main() -> None:
    """Trains until the steps or the minutes are over."""
    parser = recipe_parser(__doc__, steps=12000, batch=4, crop=256)
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="supervised", help="default: %(default)s")
    parser.add_argument("--begin", type=Path, help="weights to begin with (default: none)")
    chosen = parser.parse_args()
    plan, crops, held = begin(chosen)
    network = UNet(CHANNELS, 1, WIDTHS)
    if chosen.begin is not None:
        network.load_state_dict(load_file(chosen.begin))
    done = train(
        network,
        WithFaintLesions(OBJECTIVES[chosen.objective](CHANNELS)),
        plan,
        batches=crops.paired_batch,
        made_by=answer,
        held_out=held_out_figures(held, chosen.device),
        folder=chosen.folder,
    )
    recipe = Recipe(
        "unet",
        {"channels_in": CHANNELS, "channels_out": 1, "widths": WIDTHS},
        GIVEN,
        "1000 HU, added to nmar",
        words_of(chosen, "mar_prior") + (", begun with other weights" if chosen.begin else ""),
    )
    end(chosen, recipe, done=done)


if __name__ == "__main__":
    main()
