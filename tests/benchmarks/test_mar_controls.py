"""Controls hold metal and no artifact, and what the gate leaves alone counts as no change."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.mar.controls import METAL_HU, PLACES, changes, control_scenes, told
from benchmarks.mar.scenes import Scene

SIZE = 96


def scenes() -> list[Scene]:
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where(np.hypot(rows, columns) < 42, 40, -1000).astype(np.int16)
    return list(control_scenes(clean[None], spacing_mm=1.5, per_kind=1, seed=1))


def test_nothing_but_the_metal_differs_from_the_clean_slice() -> None:
    made = scenes()
    assert [scene.kind for scene in made] == list(PLACES)
    for scene in made:
        assert scene.metal.any() and (scene.spoiled[scene.metal] == METAL_HU).all()
        assert np.array_equal(scene.spoiled[~scene.metal], scene.clean[~scene.metal])


def test_a_slice_that_is_passed_has_no_change_and_one_that_is_sent_has_its_own() -> None:
    clean = scenes()[0]
    streaked = clean.spoiled.copy()
    streaked[::4] += np.where(clean.metal[::4] | (clean.clean[::4] < 0), 0, 200).astype(np.float32)
    changed = changes([clean, dataclasses.replace(clean, spoiled=streaked, with_lesions=streaked)], "li")
    assert all(change is None or change > 0 for change in changed)
    assert told([None, 7.0, 9.0]) == ("3", "2", "8.0 / 9.0")
    assert told([None]) == ("1", "0", "")
