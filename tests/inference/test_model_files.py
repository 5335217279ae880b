"""Weights are what their manifest says, or the node does not start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from inference import model_files
from inference.errors import WeightsInvalid
from inference.model_files import REQUIRED, load_network, read_manifest
from inference.networks.unet import UNet

HYPER_PARAMETERS = {"channels_in": 2, "channels_out": 1, "widths": [8, 16]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder with the weights "small" in it."""
    monkeypatch.setattr(model_files, "files", lambda package: tmp_path)
    load_network.cache_clear()
    (tmp_path / "weights" / "small").mkdir(parents=True)
    write(tmp_path)
    yield tmp_path
    load_network.cache_clear()


def write(root: Path, **changed: Any) -> None:
    folder = root / "weights" / "small"
    torch.manual_seed(1)
    save_file(UNet(2, 1, (8, 16)).state_dict(), folder / "model.safetensors")
    facts: dict[str, Any] = {
        "schema": 1,
        "architecture": "unet",
        "input": ["noisy slice, 1000 HU", "level"],
        "output_unit": "HU",
        "bf16": False,
        "training": "phantoms",
        "licence": "none needed",
        "intended_use": "tests",
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    } | changed
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in facts.items()
    ]
    tables = ["[hyper_parameters]", *(f"{key} = {value}" for key, value in HYPER_PARAMETERS.items())]
    tables += ["[metrics]", "psnr_db = 40.5", "[in_distribution]", "pixel_spacing_mm = [0.6, 1.2]"]
    (folder / "manifest.toml").write_text("\n".join([*lines, *tables]), encoding="utf-8")


def test_a_manifest_is_read_and_its_network_built(root: Path) -> None:
    manifest = read_manifest("small")
    assert manifest.architecture == "unet" and manifest.in_distribution == {"pixel_spacing_mm": (0.6, 1.2)}
    network = load_network("small")
    assert not network.training and not any(value.requires_grad for value in network.parameters())
    torch.manual_seed(1)
    for name, value in UNet(2, 1, (8, 16)).state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_weights_that_were_changed_stop_the_start(root: Path) -> None:
    file = root / "weights" / "small" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsInvalid, match="not those that their manifest names"):
        read_manifest("small")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_manifest_that_leaves_something_out_stops_the_start(root: Path, key: str) -> None:
    file = root / "weights" / "small" / "manifest.toml"
    file.write_text(file.read_text().replace(f"{key} =", f"other_{key} =").replace(f"[{key}]", f"[other_{key}]"))
    with pytest.raises(WeightsInvalid, match=key):
        read_manifest("small")


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"schema": 2}, "schema 2"), ({"architecture": "transformer"}, "transformer")],
)
def test_an_unknown_schema_or_architecture_stops_the_start(root: Path, changed: dict[str, Any], words: str) -> None:
    write(root, **changed)
    with pytest.raises(WeightsInvalid, match=words):
        load_network("small")


def test_tensors_that_do_not_fit_the_network_stop_the_start(root: Path) -> None:
    file = root / "weights" / "small" / "manifest.toml"
    file.write_text(file.read_text().replace("[8, 16]", "[16, 16]"))
    with pytest.raises(WeightsInvalid, match="do not fit"):
        load_network("small")


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.toml"])
def test_a_missing_file_is_named(root: Path, name: str) -> None:
    (root / "weights" / "small" / name).unlink()
    with pytest.raises(WeightsInvalid, match=name):
        read_manifest("small")


def test_a_manifest_that_is_no_toml_is_named(root: Path) -> None:
    (root / "weights" / "small" / "manifest.toml").write_text("schema = ")
    with pytest.raises(WeightsInvalid, match="cannot be read"):
        read_manifest("small")


def test_every_network_that_can_be_named_exists() -> None:
    from inference.networks.table import NETWORKS

    assert NETWORKS["unet"] is UNet
