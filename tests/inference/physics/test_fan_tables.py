"""The sparse tables against dense truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.physics.fan_geometry import Detector, FanGeometry, covering_fan
from inference.physics.fan_tables import SparseRows, backprojection_rows, joseph_rows

both_detectors = pytest.mark.parametrize("detector", ["flat", "arc"])


def fan(detector: Detector = "flat") -> FanGeometry:
    return covering_fan(40, source_distance=50, cells_per_pixel=1.2, views_per_pixel=1.2, detector=detector)


def dense(rows: SparseRows, width: int) -> torch.Tensor:
    return rows.times(torch.eye(width))


def test_a_product_sums_each_row_and_an_empty_row_is_zero() -> None:
    rows = SparseRows(
        torch.tensor([0, 2, 1], dtype=torch.int32), torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 2, 2, 3])
    )
    product = rows.times(torch.tensor([[1.0], [10.0], [100.0]]))
    assert product[:, 0].tolist() == [201.0, 0.0, 50.0]


@both_detectors
def test_the_transpose_holds_the_same_numbers_the_other_way_round(detector: Detector) -> None:
    rows = joseph_rows(fan(detector))
    height = len(rows.starts) - 1
    transposed = rows.transposed(40 * 40)
    assert transposed.columns.dtype == torch.int32 and transposed.starts.dtype == torch.int32
    assert len(transposed.values) == len(rows.values)
    assert torch.equal(dense(rows, 40 * 40), dense(transposed, height).T)


@both_detectors
def test_the_weights_of_a_ray_sum_to_its_way_through_the_circle(detector: Detector) -> None:
    """A ray gains or loses up to a pixel where it enters and leaves."""
    geometry = fan(detector)
    ways = joseph_rows(geometry).times(torch.ones((40 * 40, 1)))[: geometry.cells, 0].numpy()
    position, distance = geometry.cell_positions, geometry.source_distance
    nearest = distance * position / np.hypot(distance, position)
    chord = 2 * np.sqrt(np.maximum(20.0**2 - nearest**2, 0))
    assert np.abs(ways - chord)[np.abs(nearest) < 18].max() < 2.1


@both_detectors
def test_a_pixel_takes_from_two_cells_of_every_view_by_its_distance_to_the_source(detector: Detector) -> None:
    geometry = fan(detector)
    rows = backprojection_rows(geometry)
    counts = rows.starts.diff()
    assert set(counts.tolist()) == {0, 2 * (geometry.views // 8)}
    weights = rows.times(torch.ones((geometry.views // 8 * geometry.cells, 1))).view(40, 40)
    # The source stands at +column, half a step to +row: what lies nearer to it weighs more.
    assert weights[20, 35] > weights[20, 20] > weights[20, 5] > 0


def test_an_arc_weighs_by_the_way_to_the_source_and_a_flat_detector_by_the_depth() -> None:
    view_sum = {detector: backprojection_rows(fan(detector)) for detector in ("flat", "arc")}
    pixel = 8 * 40 + 20
    geometry = fan()
    y, x = 8 - 19.5, 20 - 19.5
    angles = geometry.angles_rad[: geometry.views // 8]
    depth = 1 - (x * np.cos(angles) + y * np.sin(angles)) / geometry.source_distance
    aside = (y * np.cos(angles) - x * np.sin(angles)) / geometry.source_distance
    for detector, expected in (("flat", depth**-2), ("arc", 1 / (depth**2 + aside**2))):
        rows = view_sum[detector]
        first, last = int(rows.starts[pixel]), int(rows.starts[pixel + 1])
        np.testing.assert_allclose(rows.values[first:last].view(-1, 2).sum(dim=1), expected, rtol=1e-5)


def test_tables_move_to_a_device_and_a_type() -> None:
    rows = joseph_rows(fan())
    there = rows.to(torch.device("meta"), torch.float64)
    assert {part.device.type for part in (there.columns, there.values, there.starts)} == {"meta"}
    assert there.values.dtype == torch.float64 and there.columns.dtype == torch.int32
