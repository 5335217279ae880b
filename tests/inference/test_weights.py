"""All weights that are shipped are what they say, small, and used by somebody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import inference
from inference.in_distribution import facts_of
from inference.mar_methods import RECIPES
from inference.model_files import MODEL_FILE, load_network, read_manifest
from inference.volume import Acquisition, Geometry, Unit, Volume

FOLDERS = sorted(path for path in (Path(inference.__file__).parent / "weights").iterdir() if path.is_dir())
LARGEST_BYTES = 25_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_weights_load_and_say_what_was_measured(folder: Path) -> None:
    manifest = read_manifest(folder.name)
    assert (folder / MODEL_FILE).stat().st_size < LARGEST_BYTES
    assert manifest.metrics and manifest.licence and manifest.training and manifest.intended_use
    assert sum(value.numel() for value in load_network(manifest).parameters()) > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_weights_are_held_against_facts_that_are_known(folder: Path) -> None:
    source = Volume(np.zeros((1, 1, 1), np.float32), Unit.HU, Geometry(np.eye(4), "1.2"), Acquisition("CT"))
    ranges = read_manifest(folder.name).in_distribution
    assert ranges and set(ranges) <= set(facts_of(source))
    assert all(low < high for low, high in ranges.values())


def test_every_shipped_folder_is_used_and_the_weights_of_the_default_prior_are_shipped() -> None:
    assert "ct_mar_prior" in {folder.name for folder in FOLDERS} <= set(RECIPES)
