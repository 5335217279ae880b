"""A network that finds metal in slices, in the place of thresholds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

CHANNELS = 2
"""The slice at soft tissue's scale (1000 HU, cut off at 3071), and at metal's (10000 HU)."""
TISSUE_ENDS_HU = (-1024.0, 3071.0)
METAL_ENDS_HU = (0.0, 30000.0)
HALF = 0.5
LEAST_HU = 1500.0
"""Nothing below is metal, whatever the network says: dense bone ends here."""


def metal_input(images_hu: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """(slices, 2, rows, columns) of (slices, rows, columns) HU."""
    tissue = np.clip(images_hu, *TISSUE_ENDS_HU).astype(np.float32) / np.float32(1000)
    metal = np.clip(images_hu, *METAL_ENDS_HU).astype(np.float32) / np.float32(10000)
    return np.stack([tissue, metal], axis=1)


def network_metal(network: nn.Module, images_hu: NDArray[np.float32], *, bf16: bool) -> NDArray[np.bool_]:
    """(slices, rows, columns) bool: where the network takes more than half of a voxel for metal."""
    found = np.zeros(images_hu.shape, bool)
    given = torch.from_numpy(metal_input(images_hu))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for index in range(len(given)):
            one = given[index : index + 1].contiguous(memory_format=torch.channels_last)
            found[index] = torch.sigmoid(network(one)[0, 0].float()).numpy() > HALF
    found &= images_hu >= LEAST_HU
    return found
