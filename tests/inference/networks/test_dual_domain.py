"""Diffusion in two domains keeps what was measured, is the same each time, and knows anatomies."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.networks.diffusion import CHANNELS
from inference.networks.dual_domain import ANATOMY, Guidance, anatomy_of, reduce_by_diffusion
from inference.networks.unet import UNet
from inference.physics.ct_simulation import simulate_metal_ct
from inference.physics.metal import find_metal

SIZE, SPACING_MM = 96, 3.5
Images = NDArray[np.float32]


@lru_cache(maxsize=1)
def hips() -> tuple[Images, Images, NDArray[np.bool_]]:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where((x / 40) ** 2 + (y / 28) ** 2 < 1, 50, -1000).astype(np.float32)[None]
    implants = ((y - 1) ** 2 + (np.abs(x) - 20) ** 2 < 3.5**2)[None]
    spoiled = simulate_metal_ct(clean, implants, metal="iron", spacing_mm=SPACING_MM, seed=1)
    return clean, spoiled, find_metal(spoiled, 3000) | implants


def reduced(seed: int, steps: int = 4) -> Images:
    _, spoiled, metal = hips()
    network = UNet(CHANNELS, 1, (8, 16)).eval()  # untrained: a denoiser that shrinks a little
    guidance = Guidance(start=0.2, reach_mm=20.0, near_share=0.6)  # little: an untrained model leaves the noise
    return reduce_by_diffusion(
        spoiled, metal, spacing_mm=SPACING_MM, network=network, steps=steps, guidance=guidance, seed=seed
    )


def test_even_an_untrained_model_is_led_by_the_sinogram_to_half_of_the_error() -> None:
    clean, spoiled, metal = hips()

    def error(image: Images) -> float:
        return float(np.sqrt(np.mean((np.clip(image, -1000, 1600) - clean)[~metal] ** 2)))

    assert error(reduced(1)) < error(spoiled) / 2


def test_what_lies_beyond_twelve_bits_and_is_no_metal_stays() -> None:
    _, spoiled, metal = hips()
    dense = spoiled.copy()
    dense[:, 70:74, 46:50] = 3600
    network = UNet(CHANNELS, 1, (8, 16)).eval()
    measured_only = Guidance(start=0.2, reach_mm=20.0, near_share=0.0)
    facts: dict[str, Any] = {"spacing_mm": SPACING_MM, "steps": 4, "guidance": measured_only, "seed": 1}
    made = reduce_by_diffusion(dense, metal & (dense != 3600), network=network, **facts)
    assert made[:, 71:73, 47:49].min() > 3100


def test_the_same_seed_gives_the_same_bytes_and_another_hardly_differs() -> None:
    first, again, other = reduced(1), reduced(1), reduced(2)
    assert np.array_equal(first, again)
    assert 0 < np.abs(first - other).mean() < 20


def test_a_slice_does_not_depend_on_those_beside_it_bit_for_bit() -> None:
    _, spoiled, metal = hips()
    other = spoiled[:, ::-1] + 20
    torch.manual_seed(3)
    network = UNet(CHANNELS, 1, (8, 16)).eval()
    torch.nn.init.normal_(network.leave.weight, std=0.05)

    def made(slices: Images, metal: NDArray[np.bool_], *, bf16: bool) -> Images:
        facts: dict[str, Any] = {"spacing_mm": SPACING_MM, "steps": 4, "guidance": ANATOMY["hip"], "seed": 1}
        return reduce_by_diffusion(slices, metal, network=network, bf16=bf16, **facts)

    for bf16 in (False, True):
        alone = made(spoiled, metal, bf16=bf16)[0]
        both = made(np.concatenate([other, spoiled]), np.concatenate([metal[:, ::-1], metal]), bf16=bf16)
        assert np.array_equal(both[1], alone) and not np.array_equal(both[0], alone)


@pytest.mark.parametrize(
    ("words", "anatomy"),
    [
        ("HEAD", "head"),
        ("JawRegion", "head"),
        ("LSPINE", "spine"),
        ("PELVIS", "hip"),
        ("", "other"),
        ("CHEST", "other"),
    ],
)
def test_the_body_part_chooses_the_anatomy(words: str, anatomy: str) -> None:
    assert anatomy_of(words) == anatomy
