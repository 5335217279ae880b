"""The networks by the names that the manifests of weights use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from inference.networks.unet import UNet

NETWORKS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType({"unet": UNet})
"""What a manifest may name; anything else stops start-up."""
