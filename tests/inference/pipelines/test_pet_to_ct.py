"""pet_to_ct makes a synthetic CT that corrects attenuation, from an uncorrected PET of one plausible body only."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from inference.errors import SettingsInvalid, SourceRefused
from inference.physics.attenuation import (
    attenuation_factors,
    build_projector,
    measured_counts,
    mu_from_hu,
    reconstruct_osem,
)
from inference.pipeline import Outcome, build_pipeline, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

SLICES, SIZE, SLICE_MM, PIXEL_MM = 24, 88, 6.0, 5.0
AXIAL = np.array([[0, 0, PIXEL_MM, 0], [0, PIXEL_MM, 0, 0], [SLICE_MM, 0, 0, 0], [0, 0, 0, 1.0]])
UNCORRECTED = Acquisition(modality="PT", corrected_image=("NORM", "DTIM", "DECY", "RAN"), units="PROPCPS")


def ellipse(at_mm: float, radii_mm: tuple[float, float]) -> NDArray[np.bool_]:
    across = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL_MM
    inside = ((across[None, :] - at_mm) / radii_mm[0]) ** 2 + (across[:, None] / radii_mm[1]) ** 2 <= 1
    return np.broadcast_to(inside, (SLICES, SIZE, SIZE))


BODY = ellipse(0, (165, 110))
LUNGS = (ellipse(-75, (45, 70)) | ellipse(75, (45, 70))) & (np.arange(SLICES) > 2)[:, None, None]


@cache
def chest() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """True HU and the PET reconstructed without attenuation correction."""
    hu = np.where(BODY, 0, -1000).astype(np.float32)
    hu[LUNGS] = -750
    activity = np.where(LUNGS, 0.45, BODY).astype(np.float32)
    projector = build_projector((SIZE, SIZE), pixel_mm=(PIXEL_MM, PIXEL_MM), views=48)
    factors = attenuation_factors(mu_from_hu(hu, kvp=120), projector)
    counts, _ = measured_counts(activity, factors, projector, total_counts=2e5 * SLICES, seed=2, blur_bins=0.6)
    return hu, gaussian_filter(reconstruct_osem(counts, projector, iterations=3), 0.4)


def pet(
    values: NDArray[np.float32], acquisition: Acquisition = UNCORRECTED, affine: NDArray[np.float64] = AXIAL
) -> Volume:
    return Volume(values, Unit.PROPORTIONAL_COUNTS, Geometry(affine, "1.2"), acquisition)


@cache
def outcome(lungs: str = "auto") -> Outcome:
    return run_pipeline(build_pipeline("pet_to_ct", {"lungs": lungs}), pet(chest()[1]))


def pet_bias(synthetic_hu: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    """Of a PET corrected with the synthetic CT against one corrected with the true CT."""
    hu, _ = chest()
    activity = np.where(LUNGS, 0.45, BODY).astype(np.float32)
    projector = build_projector((SIZE, SIZE), pixel_mm=(PIXEL_MM, PIXEL_MM), views=48)
    true, made = (attenuation_factors(mu_from_hu(each, kvp=120), projector) for each in (hu, synthetic_hu))
    emission = projector.forward(activity) * true
    reference, corrected = (reconstruct_osem(emission, projector, factors=each) for each in (true, made))
    return float(corrected[region].mean() / reference[region].mean() - 1)


def test_the_result_is_hu_of_a_body_in_air_with_its_lungs() -> None:
    made = outcome()
    assert made.volume.unit == Unit.HU
    assert set(np.unique(made.volume.values)) == {-1000, -700, 0}
    body = made.volume.values > -1000
    assert 2 * (body & BODY).sum() / (body.sum() + BODY.sum()) > 0.95
    np.testing.assert_array_equal(made.masks["body"], body)
    assert (made.masks["lungs"] & LUNGS).sum() > 0.8 * made.masks["lungs"].sum()
    assert made.measurements["body_ml"] == pytest.approx(BODY.sum() * SLICE_MM * PIXEL_MM**2 / 1000, rel=0.1)


def test_lungs_make_the_corrected_pet_far_less_wrong() -> None:
    inner = ellipse(0, (140, 85))
    with_lungs, without = (pet_bias(outcome(lungs).volume.values, inner) for lungs in ("auto", "off"))
    assert abs(with_lungs) < 0.5 * abs(without)
    # a baseline, not the bar: a learned rung must stay below 3 %
    assert abs(with_lungs) < 0.5


def test_lungs_off_leaves_soft_tissue() -> None:
    assert set(np.unique(outcome("off").volume.values)) == {-1000, 0}
    assert not outcome("off").masks["lungs"].any()


def test_a_body_without_lungs_says_that_none_were_seen() -> None:
    hu = np.where(BODY, 0, -1000).astype(np.float32)
    projector = build_projector((SIZE, SIZE), pixel_mm=(PIXEL_MM, PIXEL_MM), views=48)
    factors = attenuation_factors(mu_from_hu(hu, kvp=120), projector)
    image = reconstruct_osem(projector.forward(BODY.astype(np.float32)) * factors, projector, iterations=3)
    made = run_pipeline(build_pipeline("pet_to_ct", {}), pet(image))
    assert made.measurements["lungs_ml"] == 0
    assert any("none were seen" in note for note in made.notes)


def test_the_card_says_what_it_is_for() -> None:
    card = build_pipeline("pet_to_ct", {}).card
    assert card.result_modality == "CT"
    assert card.makes == Unit.HU
    assert card.synthetic
    assert card.baseline
    assert card.intended_use == "attenuation correction only, not for diagnosis"


@pytest.mark.parametrize(
    ("change", "reason_code"),
    [
        ({"corrected_image": ("DECY", "ATTN", "SCAT")}, "already-attenuation-corrected"),
        ({"attenuation_correction_method": "measured,AC CT"}, "already-attenuation-corrected"),
        ({"corrected_image": ()}, "corrections-unknown"),
    ],
)
def test_a_pet_that_is_corrected_or_does_not_say_is_refused(change: dict[str, object], reason_code: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("pet_to_ct", {}), pet(chest()[1], replace(UNCORRECTED, **change)))  # type: ignore[arg-type]
    assert refused.value.reason_code == reason_code
    assert "send" in str(refused.value)


@pytest.mark.parametrize("method", ["NONE", "none", "NONE, 0.000000 cm-1,"])
def test_a_method_that_says_none_is_no_correction(method: str) -> None:
    acquisition = replace(UNCORRECTED, attenuation_correction_method=method)
    result = run_pipeline(build_pipeline("pet_to_ct", {}), pet(chest()[1], acquisition)).volume
    assert result.unit is Unit.HU


def test_coronal_slices_are_refused() -> None:
    coronal = np.array([[0, 0, PIXEL_MM, 0], [SLICE_MM, 0, 0, 0], [0, -PIXEL_MM, 0, 0], [0, 0, 0, 1.0]])
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("pet_to_ct", {}), pet(chest()[1], affine=coronal))
    assert refused.value.reason_code == "not-axial"


def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((SLICES, SIZE, SIZE), dtype=np.float32)


def specks() -> NDArray[np.float32]:
    values = np.zeros((SLICES, SIZE, SIZE), dtype=np.float32)
    values[8:12, 30:34, 30:34] = 100
    return values


@pytest.mark.parametrize(
    ("values", "reason_codes"),
    [
        (np.zeros((SLICES, SIZE, SIZE), dtype=np.float32), {"no-body-seen"}),
        (specks(), {"no-body-seen"}),
        (noise(), {"no-body-seen", "body-edge-unclear", "body-cut-by-field-of-view", "implausible-body"}),
        (chest()[1][:, :, 30:], {"body-cut-by-field-of-view"}),
        (
            chest()[1] + np.float32(3 * np.percentile(chest()[1], 95)),
            {"body-edge-unclear", "body-cut-by-field-of-view"},
        ),
    ],
    ids=["empty", "specks", "noise", "cut", "haze"],
)
def test_no_plausible_body_is_refused(values: NDArray[np.float32], reason_codes: set[str]) -> None:
    with pytest.raises(SourceRefused) as refused:
        run_pipeline(build_pipeline("pet_to_ct", {}), pet(values))
    assert refused.value.reason_code in reason_codes


@pytest.mark.parametrize("settings", [{"lung_hu": -1000}, {"method": "unet"}, {"lungs": "on"}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsInvalid):
        build_pipeline("pet_to_ct", settings)
