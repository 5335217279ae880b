"""Sparse tables of a fan's first eighth of a turn: line integrals, their transpose, and weighted backprojection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch.nn.functional import embedding_bag

from inference.physics.fan_geometry import FanGeometry, inscribed_circle

_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class SparseRows:
    """A sparse matrix by rows: int32 columns, floating values, int32 start of each row and the end."""

    columns: torch.Tensor
    values: torch.Tensor
    starts: torch.Tensor

    def times(self, dense: torch.Tensor) -> torch.Tensor:
        """(rows, n) product with a dense (columns, n); embedding_bag takes a third of torch.sparse's time."""
        return embedding_bag(
            self.columns, dense, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )

    def transposed(self, width: int) -> SparseRows:
        """The transpose of this matrix of that many columns, with the same values, on the same device."""
        matrix = csr_array(
            (self.values.cpu().numpy(), self.columns.cpu().numpy(), self.starts.cpu().numpy()),
            shape=(len(self.starts) - 1, width),
        ).tocsc()
        flipped = SparseRows(*(torch.from_numpy(part) for part in (matrix.indices, matrix.data, matrix.indptr)))
        return flipped.to(self.values.device, self.values.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> SparseRows:
        """The same matrix on that device with values of that type."""
        return SparseRows(self.columns.to(device), self.values.to(device, dtype), self.starts.to(device))

    @property
    def nbytes(self) -> int:
        """Bytes that the matrix takes."""
        return self.columns.nbytes + self.values.nbytes + self.starts.nbytes


def joseph_rows(geometry: FanGeometry) -> SparseRows:
    """Line integrals of the first eighth of the views by linear interpolation between pixels (Joseph 1982)."""
    inside = inscribed_circle(geometry.size).ravel()
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


def backprojection_rows(geometry: FanGeometry) -> SparseRows:
    """What each pixel takes from the filtered first eighth of the views, weighted by its distance to the source.

    Kak and Slaney 1988: with a flat detector the distance is measured along the central ray (3.4.2), with an arc it is
    the way from source to pixel (3.4.1); both as a share of the source's distance to the centre of rotation.
    """
    size, cells, eighth = geometry.size, geometry.cells, geometry.views // 8
    inside = np.flatnonzero(inscribed_circle(size))
    y, x = (axis - (size - 1) / 2 for axis in np.divmod(inside, size))
    columns = np.empty((len(inside), eighth, 2), np.int32)
    values = np.empty((len(inside), eighth, 2), np.float32)
    for view, angle in enumerate(geometry.angles_rad[:eighth]):
        cosine, sine = np.cos(angle), np.sin(angle)
        depth = 1 - (x * cosine + y * sine) / geometry.source_distance
        across = y * cosine - x * sine
        if geometry.detector == "arc":
            aside = across / geometry.source_distance
            cell = np.arctan2(aside, depth) / geometry.cell_angle_rad + (cells - 1) / 2
            square_distance = depth**2 + aside**2
        else:
            cell = across / depth / geometry.pitch + (cells - 1) / 2
            square_distance = depth**2
        below = np.clip(np.floor(cell).astype(np.int32), 0, cells - 2)
        above_share = cell - below
        columns[:, view, 0] = view * cells + below
        columns[:, view, 1] = view * cells + below + 1
        values[:, view, 0] = (1 - above_share) / square_distance
        values[:, view, 1] = above_share / square_distance
    counts = np.zeros(size * size, np.int64)
    counts[inside] = 2 * eighth
    return _rows([columns.reshape(-1)], [values.reshape(-1)], counts)


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


def _rows(columns: list[NDArray[np.int32]], values: list[NDArray[np.float32]], counts: NDArray[np.int64]) -> SparseRows:
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return SparseRows(torch.from_numpy(_drained(columns)), torch.from_numpy(_drained(values)), torch.from_numpy(starts))


def _drained(parts: list[NDArray[_Kind]]) -> NDArray[_Kind]:
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return whole
