"""A page of pictures: input, every method, the truth and what differs, for scenes of each protocol and a real case."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks.mar.measure import Judged
from benchmarks.mar.methods import settings_of
from benchmarks.mar.scenes import body_of
from dicomnode.load import load_volume
from inference.errors import SourceRefused
from inference.pipeline import build_pipeline, run_pipeline
from inference.pipelines.ct_metal_artifact_reduction import NAME

Image = NDArray[np.float32]

WINDOW_HU = (-160.0, 240.0)
DIFFERENCE_HU = 150.0
MARGIN_PIXELS = 10
REAL_CASE = Path("fixtures", "ct_dental_metal_TCGA-E3-A3E5")
STYLE = """
body { margin: 1.5rem; background: #14161a; color: #dfe3e8; font: 15px/1.4 system-ui, sans-serif }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem } p { max-width: 60rem }
.row { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(150px, 1fr); gap: .5rem; margin-bottom: .5rem }
figure { margin: 0 } img { width: 100%; display: block; background: #000 }
figcaption { padding: .25rem 0; font-size: .8rem; color: #aab3bd }
"""


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Pictures of one slice: (caption, HU) each, and what is subtracted from them for the second row.

    base: the caption of the picture that the others are compared with.
    """

    title: str
    shown: Sequence[tuple[str, Image]]
    compared_to: str
    base: Image
    box: tuple[slice, slice] = field(default=(slice(None), slice(None)))


def scene_strip(protocol: str, judged: Judged) -> Strip:
    """The strip of a simulated scene, with its figures in the captions."""
    scene = judged.scene
    shown: list[tuple[str, Image]] = []
    by_result = {(row.method, row.gate): row for row in judged.rows}
    for (method, gate), image in judged.images.items():
        if gate == "on":
            continue
        figures = by_result[method, gate].figures
        caption = f"{method}: {figures['psnr_db']:.1f} dB, streaks {figures['streak_hu']:.0f} HU"
        if gate == "off":
            caption += f", shell {figures['shell_bias_hu']:+.0f} HU"
            sent = by_result.get((method, "on"))
            if sent is not None:
                caption += "; gate: passed unchanged" if sent.unchanged else "; gate: sent"
        shown.append((caption, image))
    shown.append(("truth", scene.clean))
    title = f"({protocol}) {scene.kind}, {scene.metal_mm2:.0f} mm2 of metal"
    return Strip(title, shown, "truth", scene.clean, _box(scene.clean))


def real_strips(data: Path, methods: Sequence[str]) -> list[Strip]:
    """The strips of the real dental case as the pipeline sends it; none where the case is not there."""
    files = sorted((data / REAL_CASE).glob("*.dcm"))
    if not files:
        return []
    source, _ = load_volume(files)
    made, notes = {}, {}
    for method in methods:
        try:
            outcome = run_pipeline(build_pipeline(NAME, settings_of(method)), source)
        except SourceRefused as refusal:
            made[method], notes[method] = source.values, dict.fromkeys(range(len(files)), str(refusal))
            continue
        made[method] = outcome.volume.values
        notes[method] = dict.fromkeys(outcome.unchanged, "passed unchanged")
    strips = []
    for index, before in enumerate(source.values):
        shown = [("input", before)]
        shown += [
            (f"{method}, as sent: {notes[method].get(index, 'changed')}", images[index])
            for method, images in made.items()
        ]
        title = f"real dental metal, slice {index + 1} of {len(files)} (no truth: differences to the input)"
        strips.append(Strip(title, shown, "input", before, _box(before)))
    return strips


def write_sheet(folder: Path, strips: Sequence[Strip], *, heading: str) -> Path:
    """index.html and its pictures in that folder; what lay there under the same names is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, strip in enumerate(strips):
        rows = [
            [
                (caption, f"{number:02d}-{place}.png", windowed(image, WINDOW_HU))
                for place, (caption, image) in enumerate(strip.shown)
            ],
            [
                (f"less {strip.compared_to}", f"{number:02d}-{place}-difference.png", difference(image - strip.base))
                for place, (_, image) in enumerate(strip.shown)
                if image is not strip.base
            ],
        ]
        if strip.shown[0][1] is strip.base:
            # an empty place keeps each difference under its picture
            rows[1].insert(0, ("", "", np.zeros((0, 0), np.uint8)))
        parts.append(f"<h2>{html.escape(strip.title)}</h2>")
        for row in rows:
            parts.append('<div class="row">')
            for caption, name, pixels in row:
                if name:
                    Picture.fromarray(np.ascontiguousarray(pixels[strip.box])).save(folder / name)
                picture = f'<img src="{name}" alt="{html.escape(caption)}">' if name else ""
                parts.append(f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>")
            if len(row) < len(strip.shown):
                parts.append("<figure></figure>" * (len(strip.shown) - len(row)))
            parts.append("</div>")
    page = folder / "index.html"
    words = (
        f"Window {WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU. Under each picture its difference: grey is none, black "
        f"and white are {DIFFERENCE_HU:.0f} HU. Simulated scenes show each method without the gate."
    )
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(heading)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(heading)}</h1><p>{words}</p>{''.join(parts)}</html>\n",
        encoding="utf-8",
    )
    return page


def windowed(image: Image, window_hu: tuple[float, float]) -> NDArray[np.uint8]:
    """Grey values of HU between the ends of a window."""
    low, high = window_hu
    return np.asarray(np.rint(np.clip((image - low) / (high - low), 0, 1) * 255), np.uint8)


def difference(values: Image) -> NDArray[np.uint8]:
    """Grey values of a difference in HU, nought in the middle."""
    return windowed(values, (-DIFFERENCE_HU, DIFFERENCE_HU))


def _box(image: Image) -> tuple[slice, slice]:
    """Round the body, with a margin."""
    body = body_of(image)
    if not body.any():
        return slice(None), slice(None)
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return tuple(  # type: ignore[return-value]
        slice(max(0, int(ends[0]) - MARGIN_PIXELS), int(ends[-1]) + 1 + MARGIN_PIXELS) for ends in (rows, columns)
    )
