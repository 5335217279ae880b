"""What a manifest may name is a network that can be built."""

from __future__ import annotations

from torch import nn

from inference.networks.table import NETWORKS
from inference.networks.unet import UNet


def test_the_names_are_those_of_networks() -> None:
    assert NETWORKS["unet"] is UNet
    assert all(issubclass(network, nn.Module) for network in NETWORKS.values() if isinstance(network, type))
