"""Random crops of training scenes, as tensors; the folder of scenes may grow while it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.networks.metal_mask import metal_input
from inference.networks.prior import coded, network_input
from inference.training.mar_scenes import CLEAN, FOUND, INTERPOLATED, NORMALISED, SPOILED, TRUE_SHARE, WITH_LESIONS

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Parts = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

LOOK_AGAIN_AFTER = 200
"""Batches after which the folder is read again."""
NEAR_METAL = 0.7
"""Share of the crops whose centre lies near metal; the others lie anywhere but in air."""
NEAR_PIXELS = 60.0


class Crops:
    """Batches drawn by chance, the same for the same seed and number of the batch while the folder stays the same."""

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        self._folder, self._size, self._seed = folder, size, seed
        self._shards: list[tuple[NDArray[np.int16], NDArray[np.uint8]]] = []

    def batch(self, number: int, scenes: int) -> Batch:
        """given (scenes, 4, size, size), true and counted (scenes, 1, size, size); images in 1000 HU."""
        self._look_again(number)
        return self._batch(number, scenes, _correction)

    def paired_batch(self, number: int, scenes: int) -> Batch:
        """As `batch`, of half as many places: first all without faint lesions, then the same crops with them."""
        if scenes < 2 or scenes % 2:
            raise ValueError(f"a batch of pairs holds 2, 4, 6 ... crops, not {scenes}")
        self._look_again(number)
        if any(images.shape[1] <= WITH_LESIONS for images, _ in self._shards):
            raise ValueError(f"{self._folder} holds scenes without faint lesions; make scenes in a new folder")
        plain, with_lesions = (self._batch(number, scenes // 2, made_of) for made_of in (_correction, _with_lesions))
        given, true, counted = (torch.cat(parts) for parts in zip(plain, with_lesions, strict=True))
        return given, true, counted

    def metal_batch(self, number: int, scenes: int) -> Batch:
        """given (scenes, 2, size, size) as inference.networks.metal_mask sees slices, the true share of metal, ones."""
        self._look_again(number)
        return self._batch(number, scenes, _segmentation)

    def _look_again(self, number: int) -> None:
        if not self._shards or number % LOOK_AGAIN_AFTER == 0:
            self._shards = _shards(self._folder)

    def _batch(self, number: int, scenes: int, made_of: Callable[..., Parts]) -> Batch:
        random = np.random.default_rng((self._seed, number))
        parts = [self._crop(random, made_of) for _ in range(scenes)]
        given, true, counted = (torch.from_numpy(np.stack([part[index] for part in parts])) for index in range(3))
        return given, true, counted

    def _crop(self, random: np.random.Generator, made_of: Callable[..., Parts]) -> Parts:
        images, masks = self._shards[random.integers(len(self._shards))]
        scene = int(random.integers(len(images)))
        place = self._place(images[scene], masks[scene], random)
        parts = made_of(images[scene][:, place[0], place[1]], masks[scene][:, place[0], place[1]])
        turn, mirror = int(random.integers(4)), random.random() < 0.5
        given, true, counted = (np.ascontiguousarray(_turned(part, turn, mirror=mirror)) for part in parts)
        return given, true, counted

    def _place(
        self, images: NDArray[np.int16], masks: NDArray[np.uint8], random: np.random.Generator
    ) -> tuple[slice, slice]:
        near = random.random() < NEAR_METAL
        some = np.argwhere(masks[FOUND] > 0 if near else images[CLEAN] > -300)
        size = np.array(images.shape[1:])
        centre = some[random.integers(len(some))] if len(some) else size // 2
        if near:
            centre = centre + random.normal(0, NEAR_PIXELS, 2)
        top, left = np.clip(np.rint(centre - self._size / 2), 0, size - self._size).astype(int)
        return slice(top, top + self._size), slice(left, left + self._size)


def _correction(cut: NDArray[np.int16], metal: NDArray[np.uint8]) -> Parts:
    given = network_input(cut[SPOILED][None], cut[INTERPOLATED][None], cut[NORMALISED][None], metal[FOUND][None] > 0)
    return given[0], coded(cut[CLEAN])[None], (metal[TRUE_SHARE] == 0)[None].astype(np.float32)


def _with_lesions(cut: NDArray[np.int16], metal: NDArray[np.uint8]) -> Parts:
    return _correction(cut[WITH_LESIONS:], metal)


def _segmentation(cut: NDArray[np.int16], metal: NDArray[np.uint8]) -> Parts:
    share = metal[TRUE_SHARE][None].astype(np.float32) / 255
    return metal_input(cut[SPOILED][None])[0], share, np.ones_like(share)


def _shards(folder: Path) -> list[tuple[NDArray[np.int16], NDArray[np.uint8]]]:
    found = [
        (np.load(path, mmap_mode="r"), np.load(path.with_name(path.name.replace("images", "masks")), mmap_mode="r"))
        for path in sorted(folder.glob("*.images.npy"))
    ]
    if not found:
        raise FileNotFoundError(f"there are no scenes in {folder}; make some with inference.training.mar_scenes")
    return found


def _turned(part: NDArray[np.float32], turn: int, *, mirror: bool) -> NDArray[np.float32]:
    turned = np.rot90(part, turn, axes=(-2, -1))
    return turned[..., ::-1] if mirror else turned
