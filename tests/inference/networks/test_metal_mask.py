"""Metal by a network is nowhere that no metal can be."""

from __future__ import annotations

import numpy as np
import torch

from inference.networks.metal_mask import CHANNELS, LEAST_HU, metal_input, network_metal
from inference.networks.unet import UNet


def test_nothing_below_the_least_is_metal_whatever_the_network_says() -> None:
    network = UNet(CHANNELS, 1, (8, 16)).eval()
    assert network.leave.bias is not None
    torch.nn.init.constant_(network.leave.bias, 9.0)  # says metal everywhere
    images = np.array([[[0, LEAST_HU - 1], [LEAST_HU, 3000]]], np.float32).repeat(4, 1).repeat(4, 2)
    assert np.array_equal(network_metal(network, images, bf16=False), images >= LEAST_HU)
    assert metal_input(images).shape == (1, CHANNELS, 8, 8)
