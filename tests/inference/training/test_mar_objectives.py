"""The losses say what they promise: right is least, metal does not count, and the discriminator learns to tell."""

from __future__ import annotations

import pytest
import torch

from inference.training.mar_objectives import (
    OBJECTIVES,
    Objective,
    Supervised,
    WithFaintLesions,
    structural_similarity,
)


def images(seed: int) -> torch.Tensor:
    return torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_truth_has_the_least_loss_and_metal_does_not_count(name: str) -> None:
    torch.manual_seed(1)
    objective = OBJECTIVES[name](4)
    true, given, counted = images(1), torch.zeros((2, 4, 32, 32)), torch.ones((2, 1, 32, 32))
    counted[..., :8, :8] = 0
    wrong, wrong_in_metal = true + 0.2, true.clone()
    wrong_in_metal[..., :8, :8] += 5

    def loss(made: torch.Tensor) -> float:
        return float(objective.generator_loss(made, true, given, counted).detach())

    assert loss(true) < loss(wrong)
    assert loss(wrong_in_metal) == pytest.approx(loss(true), abs=1e-4)


@pytest.mark.parametrize("name", ["ct_artifact_gan", "pix2pix"])
def test_a_discriminator_learns_to_tell_streaks_from_anatomy(name: str) -> None:
    torch.manual_seed(1)
    objective = OBJECTIVES[name](4)
    assert objective.discriminator is not None
    optimizer = torch.optim.Adam(objective.discriminator.parameters(), lr=2e-3)
    true, given = images(2), torch.zeros((2, 4, 32, 32))
    made = true + 0.5 * (torch.arange(32) % 4 == 0)
    losses = []
    for _ in range(40):
        loss = objective.discriminator_loss(made, true, given)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_structural_similarity_is_one_for_the_same_and_less_for_what_differs() -> None:
    first = images(3)
    assert float(structural_similarity(first, first)) == pytest.approx(1, abs=1e-5)
    assert float(structural_similarity(first, images(4))) < 0.5


def test_an_objective_without_a_discriminator_has_none() -> None:
    assert OBJECTIVES["supervised"](4).discriminator is None
    with pytest.raises(NotImplementedError):
        Objective().generator_loss(images(1), images(1), images(1), images(1))


def test_one_strong_streak_costs_more_than_as_much_error_spread_out() -> None:
    true, given, counted = images(7), torch.zeros((2, 4, 32, 32)), torch.ones((2, 1, 32, 32))
    strong = true.clone()
    strong[..., 12:16, :] += 0.8
    spread = true + 0.1
    losses = [float(Supervised().generator_loss(made, true, given, counted)) for made in (strong, spread)]
    assert losses[0] > 2 * losses[1]


def test_a_lost_lesion_costs_though_it_is_fainter_than_the_noise_that_both_halves_have() -> None:
    objective = WithFaintLesions(Supervised())
    clean, noise, counted = images(5), 0.3 * images(6), torch.ones((4, 1, 32, 32))
    lesion = torch.zeros((2, 1, 32, 32))
    lesion[..., 10:14, 10:14] = 0.02
    true, given = torch.cat([clean, clean + lesion]), torch.zeros((4, 4, 32, 32))
    kept, lost = torch.cat([clean + noise, clean + lesion + noise]), torch.cat([clean + noise, clean + noise])
    losses = [float(objective.generator_loss(made, true, given, counted)) for made in (kept, lost)]
    assert losses[1] - losses[0] > 0.04 * 0.02


@pytest.mark.parametrize("name", ["ct_artifact_gan", "pix2pix"])
def test_faint_lesions_go_with_a_discriminator(name: str) -> None:
    inner = OBJECTIVES[name](4)
    assert inner.discriminator is not None
    inner.discriminator.eval()  # in training its spectral norms move at each look
    objective, given = WithFaintLesions(inner), torch.zeros((2, 4, 32, 32))
    assert objective.discriminator is inner.discriminator
    same = (
        inner.discriminator_loss(images(7), images(8), given),
        objective.discriminator_loss(images(7), images(8), given),
    )
    assert torch.equal(*same)
