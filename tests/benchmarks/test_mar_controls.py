"""Controls hold metal and no artifact, and what the gate leaves alone counts as no change."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.mar.controls import METAL_HU, PLACES, changes, control_scenes, told
from benchmarks.mar.scenes import Scene
from inference.physics.ct_simulation import simulate_metal_ct

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
    drawn = next(scene for scene in scenes() if scene.kind == "dental")
    scan = simulate_metal_ct(drawn.clean[None], drawn.metal[None], metal="iron", spacing_mm=drawn.spacing_mm, seed=1)
    spoiled = np.rint(scan[0])
    passed, sent = changes([drawn, dataclasses.replace(drawn, spoiled=spoiled, with_lesions=spoiled)], "nmar")
    assert passed is None
    assert sent is not None and sent > 20
    assert told([None, 7.0, 9.0]) == ("3", "2", "8.0 / 9.0")
    assert told([None]) == ("1", "0", "")
