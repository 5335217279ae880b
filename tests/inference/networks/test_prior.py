"""A network as prior sees what the training shows it, and an untrained one gives NMAR."""

from __future__ import annotations

import numpy as np
import torch

from inference.networks.prior import (
    CHANNELS,
    HIGHEST_HU,
    LOWEST_HU,
    OWN_SHARE,
    answer,
    coded,
    fused_change,
    network_input,
    network_prior,
)
from inference.networks.unet import UNet
from inference.physics.metal_artifact_reduction import VirtualScan


def test_numbers_are_cut_off_at_the_ends_of_twelve_bits() -> None:
    ends = coded(np.array([-3000, 0, 20000], np.int16))
    assert ends.dtype == np.float32 and np.allclose(ends, [LOWEST_HU / 1000, 0, HIGHEST_HU / 1000])


def scan_with_metal() -> VirtualScan:
    y, x = np.mgrid[:64, :64] - 31.5
    image = np.where(np.hypot(x, y) < 15, 40, -1000).astype(np.float32)
    metal = np.hypot(x - 8, y) < 3
    image[metal] = 3071
    image[:, 4] = -960  # cloth
    return VirtualScan(image[None], metal[None], spacing_mm=5.0)


def test_an_untrained_network_answers_nmar() -> None:
    scan = scan_with_metal()
    prior, normalised = network_prior(UNet(CHANNELS, 1, (8, 16)), scan, bf16=False)
    assert np.array_equal(prior, normalised)
    given = network_input(scan.images, scan.images, normalised, scan.metal)
    assert given.shape == (1, CHANNELS, 64, 64)
    answered = answer(UNet(CHANNELS, 1, (8, 16)), torch.from_numpy(given))
    assert np.array_equal(answered[:, 0].detach().numpy(), coded(normalised))


def test_what_the_network_itself_makes_counts_in_the_body_only() -> None:
    scan = scan_with_metal()
    own = scan.images + np.float32(0)
    own[:, 28:36, 20:28] += 50
    own[:, :, 4] = -1000  # it has taken the cloth away
    plain = scan.images.copy()
    plain[:, 28:36, 20:28] += 50
    made, with_cloth = fused_change(scan, own), fused_change(scan, plain)
    assert np.abs(made - with_cloth)[:, :, :8].max() < 8
    filled_only = OWN_SHARE * 50
    assert made[0, 30:34, 22:26].mean() > 0.8 * filled_only


def test_a_slice_without_a_body_takes_nothing_of_the_networks_own() -> None:
    scan = scan_with_metal()
    air = np.full_like(scan.images, -1000)
    assert np.array_equal(fused_change(scan, air), scan.inpainted(air))
