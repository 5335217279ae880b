"""Small weights with their manifest, as a site would put them into a folder of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from inference.model_files import MANIFEST_FILE, UNSAID
from inference.networks.unet import UNet

WIDTHS = [8, 16]


def write_weights(
    root: Path,
    name: str,
    *,
    channels_in: int = 2,
    seed: int = 1,
    last_bias: float = 0.0,
    in_distribution: Mapping[str, tuple[float, float]] | None = None,
    **changed: Any,
) -> None:
    """A folder of weights of an untrained U-Net.

    last_bias: what it answers everywhere. changed: facts of the manifest.
    """
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = UNet(channels_in, 1, WIDTHS)
    assert network.leave.bias is not None
    torch.nn.init.constant_(network.leave.bias, last_bias)
    save_file(network.state_dict(), folder / "model.safetensors")
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
    tables = ["[hyper_parameters]", f"channels_in = {channels_in}", "channels_out = 1", f"widths = {WIDTHS}"]
    tables += ["[metrics]", "psnr_db = 40.5", "[in_distribution]"]
    ranges = {"pixel_spacing_mm": (0.6, 1.2)} if in_distribution is None else in_distribution
    tables += [f"{key} = {list(ends)}" for key, ends in ranges.items()]
    (folder / "manifest.toml").write_text("\n".join([*lines, *tables]), encoding="utf-8")


def say_the_rest(folder: Path) -> None:
    """Writes into the draft of a manifest in that folder what a person has to say."""
    file = folder / MANIFEST_FILE
    text = file.read_text(encoding="utf-8")
    assert text.count(UNSAID) == 2
    file.write_text(text.replace(UNSAID, "Said"), encoding="utf-8")
