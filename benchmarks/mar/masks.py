"""The metal masks of the pipeline, by threshold and by network, against the true metal: Dice by kind of metal.

examples:
  python -m benchmarks.mar.masks DATA
  python -m benchmarks.mar.masks DATA --protocol b c --per-kind 2
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.mar.methods import pair_of, series, settings_of
from benchmarks.mar.scenes import KINDS, Scene, held_out, kind_scenes
from inference.errors import SourceRefused
from inference.mar_settings import METAL_MASKS
from inference.pipeline import build_pipeline
from inference.pipelines.ct_metal_artifact_reduction import NAME, CtMetalArtifactReduction
from inference.training.metal_mask import dice

Mask = NDArray[np.bool_]


def main(arguments: list[str] | None = None) -> None:
    """Prints one table a protocol, ready for benchmarks/README.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mar.masks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder that holds ct_body_512.npz and ct_body_512.json")
    add("--protocol", nargs="+", choices=sorted(KINDS), default=["b", "c"], help="one or more (default: b c)")
    add("--subject", default="CRLM-CT-1006", help="a held-out subject (default: %(default)s)")
    add("--per-kind", type=int, default=2, help="scenes of each kind of metal (default: %(default)s)")
    add("--seed", type=int, default=1, help="seed of scenes and noise (default: %(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    slices, spacing_mm = held_out(given.data, given.subject)
    for protocol in given.protocol:
        scenes = (
            scene
            for kind, metal in track(KINDS[protocol], f"({protocol}) masks", console=Console(stderr=True))
            for scene in kind_scenes(
                protocol, kind, metal, slices, spacing_mm=spacing_mm, count=given.per_kind, seed=given.seed
            )
        )
        print(f"### ({protocol}) Dice of the metal found, {given.subject}\n\n{dice_table(scenes)}\n")


def dice_table(scenes: Iterable[Scene]) -> str:
    """A line for each kind of metal and one for all, a column for each way to find metal."""
    by_kind: dict[str, list[list[float]]] = {}
    for scene in scenes:
        true = torch.from_numpy(scene.metal)
        dices = [dice(torch.from_numpy(found_by(mask, scene)), true) for mask in METAL_MASKS]
        by_kind.setdefault(scene.kind, []).append(dices)
    by_kind["all"] = [dices for chosen in by_kind.values() for dices in chosen]
    lines = [("metal", "scenes", *METAL_MASKS), ("---",) * (2 + len(METAL_MASKS))]
    for kind, chosen in by_kind.items():
        lines.append((kind, str(len(chosen)), *(f"{mean:.2f}" for mean in np.mean(chosen, axis=0))))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def found_by(metal_mask: str, scene: Scene) -> Mask:
    """(rows, columns) True where the pipeline finds metal in the scene's slice; nowhere where it refuses."""
    pipeline = cast(CtMetalArtifactReduction, build_pipeline(NAME, settings_of(f"nmar:{metal_mask}")))
    try:
        return pipeline.metal_of(series(pair_of(scene), scene.spacing_mm))[0]
    except SourceRefused:
        return np.zeros_like(scene.metal)


if __name__ == "__main__":
    main()
