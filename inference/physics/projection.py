"""Fan-beam projection of square slices: a sparse operator, its adjoint and filtered backprojection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True, slots=True)
class FanGeometry:
    """A full turn of a fan with a flat detector, lengths in pixels of the square image it looks at.

    size: pixels along one side; only the inscribed circle is seen.
    views: a multiple of eight, half a step off the axes, so that the eight symmetries of the square map views to views.
    cells: even; pitch: cell width scaled to the centre of rotation.
    """

    size: int
    views: int
    cells: int
    source_distance: float
    pitch: float

    def __post_init__(self) -> None:
        if self.views % 8 or self.cells % 2:
            raise ValueError(
                f"a fan needs views in eights and an even number of cells, not {self.views} and {self.cells}"
            )
        if self.source_distance <= self.size / 2 or self.size < 8:
            raise ValueError(f"the source must stand outside the image ({self.source_distance} of {self.size} pixels)")

    @property
    def angles_rad(self) -> NDArray[np.float64]:
        """(views,) angle of the source, from +column towards +row."""
        return np.asarray(2 * np.pi * (np.arange(self.views) + 0.5) / self.views)

    @property
    def cell_positions(self) -> NDArray[np.float64]:
        """(cells,) position of the cell centres on the detector scaled to the centre of rotation."""
        return np.asarray((np.arange(self.cells) - (self.cells - 1) / 2) * self.pitch)


def covering_fan(size: int, *, source_distance: float, cells_per_pixel: float, views_per_pixel: float) -> FanGeometry:
    """The fan that just sees the inscribed circle of a square of `size` pixels from that distance."""
    radius = size / 2
    half_width = source_distance * radius / math.sqrt(source_distance**2 - radius**2)
    cells = 2 * math.ceil(half_width * cells_per_pixel) + 4
    views = 8 * math.ceil(size * views_per_pixel / 8)
    return FanGeometry(size, views, cells, source_distance, 1 / cells_per_pixel)


@lru_cache(maxsize=1)
def fan_beam_projector(geometry: FanGeometry) -> FanBeamProjector:
    """The projector of that geometry; the last one is kept, for its tables take seconds to make."""
    return FanBeamProjector(geometry)


@dataclass(frozen=True, slots=True)
class _SparseRows:
    """A sparse matrix by rows: int32 columns, float32 values, int32 start of each row and the end."""

    columns: torch.Tensor
    values: torch.Tensor
    starts: torch.Tensor

    def times(self, dense: torch.Tensor) -> torch.Tensor:
        """(rows, n) product with a dense (columns, n); embedding_bag takes a third of torch.sparse's time."""
        return embedding_bag(
            self.columns, dense, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )


class FanBeamProjector:
    """Line integrals of slices along a fan.

    Images are (slices, size, size) and sinograms (slices, views, cells) float32 tensors. A line integral is in the
    image's unit times pixels. The tables hold an eighth of the views; turning and mirroring the image gives the rest.
    """

    def __init__(self, geometry: FanGeometry) -> None:
        self.geometry = geometry

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The sinograms of the images."""
        return self._joined(self._rays.times(self._eight_images(images)), images.shape[0])

    def adjoint(self, sinograms: torch.Tensor) -> torch.Tensor:
        """The images of the transposed operator: <forward(x), y> = <x, adjoint(y)>."""
        return self._summed(self._rays_transposed.times(self._eight_parts(sinograms)), sinograms.shape[0])

    def filtered_backprojection(self, sinograms: torch.Tensor, *, window: str = "ramp") -> torch.Tensor:
        """The images whose line integrals the sinograms are; `window` is "ramp" or "hamming" (softer)."""
        filtered = self._filtered(sinograms, window)
        return self._summed(self._backprojection.times(self._eight_parts(filtered)), sinograms.shape[0])

    @cached_property
    def circle(self) -> torch.Tensor:
        """(size, size) bool, the pixels that the fan sees."""
        return torch.from_numpy(_circle(self.geometry.size))

    @cached_property
    def _rays(self) -> _SparseRows:
        return _joseph_rows(self.geometry)

    @cached_property
    def _rays_transposed(self) -> _SparseRows:
        return _transposed(self._rays, self.geometry.size**2)

    @cached_property
    def _backprojection(self) -> _SparseRows:
        return _backprojection_rows(self.geometry)

    def _eight_images(self, images: torch.Tensor) -> torch.Tensor:
        size, slices = self.geometry.size, images.shape[0]
        last = images.permute(1, 2, 0)
        parts = torch.empty((size, size, 8, slices), dtype=torch.float32)
        for turn in range(4):
            turned = torch.rot90(last, turn)
            parts[:, :, 2 * turn] = turned
            parts[:, :, 2 * turn + 1] = turned.flip(0)
        return parts.view(size * size, 8 * slices)

    def _summed(self, parts: torch.Tensor, slices: int) -> torch.Tensor:
        size = self.geometry.size
        parts = parts.view(size, size, 8, slices)
        total = torch.zeros((size, size, slices), dtype=torch.float32)
        for turn in range(4):
            total += torch.rot90(parts[:, :, 2 * turn] + parts[:, :, 2 * turn + 1].flip(0), -turn)
        return total.permute(2, 0, 1).contiguous()

    def _joined(self, parts: torch.Tensor, slices: int) -> torch.Tensor:
        views, cells = self.geometry.views, self.geometry.cells
        eighth = views // 8
        parts = parts.view(eighth, cells, 8, slices).permute(2, 3, 0, 1)
        sinograms = torch.empty((slices, views, cells), dtype=torch.float32)
        for turn in range(4):
            first = turn * 2 * eighth
            before = (first - eighth) % views
            sinograms[:, first : first + eighth] = parts[2 * turn]
            sinograms[:, before : before + eighth] = parts[2 * turn + 1].flip(1, 2)
        return sinograms

    def _eight_parts(self, sinograms: torch.Tensor) -> torch.Tensor:
        slices, views, cells = sinograms.shape
        eighth = views // 8
        last = sinograms.permute(1, 2, 0)
        parts = torch.empty((eighth, cells, 8, slices), dtype=torch.float32)
        for turn in range(4):
            first = turn * 2 * eighth
            before = (first - eighth) % views
            parts[:, :, 2 * turn] = last[first : first + eighth]
            parts[:, :, 2 * turn + 1] = last[before : before + eighth].flip(0, 1)
        return parts.view(eighth * cells, 8 * slices)

    def _filtered(self, sinograms: torch.Tensor, window: str) -> torch.Tensor:
        """Cosine weighting and ramp filter (Kak and Slaney, 3.4.2), the factor of the view step included."""
        geometry = self.geometry
        length = 1 << (2 * geometry.cells - 1).bit_length()
        response = torch.from_numpy(_ramp_response(length, geometry.pitch, window).astype(np.float32))
        distance = geometry.source_distance
        cosine = torch.from_numpy((distance / np.hypot(distance, geometry.cell_positions)).astype(np.float32))
        spectrum = torch.fft.rfft(sinograms * cosine, n=length) * response
        filtered: torch.Tensor = torch.fft.irfft(spectrum, n=length)[..., : geometry.cells]
        return filtered * (math.pi / geometry.views)


def _circle(size: int) -> NDArray[np.bool_]:
    centred = np.arange(size) - (size - 1) / 2
    inside: NDArray[np.bool_] = centred[:, None] ** 2 + centred**2 <= (size / 2) ** 2
    return inside


def _ramp_response(length: int, pitch: float, window: str) -> NDArray[np.float64]:
    """(length // 2 + 1,) response of the band-limited ramp, made from its samples in space to keep the mean right."""
    offset = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 1 / (4 * pitch**2)
    odd = offset % 2 == 1
    kernel[odd] = -1 / (np.pi * offset[odd] * pitch) ** 2
    response: NDArray[np.float64] = np.fft.rfft(kernel).real * pitch
    if window == "hamming":
        return response * (0.54 + 0.46 * np.cos(np.linspace(0, np.pi, len(response))))
    if window != "ramp":
        raise ValueError(f"window is ramp or hamming, not {window!r}")
    return response


def _joseph_rows(geometry: FanGeometry) -> _SparseRows:
    """Line integrals of the first eighth of the views by linear interpolation between pixels (Joseph 1982)."""
    inside = _circle(geometry.size).ravel()
    columns: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    counts: list[NDArray[np.int64]] = []
    for angle in geometry.angles_rad[: geometry.views // 8]:
        source = geometry.source_distance * np.array([np.cos(angle), np.sin(angle)])
        along_detector = np.array([-np.sin(angle), np.cos(angle)])
        directions = geometry.cell_positions[:, None] * along_detector - source
        by_column = np.abs(directions[:, 0]) >= np.abs(directions[:, 1])
        pixels, weights = _ray_pixels(geometry.size, source, directions, by_column)
        seen = inside[pixels] & (weights > 0)
        columns.append(pixels[seen])
        values.append(weights[seen])
        counts.append(seen.sum(axis=1))
    return _rows(columns, values, np.concatenate(counts))


def _ray_pixels(
    size: int, source: NDArray[np.float64], directions: NDArray[np.float64], by_column: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(rays, 2 size) pixels and weights where each ray crosses the columns, or the rows where it is steeper."""
    centre = (size - 1) / 2
    steps = np.arange(size)
    main = np.where(by_column, 0, 1)
    rays = np.arange(len(directions))
    slope = directions[rays, 1 - main] / directions[rays, main]
    crossing = source[1 - main][:, None] + slope[:, None] * (steps - centre - source[main][:, None]) + centre
    below = np.floor(crossing).astype(np.int64)
    above_share = crossing - below
    length = np.sqrt(1 + slope**2)[:, None]
    pixels, weights = [], []
    for neighbour, share in ((below, 1 - above_share), (below + 1, above_share)):
        valid = (neighbour >= 0) & (neighbour < size)
        kept = np.where(valid, neighbour, 0)
        pixels.append(np.where(by_column[:, None], kept * size + steps, steps * size + kept).astype(np.int32))
        weights.append(np.where(valid, share * length, 0).astype(np.float32))
    return np.concatenate(pixels, axis=1), np.concatenate(weights, axis=1)


def _backprojection_rows(geometry: FanGeometry) -> _SparseRows:
    """What each pixel takes from the filtered first eighth of the views, weighted by its distance to the source."""
    size, cells, eighth = geometry.size, geometry.cells, geometry.views // 8
    inside = np.flatnonzero(_circle(size))
    y, x = (axis - (size - 1) / 2 for axis in np.divmod(inside, size))
    columns = np.empty((len(inside), eighth, 2), np.int32)
    values = np.empty((len(inside), eighth, 2), np.float32)
    for view, angle in enumerate(geometry.angles_rad[:eighth]):
        cosine, sine = np.cos(angle), np.sin(angle)
        depth = 1 - (x * cosine + y * sine) / geometry.source_distance
        cell = (y * cosine - x * sine) / depth / geometry.pitch + (cells - 1) / 2
        below = np.clip(np.floor(cell).astype(np.int32), 0, cells - 2)
        above_share = cell - below
        columns[:, view, 0] = view * cells + below
        columns[:, view, 1] = view * cells + below + 1
        values[:, view, 0] = (1 - above_share) / depth**2
        values[:, view, 1] = above_share / depth**2
    counts = np.zeros(size * size, np.int64)
    counts[inside] = 2 * eighth
    return _rows([columns.reshape(-1)], [values.reshape(-1)], counts)


def _rows(
    columns: list[NDArray[np.int32]], values: list[NDArray[np.float32]], counts: NDArray[np.int64]
) -> _SparseRows:
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return _SparseRows(
        torch.from_numpy(_drained(columns)), torch.from_numpy(_drained(values)), torch.from_numpy(starts)
    )


def _drained(parts: list[NDArray[_Kind]]) -> NDArray[_Kind]:
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return whole


def _transposed(rows: _SparseRows, width: int) -> _SparseRows:
    columns = rows.columns.numpy()
    order = np.argsort(columns, kind="stable").astype(np.int32)
    row_of = np.repeat(np.arange(len(rows.starts) - 1, dtype=np.int32), np.diff(rows.starts.numpy()))
    counts = np.bincount(columns, minlength=width)
    return _rows([row_of[order]], [rows.values.numpy()[order]], counts)
