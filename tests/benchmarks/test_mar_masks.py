"""Dice of the metal that the pipeline finds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.mar.masks import dice_table, found_by
from benchmarks.mar.scenes import Scene, disc
from inference.mar_settings import METAL_MASKS

SIZE = 96


def scene(metal_hu: float) -> Scene:
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where(np.hypot(rows, columns) < 40, 40, -1000).astype(np.float32)
    metal = disc((SIZE, SIZE), x=60, y=48, radius=6)
    spoiled = np.where(metal, metal_hu, clean).astype(np.float32)
    return Scene("rod, iron", clean, spoiled, spoiled, np.zeros((2, SIZE, SIZE), np.float32), metal, 0.8)


@pytest.mark.parametrize("metal_mask", METAL_MASKS)
def test_metal_of_3071_hu_is_found_either_way_and_none_in_plain_tissue(metal_mask: str) -> None:
    metal = scene(3071.0)
    found = found_by(metal_mask, metal)
    both = (found & metal.metal).sum()
    assert both == found.sum() and both > 0.6 * metal.metal.sum()
    assert not found_by(metal_mask, scene(60.0)).any()


def test_the_table_has_a_line_for_each_kind_and_one_for_all() -> None:
    head, _, kind, total = dice_table([scene(3071.0), scene(3071.0)]).splitlines()
    assert head == "| metal | scenes | threshold | network |"
    assert kind.startswith("| rod, iron | 2 | ") and total == kind.replace("rod, iron", "all")
