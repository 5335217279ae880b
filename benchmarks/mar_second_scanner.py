"""A second CT scanner, written on its own, that puts metal into clean slices: protocol (c) of the metal benchmark.

A method made and trained with inference.physics could learn that simulator's habits. This one therefore imports nothing
of it and differs wherever scanners do: an arc detector of cells of true size with a quarter offset, sampled rays
instead of a sparse matrix, three finer rays to a cell and a focal spot, Kramers' spectrum behind aluminium and copper
at a voltage that training does not use, attenuation of other authors, other alloys, quanta drawn for each energy,
scatter that follows the primary signal and is removed in part, a polynomial water correction, a Shepp-Logan kernel with
a smooth cut-off, a median in starved rays, HU calibrated on a water phantom of its own, and 12 bits.

What comes out is the clean slice plus the difference of what this scanner makes of it with metal and without. So the
clean slice is exactly what the same scan without metal would show, and no method is charged, or paid, for a difference
between this scanner's sharpness and that of the real one which made the slice. The noise of rays through metal comes on
top of the slice's own. The same seed gives the same luck, so that two scans of slices that differ in a lesion differ
in that lesion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from torch.nn.functional import grid_sample

from benchmarks.mar_second_beam import METALS, Image, SecondBeam, SecondProtocol, Values

RAYS_PER_CELL = 3
APERTURE = np.array([1, 3, 4, 3, 1]) / 12
"""Weights of the finer rays about a cell's middle: the open width of a cell, widened by the focal spot."""
TILE = 32
FINER = 4
"""Metal is drawn with this many pixels to one of the image, and sampled as often."""
SAMPLES_PER_PIXEL = 1.5
COARSE = 6
SCATTER_REACH_MM = 90.0
STEPS_PER_CELL = 8


def scan(
    clean_hu: Image,
    metal_share: NDArray[np.bool_] | Image,
    *,
    metal: str,
    spacing_mm: float,
    seed: int,
    protocol: SecondProtocol | None = None,
) -> Image:
    """The slices as this scanner shows them with metal in them: (slices, size, size) whole HU from -1024 to 3071.

    clean_hu: (slices, size, size) HU, square; what lies outside the inscribed circle is taken for air and left alone.
    metal_share: the same shape, True or the metal's share of each pixel; metal: one of METALS.
    """
    protocol = protocol or SecondProtocol()
    if metal not in METALS:
        raise ValueError(f"metal is one of {', '.join(METALS)}, not {metal!r}")
    if clean_hu.ndim != 3 or clean_hu.shape[1] != clean_hu.shape[2] or metal_share.shape != clean_hu.shape:
        raise ValueError(f"slices are square and metal has their shape, not {clean_hu.shape} and {metal_share.shape}")
    scanner = _Scanner(protocol, clean_hu.shape[1], spacing_mm)
    beam = SecondBeam(protocol, metal)
    metal_share = np.where(scanner.circle, metal_share, metal_share.dtype.type(0))
    result = clean_hu.astype(np.float32, copy=True)
    for index in np.flatnonzero(metal_share.any(axis=(1, 2))):
        random = np.random.default_rng([seed, int(index)])
        difference = _metal_difference_cm(scanner, beam, clean_hu[index], metal_share[index], random)
        result[index] += 1000 * _water_gain(protocol) * scanner.image(difference)
    return np.clip(np.rint(result), -1024, 3071).astype(np.float32)


def water_phantom(diameter_mm: float, *, protocol: SecondProtocol | None = None, size: int = 128) -> Image:
    """(size, size) HU of a cylinder of water as this scanner shows it without noise; the field of view is 1.3 wider."""
    protocol = protocol or SecondProtocol()
    return np.asarray(1000 * (_water_gain(protocol) * _water_image(protocol, diameter_mm, size) - 1), np.float32)


@lru_cache(maxsize=8)
def _water_gain(protocol: SecondProtocol) -> float:
    """What makes the middle of a 200 mm water phantom read zero HU."""
    image = _water_image(protocol, 200.0, 96)
    return float(1 / image[38:58, 38:58].mean())


def _water_image(protocol: SecondProtocol, diameter_mm: float, size: int) -> Image:
    scanner, beam = _Scanner(protocol, size, 1.3 * diameter_mm / size), SecondBeam(protocol, "steel")
    to_centre = protocol.source_distance_mm * np.sin(scanner.cell_angles)
    chord_cm = np.sqrt(np.maximum((diameter_mm / 2) ** 2 - to_centre**2, 0)) / 5
    primary = np.tile(beam.transmitted(np.stack([chord_cm, 0 * chord_cm, 0 * chord_cm], -1)), (protocol.views, 1))
    return scanner.image(beam.water_cm(primary + scanner.scatter_left(primary)))


class _Scanner:
    """Rays and reconstruction of a turn about a square image; lengths in millimetres, angles in radians."""

    def __init__(self, protocol: SecondProtocol, size: int, spacing_mm: float) -> None:
        self.protocol, self.size, self.spacing_mm = protocol, size, spacing_mm
        self.radius_mm = size * spacing_mm / 2
        if self.radius_mm >= 0.9 * protocol.source_distance_mm:
            raise ValueError(f"a field of view of {2 * self.radius_mm:.0f} mm does not fit into this scanner")
        self.step = protocol.cell_mm / protocol.source_distance_mm
        self.cells = 2 * math.ceil(math.asin(self.radius_mm / protocol.source_distance_mm) / self.step) + 8
        self.cell_angles = np.asarray(self.step * (np.arange(self.cells) - (self.cells - 1) / 2 + 0.25), np.float64)
        self.middle_mm = (np.arange(size) - (size - 1) / 2) * spacing_mm
        self.circle = self.middle_mm[:, None] ** 2 + self.middle_mm**2 <= self.radius_mm**2
        self.view_angles: Values = 2 * np.pi * np.arange(protocol.views) / protocol.views

    def tissue_cm(self, tissues: Image, views: NDArray[np.intp], cells: NDArray[np.intp]) -> Image:
        """(rays, channels) line integrals of (channels, size, size) along the middle of these cells."""
        samples = math.ceil(self.size * SAMPLES_PER_PIXEL)
        paths = np.empty((len(views), len(tissues)), np.float32)
        image = torch.from_numpy(tissues)[None]  # (1, channels, size, size)
        for first in range(0, len(views), 2048):
            part = slice(first, first + 2048)
            view, fan = self.view_angles[views[part]], self.cell_angles[cells[part]]
            nearest = self.protocol.source_distance_mm * np.sin(fan)
            half: Values = np.sqrt(np.maximum(self.radius_mm**2 - nearest**2, 0))
            along = half[:, None] * ((np.arange(samples) + 0.5) / samples * 2 - 1)
            points = self._points(view, fan, along, self.radius_mm, (0.0, 0.0))
            sums = grid_sample(image, points, align_corners=False)[0].sum(dim=-1)  # (channels, rays)
            paths[part] = sums.numpy().T * (2 * half / samples / 10)[:, None]
        return paths

    def metal_cm(self, tissues: Image, share: Image) -> Image:
        """(3, views, finer rays) line integrals of the water and bone that metal displaces, and of the metal.

        share: (FINER size, FINER size). Each tile of metal is sampled along the rays that pass by it.
        """
        fine_cells = RAYS_PER_CELL * self.cells
        total = np.zeros((3, self.protocol.views, fine_cells), np.float32)
        distance, step = self.protocol.source_distance_mm, self.step / RAYS_PER_CELL
        for patch, centre_x, centre_y, half_mm in self._tiles(tissues, share):
            reach_mm = half_mm * math.sqrt(2)
            bearing = self.view_angles - math.atan2(centre_y, centre_x)
            off_centre = math.hypot(centre_x, centre_y)
            depth = distance - off_centre * np.cos(bearing)
            fan_centre = np.arctan2(off_centre * np.sin(bearing), depth)
            away = np.hypot(off_centre * np.sin(bearing), depth)
            width = 2 * math.ceil(math.asin(min(reach_mm / away.min(), 1.0)) / step) + 2
            first = np.rint(fan_centre / step - width / 2 + (fine_cells - 1) / 2 - 0.25 * RAYS_PER_CELL).astype(int)
            rays = first[:, None] + np.arange(width)
            fan = np.asarray(step * (rays - (fine_cells - 1) / 2 + 0.25 * RAYS_PER_CELL), np.float64)
            samples = math.ceil(2 * reach_mm / self.spacing_mm * FINER)
            along = reach_mm * ((np.arange(samples) + 0.5) / samples * 2 - 1)
            inside = (rays >= 0) & (rays < fine_cells)
            for begin in range(0, len(rays), 48):
                part = slice(begin, begin + 48)
                view = np.broadcast_to(self.view_angles[part, None], fan[part].shape).ravel()
                points = self._points(view, fan[part].ravel(), along[None], half_mm, (centre_x, centre_y))
                sums = grid_sample(patch, points, align_corners=False)[0].sum(dim=-1)
                paths = sums.numpy().reshape(3, *fan[part].shape) * np.float32(2 * reach_mm / samples / 10)
                rows, columns = np.nonzero(inside[part])
                total[:, rows + begin, rays[part][rows, columns]] += paths[:, rows, columns]
        return total

    def _tiles(self, tissues: Image, share: Image) -> Iterator[tuple[torch.Tensor, float, float, float]]:
        """Patches (1, 3, side, side) that hold metal, with centre and half side in mm; together they hold all of it."""
        side = FINER * TILE
        fine_mm = self.spacing_mm / FINER
        for top in range(0, len(share), side):
            for left in range(0, len(share), side):
                tile = share[top : top + side, left : left + side]
                rows, columns = np.flatnonzero(tile.any(axis=1)), np.flatnonzero(tile.any(axis=0))
                if not len(rows):
                    continue
                long = max(np.ptp(rows), np.ptp(columns)) + 1
                patch = np.zeros((3, long + 4, long + 4), np.float32)
                i, j = rows[0] + np.arange(np.ptp(rows) + 1), columns[0] + np.arange(np.ptp(columns) + 1)
                metal = tile[np.ix_(i, j)]
                where = (slice(2, 2 + len(i)), slice(2, 2 + len(j)))
                lost = tissues[:, (top + i[:, None]) // FINER, (left + j) // FINER]
                patch[0][where], patch[1][where] = lost * metal
                patch[2][where] = metal
                middle = (long - 1) / 2
                x, y = (left + j[0] + middle, top + i[0] + middle)
                centre = (len(share) - 1) / 2
                yield (
                    torch.from_numpy(patch)[None],
                    float((x - centre) * fine_mm),
                    float((y - centre) * fine_mm),
                    float((long + 4) / 2 * fine_mm),
                )

    def _points(
        self, view: Values, fan: Values, along: Values, half_mm: float, centre_mm: tuple[float, float]
    ) -> torch.Tensor:
        """(1, rays, samples, 2) places along rays, counted from each ray's nearest to the middle of a square window."""
        direction = view + np.pi + fan
        cosine, sine = np.cos(direction), np.sin(direction)
        distance = self.protocol.source_distance_mm
        source_x, source_y = distance * np.cos(view) - centre_mm[0], distance * np.sin(view) - centre_mm[1]
        nearest = -(source_x * cosine + source_y * sine)
        start_x, start_y = source_x + nearest * cosine, source_y + nearest * sine
        steps = torch.from_numpy((along / half_mm).astype(np.float32))
        points = torch.empty((1, len(view), steps.shape[1], 2))
        for axis, (start, slope) in enumerate(((start_x, cosine), (start_y, sine))):
            begin, by_step = (torch.from_numpy(part.astype(np.float32))[:, None] for part in (start / half_mm, slope))
            torch.addcmul(begin, by_step, steps, out=points[0, :, :, axis])
        return points

    def scatter_left(self, primary: Image) -> Image:
        """(views, cells) what is left of the scatter after the scanner's own correction, air being one.

        Forward scatter goes as the primary signal times its logarithm (Ohnesorge et al. 1999), spread widely.
        """
        source = -primary * np.log(np.clip(primary, 1e-7, None))
        place_mm = np.arange(self.cells) * self.protocol.cell_mm
        aside = (place_mm[::COARSE, None] - place_mm) / SCATTER_REACH_MM
        spread = COARSE * self.protocol.cell_mm / SCATTER_REACH_MM * np.exp(-(aside**2) / 2) / math.sqrt(2 * math.pi)
        left = self.protocol.scatter * (1 - self.protocol.scatter_removed)
        return np.asarray(source[:, ::COARSE] @ (left * spread).astype(np.float32))

    def image(self, water_cm: Image) -> Image:
        """(size, size) density relative to water of (views, cells) centimetres of water; zero outside the circle."""
        rows = self._filtered(water_cm)
        inside = np.flatnonzero(self.circle)
        y, x = self.middle_mm[inside // self.size], self.middle_mm[inside % self.size]
        quarter, distance = self.protocol.views // 4, self.protocol.source_distance_mm
        fine_step = self.step / STEPS_PER_CELL
        total = np.zeros((4, len(inside)), np.float32)
        for view in range(quarter):
            cosine, sine = math.cos(self.view_angles[view]), math.sin(self.view_angles[view])
            depth, across = distance - x * cosine - y * sine, x * sine - y * cosine
            weight = (1 / (depth**2 + across**2)).astype(np.float32)
            place = np.rint((np.arctan2(across, depth) - self.cell_angles[0]) / fine_step).astype(np.intp)
            for turn in range(4):
                total[turn] += weight * rows[view + turn * quarter].take(place, mode="clip")
        image = np.zeros((self.size, self.size), np.float32)
        for turn in range(4):
            turned = np.zeros(self.size**2, np.float32)
            turned[inside] = total[turn]
            image += np.rot90(turned.reshape(self.size, self.size), -turn)
        return image

    def _filtered(self, water_cm: Image) -> Image:
        """Weighted and filtered rows with STEPS_PER_CELL values to a cell, in 1/mm times the view step.

        Kak and Slaney 1988, 3.4.1, with the kernel of Shepp and Logan 1974 and a Butterworth cut-off.
        """
        length = 1 << (2 * self.cells).bit_length()
        offset = np.minimum(np.arange(length), length - np.arange(length))
        angle = np.minimum(offset, self.cells) * self.step
        kernel = 1 / (np.pi**2 * self.step * (1 - 4.0 * offset**2)) / np.sinc(angle / np.pi) ** 2
        response = np.fft.rfft(kernel).real / (1 + (np.linspace(0, 1, length // 2 + 1) / self.protocol.cutoff) ** 8)
        weighted = 10 * water_cm * (self.protocol.source_distance_mm * np.cos(self.cell_angles))
        by_view = (response * 2 * np.pi / self.protocol.views).astype(np.float32)
        spectrum = scipy.fft.rfft(weighted.astype(np.float32), length, axis=1) * by_view
        # Zeros above the highest frequency: the rows come out finer, with nothing lost between the cells.
        finer = np.asarray(scipy.fft.irfft(spectrum, STEPS_PER_CELL * length, axis=1), np.float32)
        return finer[:, : STEPS_PER_CELL * self.cells] * np.float32(STEPS_PER_CELL)


def _metal_difference_cm(
    scanner: _Scanner, beam: SecondBeam, clean_hu: Image, share: NDArray[np.bool_] | Image, random: np.random.Generator
) -> Image:
    """(views, cells) centimetres of water by which the scan with metal differs from the scan without."""
    tissues = np.stack(beam.tissues(clean_hu))
    fine = scanner.metal_cm(tissues, _finer_share(share))
    near = np.lib.stride_tricks.sliding_window_view(np.pad(fine, ((0, 0), (0, 0), (1, 1))), len(APERTURE), axis=2)
    near = near[:, :, ::RAYS_PER_CELL]  # (3, views, cells, rays about the cell's middle)
    views, cells = np.nonzero(near[2].max(axis=-1) > 1e-5)
    path = scanner.tissue_cm(tissues, views, cells)
    without = beam.transmitted(np.column_stack([path, np.zeros(len(path), np.float32)]))
    through = np.zeros((len(path), 1), np.float32)
    for ray, weight in enumerate(APERTURE):
        lost_water, lost_bone, metal = near[:, views, cells, ray]
        through = through + np.float32(weight) * beam.through(
            np.column_stack([path[:, 0] - lost_water, path[:, 1] - lost_bone, metal])
        )
    clean = _everywhere(scanner, beam, tissues)
    clean[views, cells] = without
    spoiled = clean.copy()
    spoiled[views, cells] = beam.counted(through, random)
    spoiled = beam.calmed(spoiled + scanner.scatter_left(spoiled))
    return beam.water_cm(spoiled) - beam.water_cm(clean + scanner.scatter_left(clean))


def _everywhere(scanner: _Scanner, beam: SecondBeam, tissues: Image) -> Image:
    """(views, cells) signal without metal from every sixth cell of every sixth view, enough for scatter."""
    all_views, all_cells = scanner.protocol.views, scanner.cells
    views, cells = np.arange(0, all_views, COARSE), np.arange(0, all_cells + COARSE - 1, COARSE)
    grid = np.meshgrid(views, np.minimum(cells, all_cells - 1), indexing="ij")
    paths = scanner.tissue_cm(tissues, grid[0].ravel(), grid[1].ravel())
    coarse = np.log(beam.transmitted(np.column_stack([paths, np.zeros(len(paths), np.float32)])).reshape(grid[0].shape))
    coarse = np.concatenate([coarse, coarse[:1]])  # a turn later the first view comes again
    places = np.meshgrid(np.arange(all_views) / COARSE, np.arange(all_cells) / COARSE, indexing="ij")
    return np.asarray(np.exp(map_coordinates(coarse, np.stack(places), order=1, mode="nearest")))


def _finer_share(share: NDArray[np.bool_] | Image) -> Image:
    """The metal's share on the finer grid; a mask of True and False gets its steps rounded, edges staying sharp."""
    fine = gaussian_filter(share.astype(np.float32).repeat(FINER, axis=0).repeat(FINER, axis=1), 0.4 * FINER)
    return np.asarray(fine > 0.5 if share.dtype == np.bool_ else np.where(fine > 1e-3, fine, 0), np.float32)
