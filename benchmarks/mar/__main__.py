"""Metal artifact reduction against known truth: every method of the pipeline by up to three protocols.

DATA is a folder with ct_body_512.npz and ct_body_512.json; for the picture sheet also
fixtures/ct_dental_metal_TCGA-E3-A3E5. Tables go to standard output, ready for benchmarks/README.md.

examples:
  python -m benchmarks.mar DATA
  python -m benchmarks.mar DATA --protocol b --per-kind 2 --methods nmar prior_net prior_net:pix2pix
  python -m benchmarks.mar DATA --protocol a b c --json figures.json --sheet pictures
  python -m benchmarks.mar DATA --methods prior_net prior_net:pix2pix --weights my_weights
  python -m benchmarks.mar DATA --protocol a --subject C3N-00249 LIDC-IDRI-0314
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from benchmarks.mar.measure import Judged, Row, judged_image_only, judged_published
from benchmarks.mar.methods import WEIGHTS_VARIABLE, methods_named
from benchmarks.mar.published import FEWEST_SLICES, METALS_A_SLICE, published_scenes
from benchmarks.mar.scenes import KINDS, Scene, held_out, kind_scenes
from benchmarks.mar.sheet import Strip, real_strips, scene_strip, write_sheet
from benchmarks.mar.speed import SLICES, Cost, cost_of
from benchmarks.mar.tables import tables_of

PROTOCOLS = ("a", "b", "c")


def main(arguments: list[str] | None = None) -> None:
    given = _parsed(arguments)
    torch.set_num_threads(given.threads)
    if given.weights:
        os.environ[WEIGHTS_VARIABLE] = str(given.weights.resolve())
    methods = methods_named(given.methods)
    rows: list[Row] = []
    costs: list[Cost] = []
    strips: list[Strip] = []
    for_speed: list[Scene] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        for protocol in given.protocol:
            shown: set[str] = set()
            for judged in _judged(protocol, given, methods, bar):
                rows += judged.rows
                if given.sheet and judged.scene.kind not in shown:
                    shown.add(judged.scene.kind)
                    strips.append(scene_strip(protocol, judged))
                if protocol != "a" and len(for_speed) < SLICES:
                    for_speed.append(judged.scene)
        if for_speed and not given.no_speed:
            series = np.stack([scene.spoiled for scene in for_speed])
            spacing_mm = for_speed[0].spacing_mm
            for method in bar.track(methods, description="CPU and memory"):
                costs.append(cost_of(method, series, spacing_mm=spacing_mm, threads=given.threads))
    print(tables_of(rows, costs), end="")
    if given.json:
        content = {"scenes": [row.as_json() for row in rows], "costs": [cost.as_json() for cost in costs]}
        given.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if given.sheet:
        strips += real_strips(given.data, methods)
        page = write_sheet(given.sheet, strips, heading="Metal artifact reduction, side by side")
        print(f"\nPictures: {page}")


def _judged(protocol: str, given: argparse.Namespace, methods: tuple[str, ...], bar: Progress) -> Iterator[Judged]:
    if protocol == "a":
        yield from _published(given, methods, bar)
        return
    kinds = KINDS[protocol]
    made = bar.add_task(f"({protocol}) scenes", total=len(given.subject) * len(kinds) * given.per_kind)
    scenes: list[tuple[str, Scene]] = []
    # all of them first: the projector keeps the tables of one fan only
    for subject in given.subject:
        slices, spacing_mm = held_out(given.data, subject)
        for kind, metal in kinds:
            scenes += [
                (subject, scene)
                for scene in kind_scenes(
                    protocol, kind, metal, slices, spacing_mm=spacing_mm, count=given.per_kind, seed=given.seed
                )
            ]
            bar.update(made, completed=len(scenes))
    numbered = bar.track(list(enumerate(scenes)), description=f"({protocol}) methods")
    for number, (subject, scene) in numbered:
        yield judged_image_only(scene, methods, protocol=protocol, subject=subject, number=number)


def _published(given: argparse.Namespace, methods: tuple[str, ...], bar: Progress) -> Iterator[Judged]:
    # a single subject has to give as many pairs as the known figures are from
    count = max(given.per_kind, FEWEST_SLICES) if len(given.subject) == 1 else given.per_kind
    task = bar.add_task("(a) scenes and methods", total=len(given.subject) * count * METALS_A_SLICE)
    number = 0
    for subject in given.subject:
        slices, spacing_mm = held_out(given.data, subject)
        for group in published_scenes(slices, spacing_mm=spacing_mm, count=count, seed=given.seed):
            for judged in judged_published(group, methods, subject=subject, first_number=number):
                yield judged
                bar.advance(task)
            number += len(group.scenes)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mar", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder that holds ct_body_512.npz and ct_body_512.json")
    add("--protocol", nargs="+", choices=PROTOCOLS, default=["b"], help="a b c, one or more (default: b)")
    add("--subject", nargs="+", default=["CRLM-CT-1006"], help="held-out subjects (default: CRLM-CT-1006)")
    add("--per-kind", type=int, default=4, help="scenes of each kind of metal, a: slices (default: %(default)s)")
    add(
        "--methods",
        nargs="+",
        help="rungs, as nmar prior_net:pix2pix nmar:network (default: all whose weights are there)",
    )
    add("--weights", type=Path, metavar="FOLDER", help="weights folders in the place of those that are shipped")
    add("--seed", type=int, default=1, help="seed of scenes and noise (default: %(default)s)")
    add("--threads", type=int, default=2, help="torch threads (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures of every scene")
    add("--sheet", type=Path, metavar="FOLDER", help="write index.html with pictures")
    add("--no-speed", action="store_true", help="leave out CPU and memory of a batch of 16 slices")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
