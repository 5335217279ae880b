"""Runs a rung on a scene: as it is, and behind the pipeline's gate, as the PACS would get it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.mar.scenes import Scene
from inference.errors import SourceRefused, WeightsInvalid
from inference.physics.metal import find_metal, metal_threshold_hu
from inference.pipeline import build_pipeline, run_pipeline
from inference.pipelines.ct_metal_artifact_reduction import METHODS, NAME, CtMetalArtifactReduction
from inference.volume import Acquisition, Geometry, Unit, Volume

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]
BITS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """images: the scene's slice and that with the lesions, HU; unchanged: which of the two were passed through.

    exact: the metal that was found has the source's values bit for bit. refusal: the pipeline's reason code.
    """

    images: Images
    unchanged: tuple[bool, bool]
    exact: bool
    refusal: str = ""


def found_metal(scene: Scene) -> Mask:
    """(2, rows, columns), the metal that the pipeline finds in the slice without and with lesions."""
    pair = pair_of(scene)
    return find_metal(pair, metal_threshold_hu(pair, bits_stored=BITS))


def pair_of(scene: Scene) -> Images:
    """The slice without and with lesions, as one stack: a part in one slice only may be too small to count as metal."""
    return np.stack([scene.spoiled, scene.with_lesions])


def ungated(scene: Scene, found: Mask, method: str) -> Result:
    """What the rung makes of the scene, with the metal put back, whether it gained or not."""
    pair = pair_of(scene)
    if not found.any():
        return Result(pair, (True, True), True)
    reduction = cast(CtMetalArtifactReduction, build_pipeline(NAME, {"method": method}))._reduction()
    made = np.clip(reduction(pair, found, spacing_mm=scene.spacing_mm), pair.min(), pair.max())
    return Result(np.where(found, pair, made), (False, False), True)


def gated(scene: Scene, method: str) -> Result:
    """What the pipeline sends: the source where it refuses."""
    source = series(pair_of(scene), scene.spacing_mm)
    try:
        outcome = run_pipeline(build_pipeline(NAME, {"method": method}), source)
    except SourceRefused as refusal:
        return Result(source.values, (True, True), True, refusal.reason_code)
    made, metal = outcome.volume.values, outcome.masks["metal"]
    exact = bool(np.array_equal(made[metal], source.values[metal]))
    return Result(made, (0 in outcome.unchanged, 1 in outcome.unchanged), exact)


def series(slices_hu: Images, spacing_mm: float) -> Volume:
    """An axial 12-bit CT series of those slices."""
    geometry = Geometry(np.diag([3.0, spacing_mm, spacing_mm, 1.0])[[2, 1, 0, 3]], "1.2.3")
    return Volume(slices_hu, Unit.HU, geometry, Acquisition("CT", bits_stored=BITS))


def methods_named(names: list[str] | None) -> tuple[str, ...]:
    """Those of the pipeline's rungs; without names all whose weights are installed, and a word about the others."""
    if unknown := sorted(set(names or ()) - set(METHODS)):
        raise SystemExit(f"there is no method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    if names:
        return tuple(names)
    usable = []
    for method in METHODS:
        try:
            build_pipeline(NAME, {"method": method})
        except WeightsInvalid as fault:
            print(f"{method} is left out: {fault}", file=sys.stderr)
        else:
            usable.append(method)
    return tuple(usable)
