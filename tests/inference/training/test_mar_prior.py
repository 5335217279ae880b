"""The recipe of the prior trains with every objective and tells how far it is from NMAR."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.model_files import load_network, read_manifest
from inference.training import mar_prior
from inference.training.mar_objectives import OBJECTIVES
from tests.builders_weights import say_the_rest

SIZE = 48


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Where `nmar` is wrong by 200 HU everywhere: what a network learns first."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where(np.hypot(x, y) < 18, 40, -900).astype(np.int16)
    lesion = np.where(np.hypot(x + 5, y) < 4, 30, 0)
    images = np.stack([clean + 400, clean + 300, clean + 200, clean])
    images = np.concatenate([images, images + lesion]).astype(np.int16)
    np.save(tmp_path / "00001.images.npy", np.broadcast_to(images, (2, *images.shape)))
    metal = (np.hypot(x - 5, y) < 3).astype(np.uint8) * 255
    np.save(tmp_path / "00001.masks.npy", np.broadcast_to(metal, (2, 2, SIZE, SIZE)))
    return tmp_path


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_the_command_trains_towards_the_clean_slice(
    objective: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mar_prior, "WIDTHS", (8, 16))
    monkeypatch.setattr(mar_prior, "HELD_OUT_BATCHES", 1)
    words = [str(scenes), str(tmp_path / "out"), "--steps", "100", "--crop", "32", "--batch", "2", "--rate", "1e-2"]
    monkeypatch.setattr(sys, "argv", ["mar_prior", *words, "--objective", objective])
    mar_prior.main()
    last = json.loads((tmp_path / "out" / "history.json").read_text())[-1]
    assert last["nmar there, HU"] == pytest.approx(200, abs=3)
    assert last["nmar's lesions lost"] == pytest.approx(0, abs=0.02)
    assert last["held out, HU"] < 0.7 * last["nmar there, HU"]
    say_the_rest(tmp_path / "out")
    manifest = read_manifest("out", str(tmp_path))
    assert f"objective {objective}" in manifest.training and "steps 100" in manifest.training
    assert str(tmp_path) not in manifest.training
    load_network(manifest)


def test_a_run_can_begin_with_the_weights_of_another(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mar_prior, "WIDTHS", (8, 16))
    monkeypatch.setattr(mar_prior, "HELD_OUT_BATCHES", 1)
    words = ["mar_prior", str(scenes), "--crop", "32", "--batch", "2"]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "one"), "--steps", "60", "--rate", "1e-2"])
    mar_prior.main()
    begin = ["--begin", str(tmp_path / "one" / "model.safetensors")]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "two"), "--steps", "1", "--rate", "1e-9", *begin])
    mar_prior.main()
    first, second = (json.loads((tmp_path / name / "history.json").read_text())[-1] for name in ("one", "two"))
    assert second["held out, HU"] == pytest.approx(first["held out, HU"], rel=0.02)
