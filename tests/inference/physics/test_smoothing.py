"""Every filter takes noise away, keeps a mean and an edge, and does not care how a stack is cut into slabs."""

from __future__ import annotations

import numpy as np
import pytest

from inference.physics import smoothing
from inference.physics.smoothing import SLICE_FILTERS, VOLUME_FILTERS, non_local_means_volume


def step(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A step of 20 noise deviations, clean and with noise."""
    clean = np.zeros(shape, dtype=np.float32)
    clean[..., shape[-1] // 2 :] = 20
    return clean, clean + np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", sorted(SLICE_FILTERS))
def test_a_slice_filter_halves_the_noise_and_keeps_mean_and_edge(name: str) -> None:
    clean, noisy = step((64, 64))
    result = SLICE_FILTERS[name](noisy)
    assert result.dtype == np.float32
    assert (result - clean).std() < 0.5
    assert result.mean() == pytest.approx(noisy.mean(), abs=0.1)
    assert result[:, 33].mean() - result[:, 30].mean() > 17


@pytest.mark.parametrize("name", sorted(VOLUME_FILTERS))
def test_a_volume_filter_halves_the_noise_and_keeps_mean_and_edge(name: str) -> None:
    clean, noisy = step((8, 40, 40))
    result = VOLUME_FILTERS[name](noisy)
    assert result.shape == noisy.shape
    assert (result - clean).std() < 0.5
    assert result.mean() == pytest.approx(noisy.mean(), abs=0.1)
    assert result[:, :, 21].mean() - result[:, :, 18].mean() > 17


def test_slabs_give_what_the_whole_stack_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    _, noisy = step((20, 24, 24))
    whole = non_local_means_volume(noisy)
    monkeypatch.setattr(smoothing, "SLAB_SLICES", 7)
    # scikit-image sums in single precision from each slab's own beginning
    np.testing.assert_allclose(non_local_means_volume(noisy), whole, atol=2e-2)
