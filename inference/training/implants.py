"""Random metal implants in a CT slice, as each voxel's share of metal, for training scenes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Share = NDArray[np.float32]
Body = NDArray[np.bool_]

IN_BONE = 0.6
"""Share of the implants that are put where bone is."""
BONE_HU = 200.0
BODY_HU = -300.0


class Canvas:
    """Draws shapes with soft edges; lengths in mm, places in pixels (row, column)."""

    def __init__(self, shape: tuple[int, int], spacing_mm: float) -> None:
        self._rows, self._columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        self.per_mm = 1 / spacing_mm
        self.share: Share = np.zeros(shape, np.float32)

    def add(self, distance: NDArray[np.floating[Any]]) -> None:
        """A shape by its signed distance in pixels, below nought inside; a voxel on the edge is metal by half."""
        self.share = np.maximum(self.share, np.clip(0.5 - distance, 0, 1).astype(np.float32))

    def ellipse(self, at: NDArray[np.float64], *, along_mm: float, across_mm: float, angle: float = 0.0) -> None:
        """Half axes in mm."""
        x, y = self._turned(at, angle)
        half_x, half_y = along_mm * self.per_mm, across_mm * self.per_mm
        level = np.hypot(x / half_x, y / half_y)
        slope = np.hypot(x / half_x**2, y / half_y**2) / np.maximum(level, 1e-6)
        self.add((level - 1) / np.maximum(slope, 1e-6))

    def ring(self, at: NDArray[np.float64], *, radius_mm: float, thickness_mm: float) -> None:
        """A shell, e.g. an acetabular cup."""
        x, y = self._turned(at, 0.0)
        self.add(np.abs(np.hypot(x, y) - radius_mm * self.per_mm) - thickness_mm * self.per_mm / 2)

    def rod(self, at: NDArray[np.float64], *, length_mm: float, width_mm: float, angle: float) -> None:
        """A bar with round ends."""
        x, y = self._turned(at, angle)
        beyond = np.maximum(np.abs(x) - length_mm * self.per_mm / 2, 0)
        self.add(np.hypot(beyond, y) - width_mm * self.per_mm / 2)

    def blob(self, at: NDArray[np.float64], *, radius_mm: float, random: np.random.Generator) -> None:
        """A smooth random outline."""
        x, y = self._turned(at, 0.0)
        angle = np.arctan2(y, x)
        outline = np.ones_like(angle)
        for order in (1, 2, 3, 4):
            outline += random.uniform(0, 0.35 / order) * np.cos(order * angle + random.uniform(0, 2 * np.pi))
        self.add(np.hypot(x, y) - radius_mm * self.per_mm * outline)

    def _turned(self, at: NDArray[np.float64], angle: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x, y = self._columns - np.float32(at[1]), self._rows - np.float32(at[0])
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return x * cosine + y * sine, y * cosine - x * sine


def random_implant(
    clean_hu: NDArray[np.float32], *, spacing_mm: float, random: np.random.Generator
) -> tuple[Share, str]:
    """Each voxel's share of metal in one slice, (rows, columns) 0..1, and what kind of implant it is.

    clean_hu: (rows, columns) HU. Sizes are true to life; the place is random, more often in bone. Metal lies within
    the inscribed circle, which is all that a scan of the slice sees.
    """
    kind = str(random.choice(tuple(KINDS)))
    canvas = Canvas((clean_hu.shape[0], clean_hu.shape[1]), spacing_mm)
    KINDS[kind](canvas, _Places(clean_hu, spacing_mm, random), random)
    return np.where(_well_inside(clean_hu.shape[0]), canvas.share, 0).astype(np.float32), kind


class _Places:
    """Points in bone or in the body."""

    def __init__(self, clean_hu: NDArray[np.float32], spacing_mm: float, random: np.random.Generator) -> None:
        inside = _well_inside(clean_hu.shape[0])
        self._body = np.argwhere((clean_hu > BODY_HU) & inside)
        self._bone = np.argwhere((clean_hu > BONE_HU) & inside)
        self._random, self._per_mm = random, 1 / spacing_mm

    def one(self) -> NDArray[np.float64]:
        """(row, column) of a random voxel."""
        some = self._bone if len(self._bone) > 50 and self._random.random() < IN_BONE else self._body
        if not len(some):
            raise ValueError("there is no body in this slice to put an implant into")
        return np.asarray(some[self._random.integers(len(some))], np.float64)

    def near(self, point: NDArray[np.float64], spread_mm: float) -> NDArray[np.float64]:
        """A point near another."""
        return point + self._random.normal(0, spread_mm * self._per_mm, 2)


def _well_inside(size: int) -> Body:
    centred = np.arange(size) - (size - 1) / 2
    inside: Body = centred[:, None] ** 2 + centred**2 <= (0.92 * size / 2) ** 2
    return inside


def _angle(random: np.random.Generator) -> float:
    return float(random.uniform(0, np.pi))


def _hip(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(1, 3))):
        at = places.one()
        radius = random.uniform(10, 17)
        canvas.ellipse(at, along_mm=radius, across_mm=radius * random.uniform(0.7, 1), angle=_angle(random))
        if random.random() < 0.4:
            canvas.ring(at, radius_mm=radius + random.uniform(4, 9), thickness_mm=random.uniform(2, 5))
        if random.random() < 0.4:
            width, length = random.uniform(8, 15), random.uniform(20, 55)
            canvas.rod(places.near(at, 12), length_mm=length, width_mm=width, angle=_angle(random))


def _stems(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(1, 3))):
        half = random.uniform(4, 9)
        canvas.ellipse(places.one(), along_mm=half, across_mm=half * random.uniform(0.6, 1), angle=_angle(random))


def _dental(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    centre, turn = places.one(), random.uniform(0, 2 * np.pi)
    arch = random.uniform(15, 26)
    for _ in range(int(random.integers(1, 9))):
        way = turn + random.uniform(-1.9, 1.9)
        at = centre + arch * canvas.per_mm * np.array([np.sin(way), np.cos(way)])
        half = random.uniform(1.5, 5)
        canvas.ellipse(at, along_mm=half, across_mm=half * random.uniform(0.4, 1), angle=_angle(random))


def _screws(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    first = places.one()
    for _ in range(int(random.integers(1, 5))):
        length, width = random.uniform(12, 50), random.uniform(2.2, 6.5)
        canvas.rod(places.near(first, 18), length_mm=length, width_mm=width, angle=_angle(random))


def _rods(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    first = places.one()
    for _ in range(int(random.integers(1, 5))):
        half = random.uniform(1.2, 4)
        canvas.ellipse(places.near(first, 22), along_mm=half, across_mm=half * random.uniform(0.7, 1))


def _plate(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    at, angle = places.one(), _angle(random)
    canvas.rod(at, length_mm=random.uniform(15, 70), width_mm=random.uniform(1.5, 4.5), angle=angle)
    if random.random() < 0.5:
        length, width = random.uniform(12, 35), random.uniform(2.2, 5)
        canvas.rod(places.near(at, 8), length_mm=length, width_mm=width, angle=angle + np.pi / 2)


def _clips(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    first = places.one()
    for _ in range(int(random.integers(1, 7))):
        length, width = random.uniform(2, 9), random.uniform(0.8, 2.2)
        canvas.rod(places.near(first, 15), length_mm=length, width_mm=width, angle=_angle(random))


def _leads(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(1, 4))):
        half = random.uniform(0.6, 1.6)
        canvas.ellipse(places.one(), along_mm=half, across_mm=half)


def _blobs(canvas: Canvas, places: _Places, random: np.random.Generator) -> None:
    first = places.one()
    for _ in range(int(random.integers(1, 4))):
        canvas.blob(places.near(first, 20), radius_mm=float(np.exp(random.uniform(0.5, 2.7))), random=random)


KINDS: dict[str, Callable[[Canvas, _Places, np.random.Generator], None]] = {
    "hip": _hip,
    "stems": _stems,
    "dental": _dental,
    "screws": _screws,
    "rods": _rods,
    "plate": _plate,
    "clips": _clips,
    "leads": _leads,
    "blobs": _blobs,
}
