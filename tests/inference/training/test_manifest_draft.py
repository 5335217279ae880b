"""A recipe's manifest is one that the node reads, and says what is left to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from inference.errors import WeightsInvalid
from inference.model_files import MANIFEST_FILE, UNSAID, load_network, read_manifest
from inference.networks.unet import UNet
from inference.training.manifest_draft import RANGES_FILE, Recipe, write_manifest
from tests.builders_weights import say_the_rest

RECIPE = Recipe(
    "unet",
    {"channels_in": 2, "channels_out": 1, "widths": (8, 16), "residual": True},
    ("a slice, 1000 HU", 'its "twin"'),
    "1000 HU",
    "steps 5, seed 1",
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    save_file(UNet(2, 1, (8, 16), residual=True).state_dict(), folder / "model.safetensors")
    (folder / "history.json").write_text(json.dumps([{"step": 1, "error, HU": 9.0}, {"step": 5, "error, HU": 4.5}]))
    return folder


def test_the_node_reads_the_manifest_and_its_network(weights: Path, tmp_path: Path) -> None:
    (tmp_path / RANGES_FILE).write_text(json.dumps({"kvp": [80, 140], "pixel_spacing_mm": [0.5, 1.25]}))
    write_manifest(weights, RECIPE, scenes=tmp_path)
    say_the_rest(weights)
    manifest = read_manifest("made", str(tmp_path))
    assert manifest.input == RECIPE.given and manifest.training == "steps 5, seed 1"
    assert manifest.metrics == {"step": 5, "error, HU": 4.5}
    assert manifest.in_distribution == {"kvp": (80, 140), "pixel_spacing_mm": (0.5, 1.25)}
    assert load_network(manifest)(torch.zeros((1, 2, 16, 16))).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("key", ["licence", "intended_use"])
def test_what_a_recipe_cannot_know_is_left_to_a_person_and_the_node_takes_no_weights_before(
    weights: Path, tmp_path: Path, key: str
) -> None:
    file = write_manifest(weights, RECIPE, scenes=tmp_path)
    draft = file.read_text(encoding="utf-8").splitlines()
    said = [line if line.startswith(f'"{key}"') else line.replace(UNSAID, "Said") for line in draft]
    file.write_text("\n".join(said), encoding="utf-8")
    with pytest.raises(WeightsInvalid, match=f"{MANIFEST_FILE}.*is a draft: write there what {key} is") as caught:
        read_manifest("made", str(tmp_path))
    assert str(file) in str(caught.value)
    file.write_text("\n".join(said).replace(UNSAID, "Said"), encoding="utf-8")
    assert read_manifest("made", str(tmp_path)).in_distribution == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_training_that_ends_without_figures_gets_no_manifest(weights: Path, tmp_path: Path, value: float) -> None:
    (weights / "history.json").write_text(json.dumps([{"step": 1, "error, HU": 9.0}, {"step": 5, "error, HU": value}]))
    with pytest.raises(ValueError, match=rf"no manifest was written.*'error, HU' is {value}; the training failed"):
        write_manifest(weights, RECIPE, scenes=tmp_path)
    assert not (weights / MANIFEST_FILE).exists()
