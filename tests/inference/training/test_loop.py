"""Training goes on where it stopped, learns, and leaves weights and curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from inference.networks.prior import answer
from inference.networks.unet import UNet
from inference.training.loop import Plan, train
from inference.training.mar_objectives import OBJECTIVES


def batches(number: int, scenes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A square to be found beside noise; what `nmar` shows is wrong by a constant."""
    random = torch.Generator().manual_seed(number)
    true = torch.rand((scenes, 1, 32, 32), generator=random) * 0.1
    given = torch.cat([true, true, true + 0.3, torch.zeros_like(true)], 1)
    return given, true, torch.ones_like(true)


def held_out(network: nn.Module) -> dict[str, float]:
    given, true, _ = batches(10_000, 2)
    with torch.inference_mode():
        return {"error": float((answer(network, given) - true).abs().mean())}


def run(folder: Path, objective: str, steps: int, minutes: float = 0) -> bool:
    torch.manual_seed(1)
    chosen = OBJECTIVES[objective](4)
    plan = Plan(steps, minutes=minutes, scenes_a_batch=2, rate=2e-2, report_every=10)
    return train(UNet(4, 1, (8, 16)), chosen, plan, batches=batches, made_by=answer, held_out=held_out, folder=folder)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_learns(objective: str, tmp_path: Path) -> None:
    assert run(tmp_path, objective, 60)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["step"] for row in history] == [10, 20, 30, 40, 50, 60]
    assert history[-1]["error"] < 0.5 * history[0]["error"] and history[-1]["error"] < 0.15
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("objective", ["supervised", "pix2pix"])
def test_a_training_that_was_interrupted_ends_with_the_same_weights(objective: str, tmp_path: Path) -> None:
    assert run(tmp_path / "whole", objective, 12)
    runs = 1
    while not run(tmp_path / "parts", objective, 12, minutes=1e-9):  # stops after each step
        runs += 1
    assert runs == 12
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_what_is_done_is_not_trained_further(tmp_path: Path) -> None:
    run(tmp_path, "supervised", 10)
    before = (tmp_path / "model.safetensors").read_bytes()
    assert run(tmp_path, "supervised", 10)
    assert (tmp_path / "model.safetensors").read_bytes() == before
