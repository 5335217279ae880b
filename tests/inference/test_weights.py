"""All weights that are shipped are what they say, small, and used by somebody."""

from __future__ import annotations

from pathlib import Path

import pytest

import inference
from inference.model_files import MODEL_FILE, load_network, read_manifest
from inference.pipelines.ct_metal_artifact_reduction import WEIGHTS

FOLDERS = sorted(path for path in (Path(inference.__file__).parent / "weights").iterdir() if path.is_dir())
LARGEST_BYTES = 25_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_weights_load_and_say_what_was_measured(folder: Path) -> None:
    manifest = read_manifest(folder.name)
    assert (folder / MODEL_FILE).stat().st_size < LARGEST_BYTES
    assert manifest.metrics and manifest.licence and manifest.training and manifest.intended_use
    assert sum(value.numel() for value in load_network(folder.name).parameters()) > 0


def test_every_shipped_folder_is_used_and_every_used_one_is_shipped() -> None:
    assert {folder.name for folder in FOLDERS} == set(WEIGHTS.values())
