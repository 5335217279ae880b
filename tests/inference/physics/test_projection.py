"""The fan-beam projector against analytic truth."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from inference.physics.fan_geometry import Detector, FanGeometry, covering_fan
from inference.physics.projection import FanBeamProjector, fan_beam_projector
from inference.physics.ramp_filter import WINDOWS

SIZE = 256
DISCS = ((0.0, 0.0, 100.0, 1.0), (40.0, -25.0, 26.0, 0.5), (-50.0, 12.0, 16.0, -0.4))
"""x, y, radius in pixels and value; without symmetry, so that a wrong turn or mirror shows."""


both_detectors = pytest.mark.parametrize("detector", ["flat", "arc"])


def fan(size: int = SIZE, detector: Detector = "flat") -> FanGeometry:
    return covering_fan(size, source_distance=1.25 * size, cells_per_pixel=1.2, views_per_pixel=1.2, detector=detector)


@lru_cache
def disc_image(size: int, pixel: float = 1.0) -> NDArray[np.float32]:
    """Discs drawn with eight by eight samples a pixel."""
    fine = ((np.arange(8 * size) + 0.5) / 8 - size / 2) * pixel
    image = np.zeros((8 * size, 8 * size), np.float32)
    for x, y, radius, value in DISCS:
        image[(fine - x) ** 2 + (fine[:, None] - y) ** 2 <= radius**2] += value
    return np.asarray(image.reshape(size, 8, size, 8).mean(axis=(1, 3)))


def disc_sinogram(geometry: FanGeometry, pixel: float = 1.0) -> NDArray[np.float32]:
    """The chords of the discs along every ray, in pixels."""
    angle, cell = geometry.angles_rad[:, None], geometry.cell_positions
    source_x, source_y = geometry.source_distance * np.cos(angle), geometry.source_distance * np.sin(angle)
    along_x, along_y = -cell * np.sin(angle) - source_x, cell * np.cos(angle) - source_y
    total = np.zeros((geometry.views, geometry.cells))
    for x, y, radius, value in np.array(DISCS) / (pixel, pixel, pixel, 1):
        distance = ((x - source_x) * along_y - (y - source_y) * along_x) / np.hypot(along_x, along_y)
        total += 2 * value * np.sqrt(np.maximum(radius**2 - distance**2, 0))
    return total.astype(np.float32)


@both_detectors
@pytest.mark.parametrize("size", [40, 41, 64])
def test_forward_and_adjoint_are_each_others_transpose(size: int, detector: Detector) -> None:
    """Signed values, so that nothing averages a fault away; float64 shows the operator, float32 what is shipped."""
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        projector = FanBeamProjector(fan(size, detector), dtype=dtype)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn((3, size, size), generator=generator, dtype=dtype)
        views_and_cells = (projector.geometry.views, projector.geometry.cells)
        sinograms = torch.randn((3, *views_and_cells), generator=generator, dtype=dtype)
        seen = projector.forward(images)
        left = (seen.double() * sinograms.double()).sum()
        right = (images.double() * projector.adjoint(sinograms).double()).sum()
        assert seen.dtype == dtype
        assert abs(left - right) / (seen.double().norm() * sinograms.double().norm()) < tolerance


@both_detectors
def test_line_integrals_of_discs_are_right_to_three_thousandths(detector: Detector) -> None:
    """At 512 pixels, for the error of a drawn edge halves with the pixel; a few views show it as well as all."""
    geometry = replace(fan(512, detector), views=32)
    truth = disc_sinogram(geometry, pixel=0.5)
    error = FanBeamProjector(geometry).forward(torch.from_numpy(disc_image(512, pixel=0.5))[None])[0].numpy() - truth
    assert np.linalg.norm(error) / np.linalg.norm(truth) < 0.003


@both_detectors
def test_backprojection_of_true_line_integrals_gives_the_discs_back(detector: Detector) -> None:
    projector = fan_beam_projector(fan(detector=detector))
    sinograms = torch.from_numpy(disc_sinogram(projector.geometry))[None]
    centre = SIZE // 2
    for window in WINDOWS:
        image = projector.filtered_backprojection(sinograms, window=window)[0].numpy()
        for (x, y), value in {(0, 0): 1.0, (40, -25): 1.5, (-50, 12): 0.6, (0, 70): 1.0, (-85, 0): 1.0}.items():
            inner = image[centre + y - 4 : centre + y + 4, centre + x - 4 : centre + x + 4]
            assert inner.mean() == pytest.approx(value, rel=0.003), (window, x, y)


@both_detectors
def test_what_is_projected_and_backprojected_is_the_image_again(detector: Detector) -> None:
    projector = fan_beam_projector(fan(detector=detector))
    image = disc_image(SIZE)
    again = projector.filtered_backprojection(projector.forward(torch.from_numpy(image)[None]))[0].numpy()
    away_from_edges = (maximum_filter(image, 9) == minimum_filter(image, 9)) & (image > 0)
    assert again[away_from_edges].mean() == pytest.approx(image[away_from_edges].mean(), rel=0.001)
    assert np.abs(again - image)[away_from_edges].mean() < 0.006


def test_each_slice_of_a_batch_is_projected_as_if_alone() -> None:
    projector = FanBeamProjector(fan(48))
    images = torch.rand((3, 48, 48), generator=torch.Generator().manual_seed(2))
    together = projector.forward(images)
    alone = torch.cat([projector.forward(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        projector.filtered_backprojection(together)[1:2], projector.filtered_backprojection(alone[1:2])
    )


def test_what_lies_outside_the_circle_is_not_seen() -> None:
    projector = FanBeamProjector(fan(48))
    corners = torch.where(projector.circle, 0.0, 1.0)[None]
    assert projector.forward(corners).abs().max() == 0


def test_tables_of_a_512_matrix_stay_under_1200_mebibytes_and_are_counted_as_they_are_made() -> None:
    """Sizes grow with the third power, so they are read off a matrix of an eighth of the side."""
    projector = FanBeamProjector(covering_fan(64, source_distance=80, cells_per_pixel=1.0, views_per_pixel=1.9))
    assert projector.table_bytes == 0
    sinograms = projector.forward(torch.zeros((1, 64, 64)))
    forward_only = projector.table_bytes
    projector.filtered_backprojection(sinograms)
    for_correction = projector.table_bytes
    projector.adjoint(sinograms)
    assert 0 < forward_only < for_correction < projector.table_bytes
    assert for_correction * 8**3 < 850 * 2**20
    assert projector.table_bytes * 8**3 < 1200 * 2**20


def test_the_last_projector_is_kept_however_its_device_is_named() -> None:
    kept = fan_beam_projector(fan(40))
    assert fan_beam_projector(fan(40), "cpu") is kept
    assert fan_beam_projector(fan(40), torch.device("cpu")) is kept
    assert fan_beam_projector(fan(40, "arc")) is not kept


def test_all_of_the_work_is_done_on_the_projectors_device() -> None:
    """The meta device has no values: one tensor left behind on the CPU would stop the operator."""
    projector = FanBeamProjector(fan(40), device="meta")
    sinograms = projector.forward(torch.zeros((3, 40, 40), device="meta"))
    assert sinograms.device.type == "meta"
    assert sinograms.shape == (3, projector.geometry.views, projector.geometry.cells)
    assert projector.filtered_backprojection(sinograms).device.type == "meta"
    assert projector.circle.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
@both_detectors
def test_a_gpu_gives_what_the_cpu_gives_and_gives_it_back_to_the_caller(detector: Detector) -> None:
    on_cpu, on_gpu = (FanBeamProjector(fan(64, detector), device=device) for device in ("cpu", "cuda"))
    images = torch.rand((9, 64, 64), generator=torch.Generator().manual_seed(4))
    sinograms = on_cpu.forward(images)
    torch.testing.assert_close(on_gpu.forward(images), sinograms, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(on_gpu.adjoint(sinograms), on_cpu.adjoint(sinograms), rtol=1e-5, atol=1e-3)
    expected = on_cpu.filtered_backprojection(sinograms)
    torch.testing.assert_close(on_gpu.filtered_backprojection(sinograms), expected, rtol=1e-4, atol=1e-4)
    there = on_gpu.filtered_backprojection(on_gpu.forward(images.to("cuda")))
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), expected, rtol=1e-4, atol=1e-4)
