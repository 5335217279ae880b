"""The discriminator judges patches, and its layers cannot grow without bound."""

from __future__ import annotations

import torch

from inference.networks.patch_discriminator import PatchDiscriminator


def test_it_scores_patches_of_eight_pixels() -> None:
    assert PatchDiscriminator(5)(torch.rand(2, 5, 64, 48)).shape == (2, 1, 8, 6)


def test_its_answer_is_bounded_by_its_input() -> None:
    torch.manual_seed(1)
    network = PatchDiscriminator(1)
    with torch.no_grad():
        for layer in network.strided:
            layer.get_parameter("weight_orig").mul_(100)
        for _ in range(30):
            network(torch.rand(1, 1, 32, 32))  # the spectral norm is followed while training
        scores = network.eval()(torch.rand(1, 1, 32, 32))
    assert scores.abs().max() < 50
