"""CT denoising takes noise away, keeps every tissue's HU, and leaves alone what is not body."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from inference.errors import SettingsInvalid, SourceRefused
from inference.pipeline import build_pipeline, run_pipeline
from inference.pipelines import ct_denoising
from inference.volume import Acquisition, Geometry, Unit, Volume

SIZE = 128
GEOMETRY = Geometry(np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]]), "1.2")
TISSUES = {"lung": -800.0, "soft": 45.0, "bone": 600.0}


def disc(row: int, column: int, radius: float) -> NDArray[np.bool_]:
    j, i = np.indices((SIZE, SIZE))
    return (j - row) ** 2 + (i - column) ** 2 <= radius**2


@cache
def scene() -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
    """Clean and noisy HU of three slices, and where each tissue is, two pixels from its edge."""
    clean = np.full((3, SIZE, SIZE), -1000, dtype=np.float32)
    clean[:, disc(64, 64, 54)] = TISSUES["soft"]
    clean[:, disc(60, 40, 16)] = TISSUES["lung"]
    clean[:, disc(64, 92, 12)] = TISSUES["bone"]
    clean[:, disc(88, 64, 5)] = 105
    grain = gaussian_filter(np.random.default_rng(4).standard_normal(clean.shape), (0, 0.8, 0.8))
    stronger_inside = 1 + 0.8 * np.exp(-((np.indices((SIZE, SIZE)) - 64) ** 2).sum(0) / 2e3)
    noisy = clean + (30 * grain / grain.std() * stronger_inside).astype(np.float32)
    soft = disc(64, 64, 50) & ~disc(60, 40, 19) & ~disc(64, 92, 15) & ~disc(88, 64, 8)
    places = {"lung": disc(60, 40, 13), "soft": soft, "bone": disc(64, 92, 9), "lesion": disc(88, 64, 3)}
    return clean, noisy.astype(np.float32), {name: np.broadcast_to(at, clean.shape) for name, at in places.items()}


def ct(values: NDArray[np.float32], outside: NDArray[np.bool_] | None = None) -> Volume:
    return Volume(values, Unit.HU, GEOMETRY, Acquisition(modality="CT"), outside)


@cache
def denoised(method: str, strength: float = 1.0) -> NDArray[np.float32]:
    pipeline = build_pipeline("ct_denoising", {"method": method, "strength": strength})
    return run_pipeline(pipeline, ct(scene()[1])).volume.values


@pytest.mark.parametrize(("method", "least_gain_db"), [("nlm", 3.0), ("tv", 2.5), ("bilateral", 1.5)])
def test_every_method_is_nearer_to_the_truth_than_its_input(method: str, least_gain_db: float) -> None:
    clean, noisy, _ = scene()
    body = np.broadcast_to(disc(64, 64, 54), clean.shape)
    before, after = (np.mean((image - clean)[body] ** 2) for image in (noisy, denoised(method)))
    assert 10 * np.log10(before / after) > least_gain_db


@pytest.mark.parametrize("tissue", ["lung", "soft", "bone"])
def test_a_tissues_mean_hu_shifts_by_less_than_2(tissue: str) -> None:
    _, noisy, places = scene()
    assert abs((denoised("nlm") - noisy)[places[tissue]].mean()) < 2


def test_a_small_lesion_keeps_most_of_its_contrast() -> None:
    _, _, places = scene()
    contrast = denoised("nlm")[places["lesion"]].mean() - denoised("nlm")[places["soft"]].mean()
    assert contrast > 0.75 * (105 - TISSUES["soft"])


def test_the_edge_of_bone_stays_as_sharp_as_it_was() -> None:
    clean, _, _ = scene()
    profile = denoised("nlm")[:, 60:69, :].mean(axis=(0, 1))
    truth = clean[:, 60:69, :].mean(axis=(0, 1))
    steepest = slice(76, 110)
    assert np.abs(np.diff(profile))[steepest].max() > 0.9 * np.abs(np.diff(truth))[steepest].max()


def test_strength_blends_input_and_output() -> None:
    noisy = scene()[1]
    halfway = noisy + 0.5 * (denoised("nlm") - noisy)
    np.testing.assert_allclose(denoised("nlm", 0.5), halfway, atol=1e-2)
    np.testing.assert_array_equal(denoised("nlm", 0.0), noisy)


def test_what_lies_outside_the_field_of_view_is_restored_exactly() -> None:
    _, noisy, _ = scene()
    outside = np.broadcast_to(~disc(64, 64, 50), noisy.shape).copy()
    padded = np.where(outside, np.float32(-3024), noisy)
    result = run_pipeline(build_pipeline("ct_denoising", {}), ct(padded, outside)).volume.values
    np.testing.assert_array_equal(result[outside], padded[outside])
    assert (result != padded)[~outside].mean() > 0.9


def test_air_far_from_the_body_stays_as_it_is() -> None:
    _, noisy, _ = scene()
    corner = np.zeros(noisy.shape, dtype=np.bool_)
    corner[:, :12, :12] = True
    np.testing.assert_array_equal(denoised("nlm")[corner], noisy[corner])


def test_the_noise_found_is_told() -> None:
    outcome = run_pipeline(build_pipeline("ct_denoising", {}), ct(scene()[1]))
    # put in: 30 HU at the skin, 54 HU in the middle
    assert 28 < outcome.measurements["noise_hu"] < 56
    assert abs(outcome.measurements["largest_tissue_shift_hu"]) < 2


def test_a_series_without_a_body_is_refused() -> None:
    air = np.full((2, 64, 64), -1000, dtype=np.float32)
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("ct_denoising", {}), ct(air))
    assert refused.value.reason_code == "no-body-seen"


def test_a_result_that_shifts_a_tissue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ct_denoising, "LARGEST_SHIFT_HU", 1e-6)
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("ct_denoising", {}), ct(scene()[1]))
    assert refused.value.reason_code == "regional-shift"


@pytest.mark.parametrize("settings", [{"strength": 1.5}, {"method": "gan"}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsInvalid):
        build_pipeline("ct_denoising", settings)
