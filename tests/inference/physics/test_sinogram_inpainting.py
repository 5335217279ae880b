"""Inpainting of the metal trace in sinograms."""

from __future__ import annotations

import pytest
import torch

from inference.physics.sinogram_inpainting import interpolated, normalised, with_measured_detail


def test_a_trace_becomes_a_straight_line_between_its_neighbours() -> None:
    sinogram = torch.tensor([[[1.0, 2.0, 99.0, 99.0, 8.0, 9.0]]])
    trace = torch.tensor([[[False, False, True, True, False, False]]])
    torch.testing.assert_close(interpolated(sinogram, trace), torch.tensor([[[1.0, 2.0, 4.0, 6.0, 8.0, 9.0]]]))


def test_a_trace_at_the_end_of_the_detector_takes_the_value_it_has() -> None:
    sinogram = torch.tensor([[[99.0, 99.0, 3.0, 5.0, 99.0]]])
    trace = torch.tensor([[[True, True, False, False, True]]])
    torch.testing.assert_close(interpolated(sinogram, trace), torch.tensor([[[3.0, 3.0, 3.0, 5.0, 5.0]]]))


def test_a_view_that_is_all_trace_becomes_zero() -> None:
    trace = torch.ones((1, 2, 5), dtype=torch.bool)
    assert interpolated(torch.full((1, 2, 5), 7.0), trace).abs().max() == 0


def test_cells_beside_the_trace_are_left_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(3)
    sinograms = torch.rand((2, 9, 40), generator=generator) + 0.5
    trace = torch.rand((2, 9, 40), generator=generator) < 0.3
    for filled in (interpolated(sinograms, trace), normalised(sinograms, sinograms + 1, trace)):
        assert torch.equal(filled[~trace], sinograms[~trace])


def test_with_the_true_prior_the_normalised_trace_is_the_truth() -> None:
    truth = torch.sin(torch.linspace(0.2, 2.9, 60)).repeat(1, 4, 1) + 0.3
    trace = torch.zeros_like(truth, dtype=torch.bool)
    trace[..., 20:35] = True
    spoiled = torch.where(trace, truth + 5, truth)
    torch.testing.assert_close(normalised(spoiled, truth, trace), truth)
    assert (interpolated(spoiled, trace) - truth).abs().max() > 0.05


@pytest.mark.parametrize(("trust", "kept"), [(100.0, 1.0), (1e-3, 0.0)])
def test_detail_behind_metal_comes_back_as_far_as_it_is_trusted(trust: float, kept: float) -> None:
    """A fine wave under a smooth function of the path: the function goes, the wave stays by its weight."""
    views, cells = 40, 50
    path = torch.zeros((1, views, cells))
    path[..., 10:40] = torch.linspace(1, 6, 30)
    trace = path > 0
    wave = torch.where(trace, 0.3 * torch.cos(torch.arange(views)[None, :, None] * 2.0), torch.zeros(()))
    inpainted = torch.full((1, views, cells), 20.0)
    measured = inpainted + wave + 0.4 * path**2 * trace
    result = with_measured_detail(inpainted, measured, path, trace, trust=trust)
    found = ((result - inpainted) * wave).sum() / (wave * wave).sum()
    assert float(found) == pytest.approx(kept, abs=0.12)
    assert torch.equal(result[~trace], inpainted[~trace])
