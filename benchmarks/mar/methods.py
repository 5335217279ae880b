"""Runs a rung on a scene: as it is, and behind the pipeline's gate, as the PACS would get it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.mar.scenes import Scene
from inference.errors import SettingsInvalid, SourceRefused, WeightsInvalid
from inference.mar_settings import METAL_MASKS, METHODS, PRIORS
from inference.physics.metal import find_metal, metal_threshold_hu
from inference.pipeline import build_pipeline, run_pipeline
from inference.pipelines.ct_metal_artifact_reduction import NAME, CtMetalArtifactReduction
from inference.volume import Acquisition, Geometry, Unit, Volume

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]
BITS = 12
WEIGHTS_VARIABLE = "MAR_WEIGHTS_FOLDER"
"""Where the weights of --weights lie; the environment reaches the process that measures the cost as well."""


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
    """What the rung makes of the scene, with the metal put back, whether it gained or not.

    found: by threshold; a method that finds its metal by the network has that put back.
    """
    pair = pair_of(scene)
    pipeline = cast(CtMetalArtifactReduction, build_pipeline(NAME, settings_of(method)))
    if settings_of(method).get("metal_mask") == "network":
        try:
            found = pipeline.metal_of(series(pair, scene.spacing_mm))
        except SourceRefused as refusal:
            return Result(pair, (True, True), True, refusal.reason_code)
    if not found.any():
        return Result(pair, (True, True), True)
    made = pipeline.reduced(pair, found, spacing_mm=scene.spacing_mm, body_part_examined="")
    return Result(np.where(found, pair, np.clip(made, pair.min(), pair.max())), (False, False), True)


def gated(scene: Scene, method: str) -> Result:
    """What the pipeline sends: the source where it refuses."""
    source = series(pair_of(scene), scene.spacing_mm)
    try:
        outcome = run_pipeline(build_pipeline(NAME, settings_of(method)), source)
    except SourceRefused as refusal:
        return Result(source.values, (True, True), True, refusal.reason_code)
    made, metal = outcome.volume.values, outcome.masks["metal"]
    exact = bool(np.array_equal(made[metal], source.values[metal]))
    return Result(made, (0 in outcome.unchanged, 1 in outcome.unchanged), exact)


def series(slices_hu: Images, spacing_mm: float) -> Volume:
    """An axial 12-bit CT series of those slices."""
    geometry = Geometry(np.diag([3.0, spacing_mm, spacing_mm, 1.0])[[2, 1, 0, 3]], "1.2.3")
    return Volume(slices_hu, Unit.HU, geometry, Acquisition("CT", bits_stored=BITS))


def settings_of(method: str) -> dict[str, str | int]:
    """The pipeline's settings for a name of the benchmark: a rung, and behind colons a prior, a mask or the steps.

    "prior_net:pix2pix", "nmar:network" (metal found by the network), "dual_domain_diffusion:50".
    """
    rung, *more = method.split(":")
    settings: dict[str, str | int] = {"method": rung}
    if folder := os.environ.get(WEIGHTS_VARIABLE):
        settings["weights_folder"] = folder
    for word in more:
        if word.isdecimal():
            settings["steps"] = int(word)
        elif word in PRIORS:
            settings["prior"] = word
        elif word in METAL_MASKS:
            settings["metal_mask"] = word
        else:
            known = ", ".join((*PRIORS, *METAL_MASKS))
            raise SystemExit(f"{method}: behind a colon stands one of {known}, or a number of steps, not {word!r}")
    return settings


def methods_named(names: list[str] | None) -> tuple[str, ...]:
    """The names, each a rung that can be had; without names all rungs whose weights are installed."""
    usable = []
    for method in names or METHODS:
        try:
            build_pipeline(NAME, settings_of(method))
        except SettingsInvalid as fault:
            raise SystemExit(f"{method}: {fault}") from fault
        except WeightsInvalid as fault:
            if names:
                raise SystemExit(f"{method}: {fault}") from fault
            print(f"{method} is left out: {fault}", file=sys.stderr)
        else:
            usable.append(method)
    return tuple(usable)
