"""PET attenuation at 511 keV: mu from HU, a parallel projector with its adjoint, OSEM with and without correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_array, csr_array

from inference.errors import SourceRefused

WATER_PER_CM = 0.096
"""Linear attenuation of water at 511 keV."""

BONE_BRANCH: Mapping[int, tuple[float, float, float]] = MappingProxyType(
    {
        80: (3.64e-5, 6.26e-2, 1050.0),
        100: (4.43e-5, 5.44e-2, 1052.0),
        110: (4.92e-5, 4.88e-2, 1043.0),
        120: (5.10e-5, 4.71e-2, 1047.0),
        130: (5.51e-5, 4.24e-2, 1037.0),
        140: (5.64e-5, 4.08e-2, 1030.0),
    }
)
"""kVp -> slope a and offset b in 1/cm, break point on HU + 1000 (Carney, Med Phys 2006;33:976, table II)."""

_SMALLEST = 1e-9


def mu_from_hu(hu: NDArray[np.float32], *, kvp: float) -> NDArray[np.float32]:
    """Linear attenuation at 511 keV in 1/cm, bilinear in HU; below the break point it does not depend on `kvp`.

    Raises SourceRefused for a tube voltage the table does not hold.
    """
    if round(kvp) not in BONE_BRANCH:
        raise SourceRefused(
            "kvp-not-tabulated",
            f"no 511 keV table for a CT of {kvp:g} kVp; there are {', '.join(map(str, BONE_BRANCH))} kVp",
        )
    slope, offset, break_point = BONE_BRANCH[round(kvp)]
    density = np.maximum(hu.astype(np.float32) + np.float32(1000), np.float32(0))
    mu = np.where(density < break_point, density * np.float32(9.6e-5), density * slope + offset)
    return np.asarray(mu, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ParallelProjector:
    """Line integrals of a stack of slices along parallel rays: rotate and sum as one sparse matrix.

    matrix: (views * bins, rows * columns) float32 in cm; transposed: the same, transposed.
    View v looks along the direction v * 180 / views degrees; bins are as wide as a column.
    """

    matrix: csr_array
    transposed: csr_array
    shape: tuple[int, int]
    views: int
    bins: int

    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """image: (slices, rows, columns) -> (slices, views, bins), the image's unit times cm."""
        flat = np.ascontiguousarray(image.reshape(len(image), -1).T, dtype=np.float32)
        return (self.matrix @ flat).T.reshape(len(image), self.views, self.bins)

    def adjoint(self, sinogram: NDArray[np.float32]) -> NDArray[np.float32]:
        """sinogram: (slices, views, bins) -> (slices, rows, columns); the exact transpose of `forward`."""
        flat = np.ascontiguousarray(sinogram.reshape(len(sinogram), -1).T, dtype=np.float32)
        return (self.transposed @ flat).T.reshape(len(sinogram), *self.shape)

    def subset(self, start: int, step: int) -> ParallelProjector:
        """The projector of views start, start + step, ... only."""
        rows = (np.arange(start, self.views, step)[:, None] * self.bins + np.arange(self.bins)).ravel()
        matrix = csr_array(self.matrix[rows])
        return ParallelProjector(matrix, csr_array(matrix.T), self.shape, len(rows) // self.bins, self.bins)


def build_projector(shape: tuple[int, int], *, pixel_mm: tuple[float, float], views: int = 60) -> ParallelProjector:
    """The projector for slices of `shape` (rows, columns) with pixels of `pixel_mm` (row, column) height and width."""
    rows, columns = shape
    row_mm, column_mm = pixel_mm
    bins = int(np.ceil(np.hypot(rows * row_mm, columns * column_mm) / column_mm)) | 1
    along = (np.arange(bins) - bins // 2) * column_mm
    ray, sample = np.meshgrid(along, along, indexing="ij")  # (bins, samples), mm
    blocks = [
        _one_view(ray, sample, angle, shape=shape, pixel_mm=pixel_mm) for angle in np.pi * np.arange(views) / views
    ]
    entries = np.concatenate([block[0] for block in blocks])
    ray_index = np.concatenate([block[1] + view * bins for view, block in enumerate(blocks)])
    pixel_index = np.concatenate([block[2] for block in blocks])
    entries *= column_mm / 10
    matrix = coo_array((entries, (ray_index, pixel_index)), shape=(views * bins, rows * columns)).tocsr()
    return ParallelProjector(matrix, csr_array(matrix.T), shape, views, bins)


def _one_view(
    ray: NDArray[np.float64],
    sample: NDArray[np.float64],
    angle: float,
    *,
    shape: tuple[int, int],
    pixel_mm: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Bilinear weights of every sample of every ray of one view: weight, ray, pixel."""
    rows, columns = shape
    column = (ray * np.cos(angle) - sample * np.sin(angle)) / pixel_mm[1] + (columns - 1) / 2
    row = (ray * np.sin(angle) + sample * np.cos(angle)) / pixel_mm[0] + (rows - 1) / 2
    left, top = np.floor(column), np.floor(row)
    bin_index = np.broadcast_to(np.arange(len(ray), dtype=np.int32)[:, None], ray.shape)
    weights, rays, pixels = [], [], []
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
            j, i = (top + down).astype(np.int32), (left + right).astype(np.int32)
            inside = (j >= 0) & (j < rows) & (i >= 0) & (i < columns) & (weight > _SMALLEST)
            weights.append(weight[inside].astype(np.float32))
            rays.append(bin_index[inside])
            pixels.append(j[inside] * columns + i[inside])
    return np.concatenate(weights), np.concatenate(rays), np.concatenate(pixels)


def attenuation_factors(mu_per_cm: NDArray[np.float32], projector: ParallelProjector) -> NDArray[np.float32]:
    """(slices, views, bins): the part of the photon pairs that leaves the body along each ray."""
    return np.exp(-projector.forward(mu_per_cm))


def measured_counts(
    activity: NDArray[np.float32],
    factors: NDArray[np.float32],
    projector: ParallelProjector,
    *,
    total_counts: float,
    seed: int,
    blur_bins: float = 0.0,
) -> tuple[NDArray[np.float32], float]:
    """Poisson counts of an emission scan without scatter and randoms, and counts per unit of activity times cm.

    blur_bins: standard deviation of the detectors' blur, in bins.
    """
    expected = projector.forward(activity)
    if blur_bins:
        expected = gaussian_filter1d(expected, blur_bins, axis=-1)
    expected *= factors
    scale = total_counts / float(expected.sum())
    return np.random.default_rng(seed).poisson(expected * scale).astype(np.float32), scale


def reconstruct_osem(
    counts: NDArray[np.float32],
    projector: ParallelProjector,
    *,
    factors: NDArray[np.float32] | None = None,
    subsets: int = 6,
    iterations: int = 4,
) -> NDArray[np.float32]:
    """Ordered-subsets expectation maximisation (Hudson and Larkin 1994) of (slices, views, bins) counts.

    factors: attenuation factors to correct for; None gives the image without attenuation correction.
    """
    image = np.ones((len(counts), *projector.shape), dtype=np.float32)
    parts = [projector.subset(start, subsets) for start in range(subsets)]
    kept = [
        np.ones_like(counts[:, start::subsets]) if factors is None else factors[:, start::subsets]
        for start in range(subsets)
    ]
    sensitivity = [part.adjoint(kept[start]) for start, part in enumerate(parts)]
    for _ in range(iterations):
        for start, part in enumerate(parts):
            expected = part.forward(image) * kept[start]
            ratio = np.divide(
                counts[:, start::subsets], expected, out=np.zeros_like(expected), where=expected > _SMALLEST
            )
            gain = part.adjoint(ratio * kept[start])
            image *= np.divide(gain, sensitivity[start], out=np.zeros_like(gain), where=sensitivity[start] > _SMALLEST)
    return image
