"""Crops of scenes come by chance, the same for the same seed, from a folder that may grow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.training.crops import LOOK_AGAIN_AFTER, Crops

SIZE = 64


def shard(folder: Path, number: int, value: int) -> None:
    images = np.full((3, 4, SIZE, SIZE), value, np.int16)
    images[:, 3] = value - 7
    masks = np.zeros((3, 2, SIZE, SIZE), np.uint8)
    masks[:, 0, 30:34, 30:34] = 255
    masks[:, 1, 31:33, 31:33] = 128
    np.save(folder / f"{number:05d}.images.npy", images)
    np.save(folder / f"{number:05d}.masks.npy", masks)


def test_a_batch_is_the_input_the_truth_and_what_counts(tmp_path: Path) -> None:
    shard(tmp_path, 1, 100)
    given, true, counted = Crops(tmp_path, size=32, seed=1).batch(1, 5)
    assert given.shape == (5, 4, 32, 32) and true.shape == counted.shape == (5, 1, 32, 32)
    assert torch.allclose(given[:, :3], torch.tensor(0.1)) and torch.allclose(true, torch.tensor(0.093))
    found, left_out = given[:, 3:4] == 1, counted == 0
    assert found.any() and (found | ~left_out).all()


def test_the_same_seed_and_number_give_the_same_crops_and_others_differ(tmp_path: Path) -> None:
    rows = np.random.default_rng(1)
    shard(tmp_path, 1, 0)
    np.save(tmp_path / "00001.images.npy", rows.integers(0, 500, (3, 4, SIZE, SIZE)).astype(np.int16))
    first, again = (Crops(tmp_path, size=32, seed=4).batch(7, 2)[0] for _ in range(2))
    other = Crops(tmp_path, size=32, seed=4).batch(8, 2)[0]
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_paired_batch_holds_the_same_crops_without_and_with_lesions(tmp_path: Path) -> None:
    shard(tmp_path, 1, 0)
    plain = np.random.default_rng(1).integers(0, 500, (3, 4, SIZE, SIZE)).astype(np.int16)
    np.save(tmp_path / "00001.images.npy", np.concatenate([plain, plain + 20], axis=1))
    given, true, counted = Crops(tmp_path, size=32, seed=4).paired_batch(7, 6)
    assert given.shape == (6, 4, 32, 32) and torch.equal(counted[:3], counted[3:])
    assert torch.allclose(true[3:] - true[:3], torch.tensor(0.02)) and torch.equal(given[:3, 3], given[3:, 3])
    assert torch.allclose(given[3:, :3] - given[:3, :3], torch.tensor(0.02))


def test_pairs_need_scenes_with_lesions_and_an_even_number_of_crops(tmp_path: Path) -> None:
    shard(tmp_path, 1, 0)
    with pytest.raises(ValueError, match="without faint lesions"):
        Crops(tmp_path, size=32, seed=1).paired_batch(1, 2)
    with pytest.raises(ValueError, match="not 3"):
        Crops(tmp_path, size=32, seed=1).paired_batch(1, 3)


def test_shards_that_come_later_are_seen(tmp_path: Path) -> None:
    shard(tmp_path, 1, 100)
    crops = Crops(tmp_path, size=32, seed=1)
    crops.batch(1, 1)
    shard(tmp_path, 2, 900)
    given, _, _ = crops.batch(LOOK_AGAIN_AFTER, 30)
    assert {round(float(one), 3) for one in given[:, 0].amax(dim=(1, 2))} == {0.1, 0.9}


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mar_scenes"):
        Crops(tmp_path, size=32, seed=1).batch(1, 1)
