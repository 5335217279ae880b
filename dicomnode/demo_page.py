"""The demonstration's pictures and page: source, derived and difference side by side."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float32]
PANEL = 320
CAPTION = 22

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1360px; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; margin: 1rem 0 2rem; }
td, th { padding: .35rem .9rem; border-bottom: 1px solid #d5dbe3; }
th { text-align: left; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0 0 2rem; } img { max-width: 100%; background: #000; } figcaption { color: #4a5666; }
"""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Stacks (slices, rows, columns) of one phantom: as sent, as it came back, and the truth.

    window: (low, high) of truth and result; source_window: of what was sent, which may have another unit.
    """

    name: str
    before: Array
    after: Array
    truth: Array
    window: tuple[float, float]
    source_window: tuple[float, float]

    @property
    def file_name(self) -> str:
        """The picture's file."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name.lower()) + ".png"


def write_picture(folder: Path, picture: Picture) -> Path:
    """A PNG of the slice that changed most: sent, derived, truth, and derived minus truth."""
    k = most_changed_slice(picture)
    low, high = picture.window
    reach = (high - low) / 4
    panels = [
        ("sent", grey(picture.before[k], picture.source_window)),
        ("derived", grey(picture.after[k], picture.window)),
        ("truth", grey(picture.truth[k], picture.window)),
        (f"derived - truth (+-{reach:.0f})", grey(picture.after[k] - picture.truth[k], (-reach, reach))),
    ]
    sheet = Image.new("L", (PANEL * len(panels), PANEL + CAPTION), 255)
    draw = ImageDraw.Draw(sheet)
    for number, (caption, panel) in enumerate(panels):
        scale = PANEL / max(panel.shape)
        image = Image.fromarray(panel).resize((round(panel.shape[1] * scale), round(panel.shape[0] * scale)))
        sheet.paste(image, (number * PANEL, CAPTION))
        draw.text((number * PANEL + 6, 5), caption, fill=0)
    path = folder / picture.file_name
    sheet.save(path)
    return path


def most_changed_slice(picture: Picture) -> int:
    """The slice in which the result differs most from what was sent, or the middle one where units differ."""
    if picture.window != picture.source_window:
        return len(picture.truth) // 2
    low, high = picture.window
    change = np.abs(np.clip(picture.after, low, high) - np.clip(picture.before, low, high)).sum(axis=(1, 2))
    return int(np.argmax(change))


def grey(values: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Values (rows, columns) as 8-bit grey levels of a window."""
    low, high = window
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def write_page(
    folder: Path,
    pictures: Sequence[Picture],
    facts: Sequence[dict[str, Any]],
    *,
    key_images: Sequence[NDArray[np.uint8]] = (),
) -> Path:
    """The page index.html with the figures, a picture of each phantom, and the key images, (rows, columns, 3)."""
    rows = "".join(
        "<tr>"
        f"<td>{html.escape(str(fact['phantom']))}</td><td>{html.escape(str(fact['pipeline']))}</td>"
        f"<td>{html.escape(str(fact['state']))}</td><td class=number>{fact['instances']}</td>"
        f"<td class=number>{fact['seconds']:.1f}</td><td class=number>{fact['psnr_before_db']:.1f}</td>"
        f"<td class=number>{fact['psnr_after_db']:.1f}</td></tr>"
        for fact in facts
    )
    figures = "".join(
        f"<figure><img src='{write_picture(folder, picture).name}' alt='{html.escape(picture.name)}: sent, derived, "
        f"truth, difference'><figcaption>{html.escape(picture.name)}</figcaption></figure>"
        for picture in pictures
    )
    for number, image in enumerate(key_images, 1):
        Image.fromarray(image).save(folder / f"key-image-{number}.png")
        figures += (
            f"<figure><img src='key-image-{number}.png' alt='key image {number}'><figcaption>Key image {number}: sent "
            "to the PACS beside the derived series, as Secondary Capture</figcaption></figure>"
        )
    page = folder / "index.html"
    page.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>dicom-ai-node: demonstration</title>"
        f"<style>{STYLE}</style><h1>What the node made of three phantoms</h1>"
        "<p>Each series was sent by C-STORE, met a rule, went through a pipeline and came back to a stand-in PACS as a "
        "derived series of the same study. The figures are measured on what the PACS holds, against the known truth. "
        "Phantoms, not patients; baselines, not a medical device.</p>"
        "<table><tr><th>phantom<th>pipeline<th>state<th>instances<th>seconds<th>PSNR before, dB<th>PSNR after, dB</tr>"
        f"{rows}</table>{figures}</html>",
        encoding="utf-8",
    )
    return page
