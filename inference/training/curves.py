"""Draws loss curves as a PNG, where Pillow is at hand; the history itself is kept as JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, MARGIN = 900, 420, 80, 36
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#555555")
GRID = "#dddddd"


def write_curves(path: Path, history: Sequence[Mapping[str, float]]) -> bool:
    """Each figure of the history over the steps, on a scale of its own magnitude (logarithmic); False without Pillow.

    history: one mapping a report, with "step" and figures above nought (others are left out).
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:  # a training machine may have nothing but torch, numpy, scipy and safetensors
        return False
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    names = list(dict.fromkeys(name for row in history for name in row if name != "step"))
    drawn = [math.log10(row[name]) for row in history for name in names if row.get(name, 0) > 0]
    if not drawn:
        return False
    low, high = min(drawn), max(drawn) + 1e-6
    last = max(row["step"] for row in history)

    def place(step: float, level: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - MARGIN) * step / last
        return x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (level - low) / (high - low)

    for share in range(6):
        level = low + share / 5 * (high - low)
        x, y = place(0, level)
        draw.line([(x, y), (WIDTH - MARGIN, y)], fill=GRID)
        draw.text((6, y - 6), f"{10**level:.3g}", fill="black")
        across = place(last * share / 5, low)
        draw.text((across[0] - 14, HEIGHT - MARGIN + 6), f"{last * share / 5:.0f}", fill="black")
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        points = [place(row["step"], math.log10(row[name])) for row in history if row.get(name, 0) > 0]
        draw.line(points, fill=colour, width=2)
        draw.text((LEFT + 10 + 150 * number, 10), name, fill=colour)
    sheet.save(path)
    return True


def main() -> None:
    """Draws the curves of a training folder anew."""
    parser = argparse.ArgumentParser(description="Draw curves.png from a training folder's history.json.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not write_curves(folder / "curves.png", json.loads((folder / "history.json").read_text(encoding="utf-8"))):
        raise SystemExit("Nothing was drawn: Pillow is missing (pip install pillow) or the history is empty.")


if __name__ == "__main__":
    main()
