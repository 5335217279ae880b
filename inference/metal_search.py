"""Finds the metal of a series, by threshold or by network, and refuses what cannot be metal."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.model_files import Manifest, load_network
from inference.volume import Volume

LARGEST_METAL_SHARE = 0.2
"""Share of the field of view above which what was found in a slice cannot be metal."""

Mask = NDArray[np.bool_]
_Value = TypeVar("_Value", bound=np.generic)


def metal_by_threshold(source: Volume, threshold_hu: float) -> Mask:
    """(slices, rows, columns) True where there is metal; raises SourceRefused where there is none, or too much.

    threshold_hu: 0 finds it from bits and numbers.
    """
    from inference.physics.metal import find_metal, metal_threshold_hu

    threshold = threshold_hu or metal_threshold_hu(source.values, bits_stored=source.acquisition.bits_stored)
    metal = np.concatenate([find_metal(part, threshold) for part in _connected(source, source.values)])
    if source.outside is not None:
        metal &= ~source.outside
    if not metal.any():
        raise SourceRefused("no-metal", f"no metal was found: nothing reaches {threshold:.0f} HU; read the original")
    if (share := _largest_share(metal)) > LARGEST_METAL_SHARE:
        raise SourceRefused(
            "implausible-metal",
            f"{share:.0%} of a slice is above {threshold:.0f} HU, too much for metal; check the rescale slope",
        )
    return metal


def metal_by_network(source: Volume, manifest: Manifest) -> Mask:
    """The same, by the network of these weights, each slice alone; specks are noise here as well."""
    from inference.networks.metal_mask import LEAST_HU, network_metal
    from inference.physics.metal import without_specks

    network = load_network(manifest)
    found = np.zeros(source.values.shape, bool)
    dense = source.values >= LEAST_HU
    if source.outside is not None:
        dense &= ~source.outside
    for index in np.flatnonzero(dense.any(axis=(1, 2))):
        alone = source.values[index : index + 1]
        found[index] = network_metal(network, alone, bf16=manifest.bf16)[0] & dense[index]
    metal = np.concatenate([without_specks(part) for part in _connected(source, found)])
    if not metal.any():
        raise SourceRefused("no-metal", "no metal was found by the network; read the original")
    if (share := _largest_share(metal)) > LARGEST_METAL_SHARE:
        raise SourceRefused(
            "implausible-metal",
            f"the network takes {share:.0%} of a slice for metal, too much; check the rescale slope, or use "
            'metal_mask = "threshold"',
        )
    return metal


def _connected(source: Volume, values: NDArray[_Value]) -> list[NDArray[_Value]]:
    """The stack, or in an uneven or tilted one each slice, for there the next slice's voxel is no neighbour."""
    return [values] if source.geometry.is_even else [cut[None] for cut in values]


def _largest_share(metal: Mask) -> float:
    radius: float = max(metal.shape[1:]) / 2
    return int(metal.sum(axis=(1, 2)).max()) / (math.pi * radius * radius)
