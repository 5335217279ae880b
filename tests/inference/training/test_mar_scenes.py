"""Training scenes are what the pipeline will see, with the truth beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.training import mar_scenes
from inference.training.mar_scenes import CLEAN, FOUND, NORMALISED, SPOILED, TRUE_SHARE, WITH_LESIONS, make_shard

SIZE = 96


def bodies() -> NDArray[np.int16]:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image = np.full((SIZE, SIZE), -1000, np.int16)
    image[(x / 40) ** 2 + (y / 30) ** 2 < 1] = 40
    image[np.hypot(x - 15, y) < 6] = 600
    return np.stack([image, image[::-1]])


def test_a_shard_holds_scenes_with_metal_found_and_their_truth() -> None:
    shard = make_shard(bodies(), spacing_mm=4.0, seed=3, scenes=4)
    assert shard.images.shape == (4, 8, SIZE, SIZE) and shard.images.dtype == np.int16
    assert shard.masks.shape == (4, 2, SIZE, SIZE) and shard.masks.dtype == np.uint8
    assert shard.masks[:, FOUND].any(axis=(1, 2)).all() and shard.masks[:, TRUE_SHARE].any(axis=(1, 2)).all()
    away = shard.masks.max(axis=1) == 0
    errors = [
        np.abs(shard.images[:, kind].astype(float) - shard.images[:, CLEAN])[away].mean()
        for kind in (SPOILED, NORMALISED)
    ]
    assert errors[1] < errors[0]


def test_the_second_half_is_the_same_scan_of_the_slice_with_faint_lesions() -> None:
    shard = make_shard(bodies(), spacing_mm=4.0, seed=3, scenes=4)
    less = shard.images[:, WITH_LESIONS:].astype(float) - shard.images[:, :WITH_LESIONS]
    lesions = less[:, CLEAN]
    assert lesions.any(axis=(1, 2)).all() and np.abs(lesions).max() <= 60
    elsewhere = lesions == 0
    assert np.abs(less[:, SPOILED][elsewhere]).mean() < 1
    kept = (less[:, SPOILED] * lesions).sum() / (lesions**2).sum()
    assert 0.4 < kept < 1.1


def test_some_metal_leaves_no_artifact_and_there_is_nothing_to_take_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mar_scenes, "WITHOUT_ARTIFACT", 1.0)
    shard = make_shard(bodies(), spacing_mm=4.0, seed=3, scenes=4)
    beside = shard.masks[:, TRUE_SHARE] == 0
    for first in (0, WITH_LESIONS):
        change = np.abs(shard.images[:, first + SPOILED].astype(int) - shard.images[:, first + CLEAN])
        # a voxel whose share of metal rounds to nought of 255 may still hold a few HU of it
        assert change[beside].max() <= 40 and np.median(change[beside]) == 0 and change[~beside].min() > 0
    assert (shard.images[:, SPOILED][shard.masks[:, FOUND] > 0] > 2000).all()


def test_round_the_body_lies_what_lies_round_a_patient() -> None:
    shard = make_shard(bodies(), spacing_mm=4.0, seed=3, scenes=4)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    far = (x / 42) ** 2 + (y / 32) ** 2 > 1
    assert any((image[far] > -900).any() for image in shard.images[:, CLEAN])


def test_the_same_seed_makes_the_same_shard() -> None:
    first, second = (make_shard(bodies(), spacing_mm=4.0, seed=5, scenes=2) for _ in range(2))
    assert np.array_equal(first.images, second.images) and np.array_equal(first.masks, second.masks)


def test_the_command_makes_only_the_shards_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "slices.npz", A=bodies())
    (tmp_path / "slices.json").write_text(json.dumps({"A": {"slices": [{"ps": [4.0, 4.0]}]}}))
    monkeypatch.setattr(mar_scenes, "SCENES_A_SHARD", 2)
    words = [str(tmp_path / "slices.npz"), str(tmp_path / "scenes"), "--subjects", "A", "--shards", "2"]
    monkeypatch.setattr(sys, "argv", ["mar_scenes", *words])
    mar_scenes.main()
    ranges = json.loads((tmp_path / "scenes" / "scenes.json").read_text())
    assert ranges["pixel_spacing_mm"] == [1.8, 4.6] and ranges["kvp"] == [70, 140]
    wider = {"pixel_spacing_mm": [0.5, 0.6], "kvp": [70, 150]}  # of an earlier run in the same folder
    (tmp_path / "scenes" / "scenes.json").write_text(json.dumps(wider))
    (tmp_path / "scenes" / "00002.images.npy").unlink()
    capsys.readouterr()
    mar_scenes.main()
    assert capsys.readouterr().out.startswith("shard 2:")
    ranges = json.loads((tmp_path / "scenes" / "scenes.json").read_text())
    assert ranges == {"pixel_spacing_mm": [0.5, 4.6], "kvp": [70, 150]}
    assert sorted(path.name for path in (tmp_path / "scenes").glob("*.npy")) == [
        "00001.images.npy",
        "00001.masks.npy",
        "00002.images.npy",
        "00002.masks.npy",
    ]
