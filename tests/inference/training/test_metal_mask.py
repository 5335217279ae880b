"""The recipe of the metal mask learns to find metal and counts what it finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.model_files import load_network, read_manifest
from inference.training import metal_mask
from inference.training.metal_mask import dice
from tests.builders_weights import say_the_rest

SIZE = 48


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Metal of 3071 HU beside bone of 1400 HU; the threshold found a bit too much."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    metal = np.hypot(x - 5, y) < 5
    image = np.where(np.hypot(x, y) < 18, 40, -1000).astype(np.int16)
    image[np.hypot(x + 8, y) < 4] = 1400
    image[metal] = 3071
    np.save(tmp_path / "00001.images.npy", np.broadcast_to(image, (2, 4, SIZE, SIZE)))
    masks = np.stack([np.hypot(x - 5, y) < 6, metal]).astype(np.uint8) * 255
    np.save(tmp_path / "00001.masks.npy", np.broadcast_to(masks, (2, 2, SIZE, SIZE)))
    return tmp_path


def test_the_command_trains_until_the_network_finds_metal_better_than_a_loose_threshold(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metal_mask, "WIDTHS", (8, 16))
    words = [str(scenes), str(tmp_path / "out"), "--steps", "100", "--crop", "32", "--batch", "4", "--rate", "1e-2"]
    monkeypatch.setattr(sys, "argv", ["metal_mask", *words])
    metal_mask.main()
    last = json.loads((tmp_path / "out" / "history.json").read_text())[-1]
    assert 0 < last["1 - Dice, threshold"] < 0.3
    assert last["1 - Dice"] < last["1 - Dice, threshold"]
    say_the_rest(tmp_path / "out")
    load_network(read_manifest("out", str(tmp_path)))


def test_dice_counts_what_both_hold() -> None:
    first, second = torch.tensor([1, 1, 0, 0]) > 0, torch.tensor([1, 0, 1, 0]) > 0
    assert dice(first, first) == 1 and dice(first, second) == 0.5 and dice(first, ~first) == 0
    assert dice(first & ~first, first & ~first) == 1
