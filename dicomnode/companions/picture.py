"""Source, result and difference of a slice side by side as one RGB picture, with words that identify nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SMALLEST_PANEL, LARGEST_PANEL = 256, 768
"""Pixels that a panel's longer side has at least and at most."""
FONT_SIZE, LINE, MARGIN = 13, 18, 6
TEXT_COLOUR, LETTER_COLOUR, WARNING_COLOUR = (235, 235, 235), (255, 215, 0), (255, 170, 60)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """grey: (rows, columns) uint8, as displayed. lines: the words above it."""

    grey: NDArray[np.uint8]
    lines: tuple[str, ...]


def windowed(values: NDArray[np.float32], center: float, width: float) -> NDArray[np.uint8]:
    """Display values of a window, (rows, columns) uint8 (PS3.3 C.11.2.1.3.2, linear exact)."""
    relative = (values.astype(np.float64) - (center - width / 2)) / width
    grey: NDArray[np.uint8] = np.rint(np.clip(relative, 0, 1) * 255).astype(np.uint8)
    return grey


def side_by_side(
    panels: Sequence[Panel],
    footer: Sequence[str],
    *,
    pixel_mm: tuple[float, float],
    directions: tuple[str, str],
) -> NDArray[np.uint8]:
    """The panels from left to right, (rows, columns, 3) uint8, in the patient's proportions.

    pixel_mm: distance of neighbouring rows and of columns. directions: the side of the patient (L, R, A, P, H or F)
    that lies at the right and at the bottom of every panel; the letters are drawn.
    """
    font = ImageFont.load_default(FONT_SIZE)
    height, width = _panel_size(panels[0].grey.shape, pixel_mm)
    cell = max(width, SMALLEST_PANEL)
    total = cell * len(panels) + MARGIN * (len(panels) + 1)
    head = LINE * max(len(panel.lines) for panel in panels) + MARGIN
    lines = [line for text in footer for line in _wrapped(text, font, total - 2 * MARGIN)]
    canvas = Image.new("RGB", (total, head + height + LINE * len(lines) + 2 * MARGIN))
    draw = ImageDraw.Draw(canvas)
    for number, panel in enumerate(panels):
        left = MARGIN + number * (cell + MARGIN)
        for row, text in enumerate(panel.lines):
            draw.text((left, MARGIN // 2 + row * LINE), text, fill=TEXT_COLOUR, font=font)
        image = Image.fromarray(panel.grey).resize((width, height), Image.Resampling.BILINEAR)
        corner = (left + (cell - width) // 2, head)
        canvas.paste(image.convert("RGB"), corner)
        _draw_letters(draw, font, corner, (width, height), directions)
    for row, text in enumerate(lines):
        draw.text((MARGIN, head + height + MARGIN + row * LINE), text, fill=WARNING_COLOUR, font=font)
    return np.asarray(canvas, dtype=np.uint8)


def _panel_size(shape: tuple[int, ...], pixel_mm: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of a panel whose pixels are square; a whole multiple of small images."""
    finest = min(pixel_mm)
    rows, columns = shape[0] * pixel_mm[0] / finest, shape[1] * pixel_mm[1] / finest
    longest = max(rows, columns)
    scale = min(1.0, LARGEST_PANEL / longest)
    if longest < SMALLEST_PANEL:
        scale = float(-(-SMALLEST_PANEL // longest))
    return max(round(rows * scale), 1), max(round(columns * scale), 1)


OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


def _draw_letters(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[int, int],
    size: tuple[int, int],
    directions: tuple[str, str],
) -> None:
    (left, top), (width, height), (right, bottom) = corner, size, directions
    middle, centre = top + height // 2, left + width // 2
    for at, anchor, letter in (
        ((left + 3, middle), "lm", OPPOSITE[right]),
        ((left + width - 3, middle), "rm", right),
        ((centre, top + 3), "mt", OPPOSITE[bottom]),
        ((centre, top + height - 3), "mb", bottom),
    ):
        draw.text(at, letter, fill=LETTER_COLOUR, font=font, anchor=anchor)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines that fit the width; a word longer than the width stays whole."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
