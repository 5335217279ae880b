"""Scenes for the metal benchmark: slices of a held-out body with metal put in, and two faint lesions near it.

Protocols (b) and (c) are image-only: what a method gets are reconstructed 12-bit slices, and it scans them in a fan of
its own. (b) is simulated by inference.physics, with voltage, quanta, filter and scatter drawn for each kind of metal;
(c) by the second scanner, which shares no code with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, label

from benchmarks.mar_second_scanner import scan
from inference.physics.ct_simulation import CtProtocol, simulate_metal_ct

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

KINDS = {
    "b": (
        ("hip pair", "titanium"),
        ("hip pair", "cobalt_chromium"),
        ("one hip", "cobalt_chromium"),
        ("dental", "gold"),
        ("screws", "titanium"),
        ("screws", "iron"),
        ("rods", "titanium"),
        ("rods", "cobalt_chromium"),
        ("clip", "titanium"),
        ("clip", "gold"),
    ),
    "c": (
        ("hip pair", "titanium_alloy"),
        ("hip pair", "steel"),
        ("one hip", "steel"),
        ("dental", "amalgam"),
        ("screws", "titanium_alloy"),
        ("screws", "steel"),
        ("rods", "titanium_alloy"),
        ("rods", "steel"),
        ("clip", "titanium_alloy"),
        ("clip", "tantalum"),
    ),
}
SMALL_BELOW_MM2, LARGE_FROM_MM2 = 100.0, 500.0
BODY_HU = -300.0
SOFT_HU = (-150.0, 150.0)
LESION_HU, LESION_MM = 20.0, 5.0
LESION_OFF_METAL_MM = (2.0, 15.0)
"""Tissue between metal and lesion, at least: many rays through the first one are blocked by the metal, few through the
other."""
LESION_APART_MM = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A slice with metal put in; images are (rows, columns) HU.

    with_lesions: the same scan of the same slice with the lesions in it. lesions: (2, rows, columns), the share of each
    pixel that is lesion, by LESION_OFF_METAL_MM; zero everywhere where no soft tissue near the metal has room for it.
    """

    kind: str
    clean: Image
    spoiled: Image
    with_lesions: Image
    lesions: Image
    metal: Mask
    spacing_mm: float

    @property
    def metal_mm2(self) -> float:
        """Area of the metal."""
        return float(self.metal.sum()) * self.spacing_mm**2

    @property
    def size(self) -> str:
        """small, medium or large, by the area of the metal."""
        if self.metal_mm2 < SMALL_BELOW_MM2:
            return "small"
        return "large" if self.metal_mm2 >= LARGE_FROM_MM2 else "medium"


def held_out(data: Path, subject: str) -> tuple[NDArray[np.int16], float]:
    """(slices, rows, columns) HU of a subject, and the size of a pixel in mm."""
    facts = json.loads((data / "ct_body_512.json").read_text(encoding="utf-8"))
    archive = np.load(data / "ct_body_512.npz")
    if subject not in facts:
        raise SystemExit(f"{data} has no subject {subject}; there are {', '.join(facts)}")
    return archive[subject], float(facts[subject]["slices"][0]["ps"][0])


def kind_scenes(
    protocol: str, kind: str, metal: str, slices: NDArray[np.int16], *, spacing_mm: float, count: int, seed: int
) -> Iterator[Scene]:
    """Scenes of one kind of metal by protocol b or c; they depend on nothing but the arguments."""
    random = np.random.default_rng([seed, *f"{kind} {metal}".encode()])
    clean = slices[random.integers(0, len(slices), count)].astype(np.float32)
    masks = np.stack([implants(image, kind, spacing_mm, random) for image in clean])
    lesions = np.stack([lesions_near(*pair, spacing_mm=spacing_mm) for pair in zip(clean, masks, strict=True)])
    scanned = _first_scanner(random) if protocol == "b" else scan
    noise = int(random.integers(1 << 30))
    # the same noise with and without lesions: what differs is the lesions
    spoiled, with_lesions = (
        np.rint(scanned(images, masks, metal=metal, spacing_mm=spacing_mm, seed=noise)).astype(np.float32)
        for images in (clean, clean + np.float32(LESION_HU) * lesions.sum(axis=1))
    )
    for index in range(count):
        yield Scene(
            f"{kind}, {metal.replace('_', ' ')}",
            clean[index],
            spoiled[index],
            with_lesions[index],
            lesions[index],
            masks[index],
            spacing_mm,
        )


def implants(clean: Image, kind: str, spacing_mm: float, random: np.random.Generator) -> Mask:
    """Where metal of that kind would lie in the body, at true size."""
    body = clean > BODY_HU
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    top, height, left, width = rows[0], np.ptp(rows), columns[0], np.ptp(columns)
    shape = (clean.shape[0], clean.shape[1])
    per_mm = 1 / spacing_mm

    def place(down: float, across: float) -> dict[str, float]:
        return {"x": float(left + across * width), "y": float(top + down * height)}

    def jitter(reach: float) -> float:
        return float(random.uniform(-reach, reach))

    mask = np.zeros(shape, bool)
    if kind in ("hip pair", "one hip"):
        radius = random.uniform(8, 15) * per_mm
        for across in (0.25, 0.75) if kind == "hip pair" else (0.27,):
            mask |= disc(shape, **place(0.55 + jitter(0.05), across + jitter(0.03)), radius=radius)
    elif kind == "dental":
        for _ in range(random.integers(2, 6)):
            angle = random.uniform(0.15, np.pi - 0.15)
            spot = place(0.45 - 0.28 * np.sin(angle), 0.5 + 0.16 * np.cos(angle))
            mask |= disc(shape, **spot, radius=random.uniform(1.6, 4.4) * per_mm)
    elif kind == "screws":
        length, thick = random.uniform(20, 40) * per_mm, random.uniform(2.5, 5) * per_mm
        for side in (-1, 1):
            spot = place(0.68 + jitter(0.03), 0.5 + side * 0.06)
            mask |= rod(shape, **spot, length=length, width=thick, angle=np.pi / 2 - side * 0.35)
    elif kind == "rods":
        for side in (-1, 1):
            spot = place(0.75 + jitter(0.03), 0.5 + side * 0.055)
            mask |= disc(shape, **spot, radius=random.uniform(2, 3.2) * per_mm)
    else:
        spot = place(0.45 + jitter(0.1), 0.5 + jitter(0.2))
        mask |= rod(shape, **spot, length=random.uniform(3, 7) * per_mm, width=1.8 * per_mm, angle=jitter(3))
    return mask


def disc(shape: tuple[int, int], *, x: float, y: float, radius: float) -> Mask:
    """True within the radius of a point; lengths in pixels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def rod(shape: tuple[int, int], *, x: float, y: float, length: float, width: float, angle: float) -> Mask:
    """True in a bar about a point; lengths in pixels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    return np.asarray((np.abs(along) <= length / 2) & (np.abs(across) <= width / 2))


def body_of(clean: Image) -> Mask:
    """The body with all that it holds: the largest part that is not air, filled."""
    parts, count = label(clean > BODY_HU)
    if not count:
        return np.zeros(clean.shape, bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(binary_fill_holes(parts == sizes.argmax()))


def lesions_near(clean: Image, metal: Mask, *, spacing_mm: float) -> Image:
    """(2, rows, columns), each pixel's share of a disc in the soft tissue nearest to the metal that has room for it.

    One for each of LESION_OFF_METAL_MM, the second well apart from the first; zero without room.
    """
    lesions = np.zeros((2, *clean.shape), np.float32)
    if not metal.any():
        return lesions
    smooth = gaussian_filter(clean, 1.5)
    soft = (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]) & body_of(clean)
    off_metal = np.asarray(distance_transform_edt(~metal)) * spacing_mm
    rows, columns = np.indices(clean.shape)
    for number, gap in enumerate(LESION_OFF_METAL_MM):
        room = np.asarray(distance_transform_edt(np.pad(soft & (off_metal > gap), 1)))[1:-1, 1:-1] * spacing_mm
        centres = np.where(room > LESION_MM, off_metal, np.inf)
        if not np.isfinite(centres).any():
            continue
        row, column = np.unravel_index(int(centres.argmin()), centres.shape)
        from_centre = np.hypot(rows - row, columns - column) * spacing_mm
        lesions[number] = np.clip((LESION_MM - from_centre) / spacing_mm + 0.5, 0, 1)
        soft &= from_centre > LESION_MM + LESION_APART_MM
    return lesions


def _first_scanner(random: np.random.Generator) -> Callable[..., Image]:
    protocol = CtProtocol(
        kvp=int(random.choice([100, 120, 140])),
        photons=float(10 ** random.uniform(5.5, 6.3)),
        scatter=float(random.uniform(0, 0.01)),
        window=str(random.choice(["ramp", "hamming"])),
    )

    def scanned(images: Image, masks: Mask, *, metal: str, spacing_mm: float, seed: int) -> Image:
        return simulate_metal_ct(images, masks, metal=metal, spacing_mm=spacing_mm, seed=seed, protocol=protocol)

    return scanned
