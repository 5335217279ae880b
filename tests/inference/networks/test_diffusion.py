"""Forward and reverse process undo each other where the denoiser is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inference.networks.diffusion import (
    DATA_DEVIATION,
    HIGHEST_LEVEL,
    LOWEST_LEVEL,
    denoised,
    levels,
    noised,
    reversed_process,
)
from inference.networks.unet import UNet


class Knowing(nn.Module):
    """The network that makes `denoised` answer a slice it knows, whatever the noise."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        level = (given[:, 1:2] * 4).exp()
        total = (level**2 + DATA_DEVIATION**2).sqrt()
        noisy = given[:, :1] * total
        return (self.clean - (DATA_DEVIATION / total) ** 2 * noisy) * total / (level * DATA_DEVIATION)


def slices() -> torch.Tensor:
    return torch.rand((2, 1, 16, 16), generator=torch.Generator().manual_seed(1)) - 0.5


def test_the_forward_process_adds_noise_of_its_level_and_the_same_for_the_same_seed() -> None:
    clean = torch.zeros((2, 1, 200, 200))
    first, again = (noised(clean, torch.tensor([0.1, 1.0]), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.1, 1.0], rel=0.02)


@pytest.mark.parametrize("level", [LOWEST_LEVEL, 0.3, HIGHEST_LEVEL])
def test_a_network_that_knows_the_slice_denoises_to_it_at_every_level(level: float) -> None:
    clean = slices()
    at = torch.full((2,), level)
    noisy = noised(clean, at, torch.Generator().manual_seed(1))
    assert torch.allclose(denoised(Knowing(clean), noisy, at), clean, atol=1e-4)


def test_an_untrained_network_believes_little_noise_and_doubts_much() -> None:
    network, noisy = UNet(2, 1, (8, 16)), slices()
    assert torch.allclose(denoised(network, noisy, torch.full((2,), LOWEST_LEVEL)), noisy, atol=1e-3)
    assert denoised(network, noisy, torch.full((2,), HIGHEST_LEVEL)).abs().max() < 0.1


def test_levels_fall_to_nought_and_their_steps_shrink() -> None:
    falling = levels(20, 0.5)
    assert len(falling) == 21 and falling[0] == pytest.approx(0.5) and falling[-1] == 0
    steps = -falling.diff()[:-1]
    assert (steps > 0).all() and (steps.diff() < 0).all()


@pytest.mark.parametrize(("steps", "highest"), [(0, 0.5), (5, LOWEST_LEVEL), (5, 2 * HIGHEST_LEVEL)])
def test_levels_that_cannot_be_are_refused(steps: int, highest: float) -> None:
    with pytest.raises(ValueError, match="levels"):
        levels(steps, highest)


def test_the_reverse_process_ends_at_what_the_network_knows_and_the_measurement_corrects() -> None:
    clean = slices()
    noisy = noised(clean, torch.full((2,), 0.4), torch.Generator().manual_seed(2))
    seen: list[float] = []

    def corrected(made: torch.Tensor, level: float) -> torch.Tensor:
        seen.append(level)
        return made + 0.25

    made = reversed_process(Knowing(clean), noisy, levels(7, 0.4), corrected=corrected)
    assert torch.allclose(made, clean + 0.25, atol=1e-3)
    assert len(seen) == 7 and seen == sorted(seen, reverse=True)
