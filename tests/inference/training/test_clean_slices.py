"""The recipe of the diffusion model: noise of every level, weighted alike, and a model that learns to take it away."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.model_files import load_network, read_manifest
from inference.training import clean_slices
from inference.training.clean_slices import Denoising, NoisyCrops
from inference.training.crops import Crops
from tests.builders_weights import say_the_rest

SIZE = 48


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image = np.where(np.hypot(x, y) < 18, 40, -1000).astype(np.int16)
    np.save(tmp_path / "00001.images.npy", np.broadcast_to(image, (2, 4, SIZE, SIZE)))
    np.save(tmp_path / "00001.masks.npy", np.full((2, 2, SIZE, SIZE), 255, np.uint8))
    return tmp_path


def test_every_level_weighs_the_same_when_nothing_is_learned(scenes: Path) -> None:
    crops = NoisyCrops(Crops(scenes, size=32, seed=1), 1)
    losses = []
    for level in (0.02, 0.2, 1.5):
        given, clean, weight = crops.batch(1, 8, level)
        share = 0.25 / (level**2 + 0.25)  # of what the noisy slice is believed by a network that says nothing
        made = share * given[:, :1] + (1 - share) * clean.mean()
        losses.append(float(Denoising().generator_loss(made, clean, given, weight)))
    assert max(losses) < 3 * min(losses)


def test_the_same_number_gives_the_same_noise(scenes: Path) -> None:
    first, again, other = (NoisyCrops(Crops(scenes, size=32, seed=1), 1).batch(n, 3)[0] for n in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_command_trains_and_says_how_well(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_slices, "WIDTHS", (8, 16))
    words = [str(scenes), str(tmp_path / "out"), "--steps", "200", "--crop", "32", "--batch", "2", "--rate", "1e-2"]
    monkeypatch.setattr(sys, "argv", ["clean_slices", *words])
    clean_slices.main()
    first, last = json.loads((tmp_path / "out" / "history.json").read_text())
    assert last["step"] == 200
    assert last["loss"] < 0.9 * first["loss"] and last["300 HU of noise"] < first["300 HU of noise"]
    say_the_rest(tmp_path / "out")
    load_network(read_manifest("out", str(tmp_path)))
