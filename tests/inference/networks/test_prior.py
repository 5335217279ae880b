"""A network as prior sees what the training shows it, and an untrained one gives NMAR."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from inference.model_files import load_network, read_manifest
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
    reduce_by_network,
)
from inference.networks.unet import UNet
from inference.physics.ct_simulation import simulate_metal_ct
from inference.physics.metal import find_metal
from inference.physics.metal_artifact_reduction import VirtualScan
from inference.training.surroundings import with_surroundings


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


def test_what_the_network_itself_makes_counts_by_its_share_everywhere() -> None:
    scan = scan_with_metal()
    own = scan.images + np.float32(0)
    own[:, 28:36, 20:28] += 50  # in the body
    own[:, 4:8, 28:36] += 50  # in the air
    change = fused_change(scan, own)[0]
    plain = fused_change(scan, scan.images)[0]
    for place in (np.s_[30:34, 22:26], np.s_[5:7, 30:34]):
        assert 0.8 * OWN_SHARE * 50 < (change - plain)[place].mean() < 1.3 * OWN_SHARE * 50


def test_the_shipped_weights_keep_table_clothes_and_cables() -> None:
    size, spacing_mm = 256, 1.1
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = (x / 95) ** 2 + (y / 70) ** 2 < 1
    noise = np.random.default_rng(1).normal(0, 12, (4, size, size))
    clean = np.where(inside, 45 + noise, -1000).astype(np.float32)
    random = np.random.default_rng(2)
    drawn = np.stack([with_surroundings(image, spacing_mm=spacing_mm, random=random) for image in clean])
    implant = np.broadcast_to(np.hypot(np.abs(x) - 45, y - 10) < 9, drawn.shape)
    spoiled = simulate_metal_ct(drawn, implant, metal="cobalt_chromium", spacing_mm=spacing_mm, seed=1)
    metal = find_metal(spoiled, 3000)
    network = load_network(read_manifest("ct_mar_prior"))
    made = reduce_by_network(spoiled, metal, spacing_mm=spacing_mm, network=network, bf16=False)
    outside = ~binary_dilation(inside, iterations=3)
    for lowest, highest in ((-980, -920), (-920, -700), (-700, 800)):
        things = (drawn > lowest) & (drawn <= highest) & outside
        away = drawn[things] + 1000
        kept = float(((made[things] + 1000) * away).sum() / (away**2).sum())
        # weights that were trained without such things keep 0.74 of the faintest
        assert things.sum() > 4000 and 0.83 < kept < 1.1
        assert np.abs(made - drawn)[things].mean() < np.abs(spoiled - drawn)[things].mean()
