"""PET denoising takes noise away, conserves activity, keeps lesions, and takes corrected activity only."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from inference.errors import SettingsInvalid, SourceRefused
from inference.pipeline import build_pipeline, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

GEOMETRY = Geometry(np.array([[0, 0, 4.0, 0], [0, 4.0, 0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]]), "1.2")
CORRECTED = Acquisition(modality="PT", corrected_image=("DECY", "ATTN", "SCAT"), units="BQML")
SHAPE = (24, 64, 64)


def ball(at: tuple[int, int, int], radius: float) -> NDArray[np.bool_]:
    return sum((axis - middle) ** 2 for axis, middle in zip(np.indices(SHAPE), at, strict=True)) <= radius**2


BODY = (np.indices(SHAPE)[1] - 32) ** 2 / 22**2 + (np.indices(SHAPE)[2] - 32) ** 2 / 28**2 <= 1
LESION = ball((12, 30, 44), 3.5)


@cache
def scene() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Truth and a noisy PET, Bq/ml; the variance grows with the activity, the noise is smoothed as a filter would."""
    truth = np.where(BODY, 5000, 0).astype(np.float32)
    truth[ball((12, 34, 20), 9) & BODY] = 9000
    truth[LESION] = 30000
    truth = gaussian_filter(truth, 0.6)
    counts = np.random.default_rng(5).poisson(truth / 300) * 300.0
    noisy = truth + 1.4 * gaussian_filter(counts - truth, 0.5)
    return truth, np.maximum(noisy, 0).astype(np.float32)


def pet(values: NDArray[np.float32], acquisition: Acquisition = CORRECTED) -> Volume:
    return Volume(values, Unit.BQ_PER_ML, GEOMETRY, acquisition)


@cache
def denoised(method: str, strength: float = 1.0) -> NDArray[np.float32]:
    pipeline = build_pipeline("pet_denoising", {"method": method, "strength": strength})
    return run_pipeline(pipeline, pet(scene()[1])).volume.values


@pytest.mark.parametrize(("method", "least"), [("nlm", 0.35), ("tv", 0.25), ("bilateral", 0.15)])
def test_every_method_takes_error_away(method: str, least: float) -> None:
    truth, noisy = scene()
    before, after = (np.sqrt(np.mean((image - truth)[BODY] ** 2)) for image in (noisy, denoised(method)))
    assert after < (1 - least) * before


@pytest.mark.parametrize("method", ["nlm", "tv", "bilateral"])
def test_total_activity_is_conserved_and_nothing_turns_negative(method: str) -> None:
    _, noisy = scene()
    total, made = (image.sum(dtype=np.float64) for image in (noisy, denoised(method)))
    # the promise is one percent; single precision gives far better
    assert made == pytest.approx(total, rel=1e-3)
    assert (denoised(method) >= 0).all()


def test_a_lesions_mean_and_maximum_survive() -> None:
    truth, noisy = scene()
    assert denoised("nlm")[LESION].mean() == pytest.approx(noisy[LESION].mean(), rel=0.03)
    assert denoised("nlm")[LESION].max() > 0.9 * truth[LESION].max()


def test_each_region_keeps_its_activity() -> None:
    _, noisy = scene()
    for region in (ball((12, 34, 20), 6), ball((6, 32, 32), 5), ball((18, 40, 36), 5)):
        assert denoised("nlm")[region].mean() == pytest.approx(noisy[region].mean(), rel=0.03)


@pytest.mark.parametrize("method", ["nlm", "tv", "bilateral"])
def test_a_single_slice_is_taken(method: str) -> None:
    one = scene()[1][12:13]
    result = run_pipeline(build_pipeline("pet_denoising", {"method": method}), pet(one)).volume.values
    assert result.shape == one.shape and abs(float(result.sum()) / float(one.sum()) - 1) < 0.01


def test_strength_blends_input_and_output() -> None:
    noisy = scene()[1]
    np.testing.assert_allclose(denoised("nlm", 0.5), noisy + 0.5 * (denoised("nlm") - noisy), rtol=1e-4, atol=0.1)
    np.testing.assert_array_equal(denoised("nlm", 0.0), noisy)


def test_negative_values_of_a_source_are_taken() -> None:
    _, noisy = scene()
    shifted = noisy - 300 * (np.random.default_rng(6).random(SHAPE) < 0.2).astype(np.float32)
    result = run_pipeline(build_pipeline("pet_denoising", {}), pet(shifted)).volume.values
    assert np.isfinite(result).all()
    assert (result[shifted >= 0] >= 0).all()
    assert result.sum(dtype=np.float64) == pytest.approx(shifted.sum(dtype=np.float64), rel=0.01)


def test_an_image_without_noise_is_passed_through_and_says_so() -> None:
    flat = np.where(BODY, 5000, 0).astype(np.float32)
    flat[:] = 5000
    outcome = run_pipeline(build_pipeline("pet_denoising", {}), pet(flat))
    np.testing.assert_array_equal(outcome.volume.values, flat)
    assert outcome.notes


@pytest.mark.parametrize(
    ("change", "reason_code"),
    [
        ({"corrected_image": ("DECY", "NORM")}, "not-attenuation-corrected"),
        ({"corrected_image": ()}, "not-attenuation-corrected"),
        ({"units": "PROPCPS"}, "not-activity"),
        ({"units": ""}, "not-activity"),
    ],
)
def test_a_pet_outside_the_contract_is_refused(change: dict[str, object], reason_code: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("pet_denoising", {}), pet(scene()[1], replace(CORRECTED, **change)))  # type: ignore[arg-type]
    assert refused.value.reason_code == reason_code
    assert "send" in str(refused.value)


def test_an_empty_pet_is_refused() -> None:
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("pet_denoising", {}), pet(np.zeros(SHAPE, dtype=np.float32)))
    assert refused.value.reason_code == "no-activity"


@pytest.mark.parametrize("settings", [{"strength": -0.1}, {"method": "medgan"}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsInvalid):
        build_pipeline("pet_denoising", settings)
