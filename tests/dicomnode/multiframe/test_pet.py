"""A frame of an enhanced PET has the units, corrections and times of a single-frame PET, or is refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.sequence import Sequence as DicomSequence

from dicomnode.acquisition import check_corrections
from dicomnode.errors import SeriesUnusable
from dicomnode.load import load_volume
from dicomnode.multiframe.enhanced import source_images
from tests.builders_dicom import code
from tests.builders_enhanced import write_enhanced
from tests.builders_enhanced_groups import Groups


def images_of(path: Path, **options: Any) -> Any:
    return source_images(write_enhanced(path / "x.dcm", "PT", **options))


def refusal_of(path: Path, **options: Any) -> str:
    with pytest.raises(SeriesUnusable) as refusal:
        images_of(path, **options)
    return refusal.value.reason_code


def test_the_corrections_are_said_as_terms_that_do_not_contradict_each_other(tmp_path: Path) -> None:
    image = images_of(tmp_path)[0]
    assert image.texts("CorrectedImage") == ("DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM")
    assert image.text("AttenuationCorrectionMethod") == "CT CONCURRENT"
    check_corrections(image)


def test_what_was_not_corrected_is_not_said_to_be(tmp_path: Path) -> None:
    image = images_of(
        tmp_path,
        AttenuationCorrected="NO",
        AttenuationCorrectionSource=None,
        DecayCorrected="NO",
        RandomsCorrected="NO",
        RandomsCorrectionMethod=None,
        DecayCorrectionDateTime=None,
    )[0]
    assert image.texts("CorrectedImage") == ("SCAT", "DTIM", "NORM")
    assert image.text("AttenuationCorrectionMethod") == ""
    assert (image.text("DecayCorrection"), image.text("RandomsCorrectionMethod")) == ("NONE", "NONE")
    assert (image.text("SeriesDate"), image.text("SeriesTime")) == ("20240229", "102000")
    check_corrections(image)


@pytest.mark.parametrize("said", [None, "MAYBE"])
def test_a_correction_that_is_left_open_is_refused(tmp_path: Path, said: str | None) -> None:
    assert refusal_of(tmp_path, AttenuationCorrected=said) == "multi-frame-corrections"


def test_the_moment_of_decay_correction_is_the_time_of_the_series(tmp_path: Path) -> None:
    image = images_of(tmp_path, DecayCorrectionDateTime="20240229101500.5")[0]
    assert image.text("DecayCorrection") == "START"
    assert (image.text("SeriesDate"), image.text("SeriesTime")) == ("20240229", "101500.5")
    assert image.number("FrameReferenceTime") == 369500.0  # 10:21:10 after 10:15:00.5
    assert image.raw("SeriesTime") == b"101500.5"


def test_values_corrected_to_the_injection_are_said_to_be_and_give_the_same_suv(tmp_path: Path) -> None:
    at_injection = write_enhanced(tmp_path / "a.dcm", "PT", DecayCorrectionDateTime="20240229092000")
    at_start = write_enhanced(tmp_path / "b.dcm", "PT")
    image = source_images(at_injection)[0]
    assert (image.text("DecayCorrection"), image.text("SeriesTime")) == ("ADMIN", "102000")
    assert load_volume([at_injection])[0].acquisition.suv_bw_factor == pytest.approx(70 * 1000 / 350e6)
    elapsed_s = 3610
    decayed = 350e6 * 2 ** (-elapsed_s / 6586.2)
    assert load_volume([at_start])[0].acquisition.suv_bw_factor == pytest.approx(70 * 1000 / decayed)


@pytest.mark.parametrize("said", [None, "noon"])
def test_a_decay_correction_to_no_known_moment_is_refused(tmp_path: Path, said: str | None) -> None:
    assert refusal_of(tmp_path, DecayCorrectionDateTime=said) == "multi-frame-decay-time"


def test_times_in_several_zones_are_refused_unless_the_instance_says_its_own(tmp_path: Path) -> None:
    elsewhere = "20240229092010+0000"
    assert refusal_of(tmp_path, DecayCorrectionDateTime=elsewhere) == "multi-frame-decay-time"
    image = images_of(tmp_path, DecayCorrectionDateTime=elsewhere, TimezoneOffsetFromUTC="+0100")[0]
    assert float(image.text("SeriesTime")) == 102010


def units(value: str, *, slope: float = 0.5) -> Any:
    def change(k: int, groups: Groups) -> None:
        mapping = groups["RealWorldValueMappingSequence"]
        mapping.MeasurementUnitsCodeSequence = DicomSequence([code(value, "UCUM", value)])
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0

    return change


@pytest.mark.parametrize(
    ("ucum", "expected"),
    [("Bq/ml", "BQML"), ("g/ml{SUVbw}", "GML"), ("{SUVbw}g/ml", "GML"), ("{propcounts}", "PROPCNTS"), ("/cm", "1CM")],
)
def test_units_and_the_way_to_them_are_those_of_the_real_world_value_mapping(
    tmp_path: Path, ucum: str, expected: str
) -> None:
    image = images_of(tmp_path, each=units(ucum, slope=0.123456789012345678))[0]
    assert image.text("Units") == expected
    assert image.number("RescaleSlope") == pytest.approx(0.123456789012345678, rel=1e-12)
    assert image.number("RescaleIntercept") == 0 and "RescaleType" not in image.dataset


@pytest.mark.parametrize("ucum", ["mg/min/ml", "g/ml{SUVlbm}", "%"])
def test_units_that_a_pipeline_cannot_take_are_refused(tmp_path: Path, ucum: str) -> None:
    assert refusal_of(tmp_path, each=units(ucum)) == "multi-frame-units"


def test_a_mapping_in_pieces_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "PT")
    instance = dcmread(path)
    for groups in instance.PerFrameFunctionalGroupsSequence:
        piece = deepcopy(groups.RealWorldValueMappingSequence[0])
        piece.RealWorldValueSlope *= 2
        groups.RealWorldValueMappingSequence.append(piece)
    instance.save_as(path)
    with pytest.raises(SeriesUnusable) as refusal:
        source_images(path)
    assert refusal.value.reason_code == "multi-frame-units"


def test_a_mapping_by_table_is_refused(tmp_path: Path) -> None:
    def table(k: int, groups: Groups) -> None:
        del groups["RealWorldValueMappingSequence"].RealWorldValueSlope

    assert refusal_of(tmp_path, each=table) == "multi-frame-units"


def test_without_a_mapping_the_rescale_type_can_name_the_units(tmp_path: Path) -> None:
    def named(k: int, groups: Groups) -> None:
        del groups["RealWorldValueMappingSequence"]
        groups["PixelValueTransformationSequence"].RescaleType = "BQML"
        groups["PixelValueTransformationSequence"].RescaleSlope = "2.5"

    image = images_of(tmp_path, each=named)[0]
    assert (image.text("Units"), image.number("RescaleSlope")) == ("BQML", 2.5)


def test_times_and_counts_of_a_frame_are_those_of_a_single_frame_image(tmp_path: Path) -> None:
    images = images_of(tmp_path)
    assert [image.number("ImageIndex") for image in images] == [1, 2, 3, 4]
    image = images[0]
    keywords = ("ActualFrameDuration", "FrameReferenceTime", "DecayFactor", "NumberOfSlices")
    assert [image.number(keyword) for keyword in keywords] == [120000, 60000, 1.01, 4]
    assert image.text("ReconstructionMethod") == "MLEM 3i10s"
    assert image.dataset.PatientGantryRelationshipCodeSequence[0].CodeMeaning == "headfirst"
    assert image.dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose == 350000000


@pytest.mark.parametrize(
    ("macro", "keyword", "reason"),
    [
        ("FrameContentSequence", "FrameReferenceDateTime", "multi-frame-times"),
        ("PETFrameCorrectionFactorsSequence", "DecayFactor", "multi-frame-decay-factor"),
    ],
)
def test_what_a_single_frame_pet_must_say_and_the_frame_leaves_open_is_refused(
    tmp_path: Path, macro: str, keyword: str, reason: str
) -> None:
    def lost(k: int, groups: Groups) -> None:
        delattr(groups[macro], keyword)

    assert refusal_of(tmp_path, each=lost) == reason


def test_frames_of_several_bed_positions_are_a_whole_body_series(tmp_path: Path) -> None:
    def moved(k: int, groups: Groups) -> None:
        groups["FrameContentSequence"].FrameAcquisitionDateTime = f"202402291020{10 + k}"

    assert images_of(tmp_path / "a")[0].texts("SeriesType") == ("STATIC", "IMAGE")
    assert images_of(tmp_path / "b", each=moved)[0].texts("SeriesType") == ("WHOLE BODY", "IMAGE")


def test_frames_of_several_times_are_a_dynamic_series(tmp_path: Path) -> None:
    def later(k: int, groups: Groups) -> None:
        groups["FrameContentSequence"].TemporalPositionIndex = k // 2 + 1
        groups["PlanePositionSequence"].ImagePositionPatient = ["-32", "-30", str(100 + 3 * (k % 2))]

    images = images_of(tmp_path, each=later)
    assert images[0].text("SeriesType") == "DYNAMIC"
    assert (images[0].number("NumberOfTimeSlices"), images[0].number("NumberOfSlices")) == (2, 2)
    assert [image.number("TemporalPositionIdentifier") for image in images] == [1, 1, 2, 2]


def test_a_gated_acquisition_is_a_gated_series(tmp_path: Path) -> None:
    assert images_of(tmp_path, CardiacSynchronizationTechnique="RETROSPECTIVE")[0].text("SeriesType") == "GATED"


@pytest.mark.parametrize("keyword", ["FrameReferenceDateTime", "FrameAcquisitionDateTime"])
def test_a_frame_timed_in_another_zone_is_refused_unless_the_instance_says_its_own(
    tmp_path: Path, keyword: str
) -> None:
    def elsewhere(k: int, groups: Groups) -> None:
        setattr(groups["FrameContentSequence"], keyword, "20240229082110+0000")

    assert refusal_of(tmp_path, each=elsewhere) == "multi-frame-times"
    image = images_of(tmp_path / "zone", each=elsewhere, TimezoneOffsetFromUTC="+0200")[0]
    assert image.number("FrameReferenceTime") == 60000


def test_times_that_all_have_an_offset_are_refused_where_they_count_from_a_series_time_that_has_none(
    tmp_path: Path,
) -> None:
    def everywhere(k: int, groups: Groups) -> None:
        groups["FrameContentSequence"].FrameReferenceDateTime = "20240229102110+0000"
        groups["FrameContentSequence"].FrameAcquisitionDateTime = "20240229102010+0000"

    options = {"each": everywhere, "AcquisitionDateTime": "20240229102010+0000"}
    nuclide = dcmread(write_enhanced(tmp_path / "x.dcm", "PT")).RadiopharmaceuticalInformationSequence
    nuclide[0].RadiopharmaceuticalStartDateTime = "20240229092000+0000"
    options["RadiopharmaceuticalInformationSequence"] = nuclide
    image = images_of(tmp_path, DecayCorrectionDateTime="20240229102000+0000", **options)[0]
    assert image.number("FrameReferenceTime") == 70000
    at_injection = "20240229092000+0000"
    assert refusal_of(tmp_path, DecayCorrectionDateTime=at_injection, **options) == "multi-frame-times"
