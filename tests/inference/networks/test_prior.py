"""A network as prior sees what the training shows it, and an untrained one gives NMAR."""

from __future__ import annotations

import numpy as np
import torch

from inference.networks.prior import CHANNELS, HIGHEST_HU, LOWEST_HU, answer, coded, network_input, network_prior
from inference.networks.unet import UNet
from inference.physics.metal_artifact_reduction import VirtualScan


def test_numbers_are_cut_off_at_the_ends_of_twelve_bits() -> None:
    ends = coded(np.array([-3000, 0, 20000], np.int16))
    assert ends.dtype == np.float32 and np.allclose(ends, [LOWEST_HU / 1000, 0, HIGHEST_HU / 1000])


def test_an_untrained_network_answers_nmar() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    image = np.where(np.hypot(x, y) < 25, 40, -1000).astype(np.float32)
    metal = np.hypot(x - 8, y) < 3
    image[metal] = 3071
    scan = VirtualScan(image[None], metal[None], spacing_mm=5.0)
    prior, normalised = network_prior(UNet(CHANNELS, 1, (8, 16)), scan, bf16=False)
    assert np.array_equal(prior, normalised)
    given = network_input(image[None], image[None], normalised, metal[None])
    assert given.shape == (1, CHANNELS, 64, 64)
    answered = answer(UNet(CHANNELS, 1, (8, 16)), torch.from_numpy(given))
    assert np.array_equal(answered[:, 0].detach().numpy(), coded(normalised))
