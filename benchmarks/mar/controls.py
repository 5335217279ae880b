"""Metal that left no artifact, drawn into clean slices: what the gate sends all the same, and what that changed.

examples:
  python -m benchmarks.mar.controls DATA
  python -m benchmarks.mar.controls DATA --subject CRLM-CT-1006 --per-kind 2 --methods nmar
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.mar.figures import root_mean_square, zones_of
from benchmarks.mar.methods import found_metal, gated, methods_named
from benchmarks.mar.scenes import KINDS, Scene, held_out, implants

METAL_HU = 3071.0
PLACES = tuple(dict.fromkeys(kind for kind, _ in KINDS["b"]))


def main(arguments: list[str] | None = None) -> None:
    """Prints the table, ready for benchmarks/README.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mar.controls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder that holds ct_body_512.npz and ct_body_512.json")
    subjects = ["CRLM-CT-1006", "LIDC-IDRI-0314", "TCGA-DE-A4MA"]
    add("--subject", nargs="+", default=subjects, help="one or more (default: %(default)s)")
    add("--methods", nargs="+", default=["nmar", "prior_net"], help="rungs (default: %(default)s)")
    add("--per-kind", type=int, default=2, help="slices of each kind of metal and subject (default: %(default)s)")
    add("--seed", type=int, default=1, help="seed of slices and places (default: %(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = [("subject", "method", "slices", "sent", "change in the body, HU, mean / largest"), ("---",) * 5]
    for subject in given.subject:
        slices, spacing_mm = held_out(given.data, subject)
        scenes = list(control_scenes(slices, spacing_mm=spacing_mm, per_kind=given.per_kind, seed=given.seed))
        for method in methods_named(given.methods):
            steps = track(scenes, f"{subject}, {method}", console=Console(stderr=True))
            lines.append((subject, f"`{method}`", *told(changes(steps, method))))
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


def control_scenes(slices: NDArray[np.int16], *, spacing_mm: float, per_kind: int, seed: int) -> Iterator[Scene]:
    """Clean slices with the voxels of an implant set to the highest value of 12 bits, and nothing else."""
    random = np.random.default_rng(seed)
    for place in PLACES:
        for _ in range(per_kind):
            clean = slices[random.integers(0, len(slices))].astype(np.float32)
            metal = implants(clean, place, spacing_mm, random)
            drawn = np.where(metal, np.float32(METAL_HU), clean)
            yield Scene(place, clean, drawn, drawn, np.zeros((2, *clean.shape), np.float32), metal, spacing_mm)


def changes(scenes: Iterable[Scene], method: str) -> list[float | None]:
    """Of each slice the root mean square change in the body, HU; None where it is left as it was."""
    result = []
    for scene in scenes:
        sent = gated(scene, method)
        body = zones_of(scene, found_metal(scene)[0]).body
        result.append(None if sent.unchanged[0] else root_mean_square(sent.images[0] - scene.spoiled, body))
    return result


def told(changed_hu: Sequence[float | None]) -> tuple[str, str, str]:
    """How many slices, how many of them were sent, and what those changed."""
    sent = [change for change in changed_hu if change is not None]
    size = f"{np.mean(sent):.1f} / {max(sent):.1f}" if sent else ""
    return str(len(changed_hu)), str(len(sent)), size


if __name__ == "__main__":
    main()
