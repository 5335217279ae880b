"""The pipeline's promises to a hospital: no harm, metal untouched, refusals with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from inference.errors import SettingsInvalid, SourceRefused
from inference.mar_methods import CHANNELS
from inference.mar_settings import METHODS, PRIORS, Settings
from inference.physics.ct_simulation import simulate_metal_ct
from inference.physics.metal import without_specks
from inference.pipeline import Card, Outcome, build_pipeline, run_pipeline
from inference.pipelines.ct_metal_artifact_reduction import CtMetalArtifactReduction
from inference.volume import Acquisition, Geometry, Unit, Volume
from tests.builders import fixtures_folder
from tests.builders_weights import write_weights

NAME = "ct_metal_artifact_reduction"
SIZE, SPACING_MM = 128, 2.5
WITH_METAL = (1, 2, 3)
JUDGED = tuple(method for method in METHODS if method != "dual_domain_diffusion")
"""What an untrained diffusion model leaves of its noise is not sent: its rung is judged without the gate."""
RANGES = {"pixel_spacing_mm": (2.0, 2.6), "kvp": (80.0, 140.0)}


def grid(mm: tuple[float, float, float] = (3.0, SPACING_MM, SPACING_MM)) -> Geometry:
    return Geometry(np.diag([*mm, 1.0])[[2, 1, 0, 3]], "1.2.3")  # axial: slices along z, columns along x


def volume(values: NDArray[np.float32], **acquisition: Any) -> Volume:
    facts: dict[str, Any] = {
        "modality": "CT",
        "bits_stored": 12,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "kvp": 120.0,
    }
    return Volume(values, Unit.HU, grid(), Acquisition(**(facts | acquisition)))


@lru_cache(maxsize=1)
def phantom() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(clean, with two implants in the middle three of five slices) HU, with noise."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where((x / 54) ** 2 + (y / 38) ** 2 < 1, 50, -1000).astype(np.float32)[None].repeat(5, axis=0)
    clean += np.random.default_rng(5).normal(0, 8, clean.shape).astype(np.float32)
    implants = np.zeros(clean.shape, bool)
    implants[list(WITH_METAL)] = y**2 + (np.abs(x) - 27) ** 2 < 4.5**2
    return clean, simulate_metal_ct(clean, implants, metal="iron", spacing_mm=SPACING_MM, seed=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A site's folder of weights: an untrained network answers nought, that for metal says metal where it can be."""
    folder = tmp_path_factory.mktemp("weights")
    for name, channels in CHANNELS.items():
        bias = 9.0 if name == "ct_metal_mask" else 0.0
        write_weights(folder, name, channels_in=channels, last_bias=bias, in_distribution=RANGES)
    return str(folder)


CLASSICAL: Mapping[str, Any] = MappingProxyType({"method": "nmar"})
"""Phantoms are coarser than what the shipped network serves."""


@lru_cache(maxsize=8)
def outcome(site: str, method: str = "nmar") -> Outcome:
    settings = {"method": method, "weights_folder": site}
    return run_pipeline(build_pipeline(NAME, settings), volume(phantom()[1]))


def refusal(source: Volume, **settings: Any) -> SourceRefused:
    with pytest.raises(SourceRefused) as caught:
        run_pipeline(build_pipeline(NAME, {**CLASSICAL, **settings}), source)
    return caught.value


@pytest.mark.parametrize("method", JUDGED)
def test_the_error_outside_the_metal_falls_by_more_than_four_decibels(site: str, method: str) -> None:
    clean, spoiled = phantom()
    made = outcome(site, method)
    tissue = ~made.masks["metal"]
    before, after = (
        np.sqrt(np.mean((np.clip(image, -1000, 1600) - clean)[tissue] ** 2)) for image in (spoiled, made.volume.values)
    )
    assert 20 * np.log10(before / after) > 4


@pytest.mark.parametrize("method", JUDGED)
def test_metal_and_slices_without_metal_are_kept_bit_for_bit(site: str, method: str) -> None:
    spoiled, made = phantom()[1], outcome(site, method)
    metal = made.masks["metal"]
    np.testing.assert_array_equal(made.volume.values[metal], spoiled[metal])
    np.testing.assert_array_equal(made.volume.values[[0, 4]], spoiled[[0, 4]])
    assert metal.any(axis=(1, 2)).tolist() == [False, True, True, True, False]
    assert made.volume.values.min() >= spoiled.min()
    assert made.volume.values.max() <= spoiled.max()


def test_measurements_say_how_much_metal_and_how_much_better(site: str) -> None:
    made = outcome(site)
    figures = made.measurements
    assert (figures["slices_changed"], figures["slices_passed"], figures["slices_refused"]) == (3, 0, 0)
    assert figures["streak_after_hu"] < figures["streak_before_hu"]
    # Two discs of radius 4.5 pixels in three slices of 3 mm: 7.2 ml; the blurred edge adds some.
    assert 6 < figures["metal_volume_ml"] < 12
    assert made.notes == ()


def test_voxels_outside_the_field_of_view_are_restored_exactly() -> None:
    spoiled = phantom()[1].copy()
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    outside = np.broadcast_to(np.hypot(x, y) > 60, spoiled.shape).copy()
    spoiled[outside] = -2048
    source = replace(volume(spoiled), outside=outside)
    made = run_pipeline(build_pipeline(NAME, CLASSICAL), source)
    assert (made.volume.values[outside] == -2048).all()
    assert made.measurements["slices_changed"] == 3


def test_a_slice_whose_metal_is_cut_by_the_field_of_view_passes_with_a_reason() -> None:
    spoiled = phantom()[1].copy()
    spoiled[2, 60:66, :4] = 3071
    made = run_pipeline(build_pipeline(NAME, CLASSICAL), volume(spoiled))
    np.testing.assert_array_equal(made.volume.values[2], spoiled[2])
    figures = made.measurements
    assert (figures["slices_changed"], figures["slices_passed"], figures["slices_refused"]) == (2, 0, 1)
    assert len(made.notes) == 1
    assert "edge of the field of view (in stack order: 3)" in made.notes[0]


def test_metal_that_makes_no_streaks_is_left_alone_and_the_series_refused() -> None:
    clean, spoiled = phantom()
    pasted = np.where(spoiled > 2500, np.float32(3071), clean)
    fault = refusal(volume(pasted))
    assert fault.reason_code == "no-gain"
    assert "1-3" not in str(fault)
    assert "(in stack order: 2-4)" in str(fault)


def test_a_coronal_reformat_is_refused_for_streaks_lie_in_the_plane_of_the_scan() -> None:
    axial = volume(phantom()[1])
    coronal = replace(axial, geometry=Geometry(axial.geometry.affine[[0, 2, 1, 3]], "1.2.3"))
    assert refusal(coronal).reason_code == "not-axial"


def test_every_slice_with_metal_is_changed_passed_or_refused() -> None:
    clean, spoiled = phantom()
    mixed = spoiled.copy()
    # metal without streaks, and metal at the edge
    mixed[3] = np.where(spoiled[3] > 2500, np.float32(3071), clean[3])
    mixed[0, 60:66, :4] = 3071
    made = run_pipeline(build_pipeline(NAME, CLASSICAL), volume(mixed))
    changed, passed, refused = (made.measurements[f"slices_{what}"] for what in ("changed", "passed", "refused"))
    assert changed >= 1 and passed >= 1 and refused == 1
    assert changed + passed + refused == made.masks["metal"].any(axis=(1, 2)).sum() == 4
    assert len(made.unchanged) == 5 - changed and {0, 3, 4} <= made.unchanged


def test_slices_that_are_the_sources_own_are_told(site: str) -> None:
    made, source = outcome(site), phantom()[1]
    same = {k for k in range(len(source)) if (made.volume.values[k] == source[k]).all()}
    assert same and made.unchanged == same


def test_padding_far_below_air_does_not_widen_the_range_of_the_result() -> None:
    values = phantom()[1].copy()
    padded = np.zeros(values.shape, np.bool_)
    padded[:, :3, :3] = True
    lowest = float(values.min())
    values[padded] = -3024
    source = replace(volume(values), outside=padded)
    result = run_pipeline(build_pipeline(NAME, CLASSICAL), source).volume.values
    assert result[~padded].min() >= lowest and (result[padded] == -3024).all()


def test_a_series_without_metal_is_refused() -> None:
    assert refusal(volume(phantom()[0])).reason_code == "no-metal"


def test_a_series_whose_header_says_that_metal_artifacts_were_reduced_is_refused_with_its_words() -> None:
    fault = refusal(volume(phantom()[1], metal_artifact_reduction="ConvolutionKernel IMAR"))
    assert fault.reason_code == "metal-reduced-already" and "ConvolutionKernel IMAR" in str(fault)


def test_the_volume_of_metal_counts_no_gap_between_slices(site: str) -> None:
    source = volume(phantom()[1])
    corners = source.geometry.affine[:3, 3] + np.arange(5)[:, None] * source.geometry.affine[:3, 0]
    corners[3:, 2] += 30.0
    apart = replace(source, geometry=replace(source.geometry, corners_mm=corners))
    made = run_pipeline(build_pipeline(NAME, CLASSICAL), apart)
    assert made.measurements["metal_volume_ml"] == pytest.approx(outcome(site).measurements["metal_volume_ml"], 0.05)


def test_in_a_stack_with_gaps_metal_of_the_next_slice_makes_no_dense_bone_into_metal() -> None:
    values = phantom()[1].copy()
    values[0, 30:36, 30:36] = 2500  # dense as enamel, and just below, in the next slice, a piece of metal
    values[1, 30:36, 30:36] = 3071
    source = volume(values)
    corners = source.geometry.affine[:3, 3] + np.arange(5)[:, None] * source.geometry.affine[:3, 0]
    corners[1:, 2] += 30.0
    apart = replace(source, geometry=replace(source.geometry, corners_mm=corners))
    close, far = (run_pipeline(build_pipeline(NAME, CLASSICAL), each).masks["metal"] for each in (source, apart))
    assert close[0, 32, 32] and not far[0, 32, 32]
    assert close[1, 32, 32] and far[1, 32, 32]


def test_more_metal_than_a_body_holds_is_refused() -> None:
    assert refusal(volume(phantom()[1] + 3000)).reason_code == "implausible-metal"


def test_pixels_that_are_not_square_are_refused() -> None:
    source = replace(volume(phantom()[1]), geometry=grid((3.0, 2.5, 2.0)))
    assert refusal(source).reason_code == "pixels-not-square"


def test_a_wrong_setting_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        build_pipeline(NAME, {"method": "nmar", "prior": "pix2pix"})
    assert caught.value.key == "prior"


def test_the_networks_prior_is_the_default_and_the_card_says_what_is_set() -> None:
    card = build_pipeline(NAME, {}).card
    assert card.method == "prior_net" and not card.baseline
    settings = {"method": "prior_net", "prior": "supervised", "metal_mask": "threshold", "metal_threshold_hu": 0.0}
    assert card.settings == settings
    assert build_pipeline(NAME, {"metal_threshold_hu": 2500}).card.settings["metal_threshold_hu"] == 2500


def test_of_a_network_what_takes_noise_away_and_nothing_out_of_the_trace_is_passed(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More slices than one look at the trace takes; without a network the same change is judged by its streaks."""
    clean = phantom()[0][:1].repeat(10, axis=0)
    images = clean + np.random.default_rng(4).normal(0, 20, clean.shape).astype(np.float32)
    images[:, 60:66, 60:66] = 3071
    quieter = 0.85 * images + 0.15 * gaussian_filter(images, (0, 1, 1))

    def sent(method: str) -> int:
        batches = iter((quieter[:8], quieter[8:]))
        monkeypatch.setattr(CtMetalArtifactReduction, "reduced", lambda *_, **__: next(batches))
        made = run_pipeline(build_pipeline(NAME, {"method": method, "weights_folder": site}), volume(images))
        return 10 - len(made.unchanged)

    assert sent("nmar") == 10
    with pytest.raises(SourceRefused, match="noise") as refused:
        sent("prior_net")
    assert refused.value.reason_code == "no-gain"


def test_a_set_threshold_decides_what_is_metal() -> None:
    assert refusal(volume(phantom()[1]), metal_threshold_hu=20000).reason_code == "no-metal"


def test_real_dental_metal_cut_off_at_2976_hu_is_found_and_its_streaks_fall() -> None:
    """Six slices of a Philips scanner whose numbers end at 2976 HU, below the usual threshold."""
    from pydicom import dcmread

    files = sorted((fixtures_folder() / "ct_dental_metal_TCGA-E3-A3E5").glob("*.dcm"))
    datasets = [dcmread(file) for file in files]
    values = np.stack(
        [data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept) for data in datasets]
    ).astype(np.float32)
    pixel_mm = float(datasets[0].PixelSpacing[0])
    source = replace(volume(values), geometry=grid((1.5, pixel_mm, pixel_mm)))
    made = run_pipeline(build_pipeline(NAME, CLASSICAL), source)
    assert made.measurements["slices_changed"] >= 2
    assert made.measurements["streak_after_hu"] < 0.92 * made.measurements["streak_before_hu"]
    # Only the crown: under a millilitre, in the same place in every slice that has it.
    assert 0.1 < made.measurements["metal_volume_ml"] < 1.0


def test_the_card_of_a_learned_rung_names_its_weights_and_that_of_a_classical_one_none(site: str) -> None:
    def card(**settings: Any) -> Card:
        return build_pipeline(NAME, settings | {"weights_folder": site}).card

    classical = card(**CLASSICAL)
    assert classical.weights_sha256 == "" and classical.baseline and "network" not in classical.purpose
    learned = [
        *(card(method="prior_net", prior=prior) for prior in PRIORS),
        card(method="dual_domain_diffusion"),
        card(**CLASSICAL, metal_mask="network"),
        card(method="prior_net", metal_mask="network"),
    ]
    assert all(len(each.weights_sha256) == 64 and not each.baseline for each in learned)
    assert len({each.purpose for each in learned}) == len(learned)
    assert all(each.intended_use == "tests" and "weights_folder" not in each.settings for each in learned)
    assert learned[2].settings["prior"] == "pix2pix" and learned[3].settings["steps"] == 20


def test_the_default_rung_of_the_network_is_shipped() -> None:
    assert build_pipeline(NAME, {"method": "prior_net"}).card.weights_sha256


@pytest.mark.parametrize("method", ["prior_net", "dual_domain_diffusion"])
def test_a_slice_of_a_learned_rung_does_not_depend_on_which_are_done_with_it(site: str, method: str) -> None:
    spoiled = phantom()[1]
    metal = outcome(site).masks["metal"]
    pipeline = CtMetalArtifactReduction(Settings(method=method, weights_folder=site))
    facts: dict[str, Any] = {"spacing_mm": SPACING_MM, "body_part_examined": "HIP"}
    together, alone = (pipeline.reduced(spoiled[chosen], metal[chosen], **facts) for chosen in ([1, 2], [2]))
    np.testing.assert_array_equal(together[1], alone[0])


def test_the_diffusion_halves_the_error_is_led_by_the_body_part_and_gives_the_same_bytes_each_time(site: str) -> None:
    clean, spoiled = phantom()
    metal = outcome(site).masks["metal"]
    pipeline = CtMetalArtifactReduction(Settings(method="dual_domain_diffusion", weights_folder=site))
    first, again, head = (
        pipeline.reduced(spoiled[2:3], metal[2:3], spacing_mm=SPACING_MM, body_part_examined=part)
        for part in ("", "CHEST", "HEAD")
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, head)
    before, after = (
        np.sqrt(np.mean((np.clip(image, -1000, 1600) - clean[2])[~metal[2]] ** 2)) for image in (spoiled[2], first[0])
    )
    assert after < before / 2


def test_metal_by_the_network_goes_the_way_of_metal_by_threshold(site: str) -> None:
    spoiled = phantom()[1]
    network = run_pipeline(
        build_pipeline(NAME, {**CLASSICAL, "metal_mask": "network", "weights_folder": site}), volume(spoiled)
    )
    # this network takes all that is dense for metal
    np.testing.assert_array_equal(network.masks["metal"], without_specks(spoiled >= 1500))
    assert network.measurements["slices_changed"] == 3
    metal = network.masks["metal"]
    np.testing.assert_array_equal(network.volume.values[metal], spoiled[metal])


def test_a_series_at_the_border_of_the_training_bears_a_note_and_one_beyond_is_refused(site: str) -> None:
    settings = {"method": "prior_net", "weights_folder": site}
    border, beyond = (replace(volume(phantom()[1]), geometry=grid((3.0, mm, mm))) for mm in (2.7, 2.8))
    notes = run_pipeline(build_pipeline(NAME, settings), border).notes
    assert len(notes) == 1 and "pixel_spacing_mm is 2.7" in notes[0]
    fault = refusal(beyond, **settings)
    assert fault.reason_code == "out-of-distribution" and 'use method = "nmar"' in str(fault)
    assert run_pipeline(build_pipeline(NAME, CLASSICAL), beyond).notes == ()
    no_metal = replace(volume(phantom()[0]), geometry=beyond.geometry)
    assert refusal(no_metal, **settings).reason_code == "no-metal"
    network = settings | {"metal_mask": "network"}
    assert 'use metal_mask = "threshold"' in str(refusal(no_metal, **network))
    unknown = run_pipeline(build_pipeline(NAME, settings), volume(phantom()[1], kvp=None)).notes
    assert len(unknown) == 1 and unknown[0].startswith("kvp of this series is not known")
