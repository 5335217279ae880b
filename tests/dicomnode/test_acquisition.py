"""Units, corrections and SUV as the headers give them."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.acquisition import acquisition_of, check_corrections, suv_bw_factor, unit_of
from dicomnode.errors import SeriesUnusable
from dicomnode.source_image import SourceImage, read_source_image
from inference.volume import Unit
from tests.builders_dicom import write_ct_series, write_mr_series, write_pet_series


def pet(folder: Path, **options: Any) -> list[SourceImage]:
    return [read_source_image(path) for path in write_pet_series(folder, slices=2, **options)]


@pytest.mark.parametrize(
    ("units", "unit"),
    [
        ("BQML", Unit.BQ_PER_ML),
        ("GML", Unit.SUV_BW),
        ("PROPCPS", Unit.PROPORTIONAL_COUNTS),
        ("CNTS", Unit.PROPORTIONAL_COUNTS),
    ],
)
def test_pet_units_become_units(tmp_path: Path, units: str, unit: Unit) -> None:
    assert unit_of(pet(tmp_path, Units=units)[0]) == unit


def test_ct_is_hu_and_mr_is_arbitrary(tmp_path: Path) -> None:
    assert unit_of(read_source_image(write_ct_series(tmp_path / "ct")[0])) == Unit.HU
    assert unit_of(read_source_image(write_mr_series(tmp_path / "mr")[0])) == Unit.ARBITRARY


@pytest.mark.parametrize(
    ("reason_code", "changes"),
    [
        ("units-unknown", {"Units": "CM2ML"}),
        ("units-unknown", {"Units": None}),
        ("suv-type", {"Units": "GML", "SUVType": "LBM"}),
        ("rescale-missing", {"RescaleSlope": None}),
    ],
)
def test_pet_values_of_unknown_meaning_are_refused(tmp_path: Path, reason_code: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SeriesUnusable) as refusal:
        unit_of(pet(tmp_path, **changes)[0])
    assert refusal.value.reason_code == reason_code


@pytest.mark.parametrize(
    ("reason_code", "changes"), [("not-hounsfield", {"RescaleType": "US"}), ("rescale-missing", {"RescaleSlope": None})]
)
def test_ct_values_that_are_not_hu_are_refused(tmp_path: Path, reason_code: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SeriesUnusable) as refusal:
        unit_of(read_source_image(write_ct_series(tmp_path, **changes)[0]))
    assert refusal.value.reason_code == reason_code


@pytest.mark.parametrize(
    "changes",
    [
        {"attenuation_corrected": False, "AttenuationCorrectionMethod": "measured,AC CT"},
        {"DecayCorrection": "NONE"},
        {"CorrectedImage": ["ATTN", "NORM"]},
    ],
)
def test_p2_a_header_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SeriesUnusable) as refusal:
        check_corrections(pet(tmp_path, **changes)[0])
    assert refusal.value.reason_code == "corrections-contradict"


def test_a_real_header_of_a_pet_without_attenuation_correction_is_taken(tmp_path: Path) -> None:
    images = pet(tmp_path, attenuation_corrected=False)
    check_corrections(images[0])
    facts = acquisition_of(images)
    assert facts.corrected_image == ("NORM", "DTIM", "DECY", "RAN")
    assert (facts.units, facts.attenuation_correction_method, facts.suv_bw_factor) == ("PROPCPS", "", None)
    assert (facts.frame_duration_s, facts.radiopharmaceutical) == (120.0, "Fluorodeoxyglucose")


def test_suv_counts_decay_from_injection_to_series_time(tmp_path: Path) -> None:
    # 70 kg, 350 MBq injected 3600 s before the series time, half life 6586.2 s
    factor = suv_bw_factor(pet(tmp_path))
    assert factor == pytest.approx(70000 / (350e6 * 2 ** (-3600 / 6586.2)), rel=1e-12)


def test_suv_of_values_corrected_to_the_injection_needs_no_times(tmp_path: Path) -> None:
    assert suv_bw_factor(pet(tmp_path, DecayCorrection="ADMIN", SeriesTime="")) == pytest.approx(70000 / 350e6)


def without_dose(k: int, dataset: Dataset) -> None:
    del dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientWeight": None},
        {"PatientWeight": "0"},
        {"each": without_dose},
        {"SeriesTime": "102030"},  # later than the acquisition: not the reference time
        {"SeriesTime": "091000"},  # before the injection
        {"AcquisitionTime": ""},
        {"RadiopharmaceuticalInformationSequence": None},
        {"Units": "PROPCPS"},
    ],
)
def test_suv_is_unknown_rather_than_guessed(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert suv_bw_factor(pet(tmp_path, **changes)) is None


def test_facts_of_a_ct_are_told(tmp_path: Path) -> None:
    images = [read_source_image(path) for path in write_ct_series(tmp_path, ConvolutionKernel=["Br38f", "3"])]
    facts = acquisition_of(images)
    assert (facts.modality, facts.kvp, facts.convolution_kernel, facts.bits_stored) == ("CT", 120.0, "Br38f\\3", 12)
    assert (facts.image_type, facts.body_part_examined) == (("ORIGINAL", "PRIMARY", "AXIAL"), "ABDOMEN")


def test_the_deepest_slice_says_how_many_bits_the_series_has(tmp_path: Path) -> None:
    def deeper(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.BitsStored, dataset.HighBit = 16, 15

    images = [read_source_image(path) for path in write_ct_series(tmp_path, slices=3, each=deeper)]
    assert acquisition_of(images).bits_stored == 16 and acquisition_of(images[:1]).bits_stored == 12


def lut_of(kind: str | None) -> Dataset:
    lut = Dataset()
    lut.LUTDescriptor = [256, 0, 16]
    if kind is not None:
        lut.ModalityLUTType = kind
    return lut


@pytest.mark.parametrize(
    ("reason_code", "kind", "changes"),
    [
        ("not-hounsfield", "OD", {"RescaleSlope": None, "RescaleIntercept": None, "RescaleType": None}),
        ("not-hounsfield", None, {"RescaleSlope": None, "RescaleIntercept": None, "RescaleType": None}),
        ("modality-lut", "HU", {}),
        ("modality-lut", "HU", {"RescaleSlope": None}),
    ],
)
def test_a_modality_lut_gives_hu_only_where_it_says_so_and_nothing_else_speaks(
    tmp_path: Path, reason_code: str, kind: str | None, changes: dict[str, Any]
) -> None:
    (path,) = write_ct_series(tmp_path, slices=1, ModalityLUTSequence=[lut_of(kind)], **changes)
    with pytest.raises(SeriesUnusable) as refusal:
        unit_of(read_source_image(path))
    assert refusal.value.reason_code == reason_code


@pytest.mark.parametrize("write", [write_pet_series, write_mr_series])
def test_a_pet_or_mr_with_a_modality_lut_is_refused(tmp_path: Path, write: Any) -> None:
    (path,) = write(tmp_path, slices=1, ModalityLUTSequence=[lut_of("US")])
    with pytest.raises(SeriesUnusable) as refusal:
        unit_of(read_source_image(path))
    assert refusal.value.reason_code == "modality-lut"


def test_an_empty_modality_lut_is_none(tmp_path: Path) -> None:
    (path,) = write_ct_series(tmp_path, slices=1, ModalityLUTSequence=[])
    assert unit_of(read_source_image(path)) == Unit.HU


@pytest.mark.parametrize(
    ("start", "zone", "elapsed_s"),
    [
        ("20240229092000", None, 3600),
        ("20240229092000+0100", "+0100", 3600),
        ("20240229082000+0000", "+0100", 3600),
        ("20240229082000+0000", None, None),
    ],
)
def test_the_injection_is_timed_in_the_zone_of_the_series(
    tmp_path: Path, start: str, zone: str | None, elapsed_s: float | None
) -> None:
    def inject(k: int, dataset: Dataset) -> None:
        dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = start

    factor = suv_bw_factor(pet(tmp_path, each=inject, TimezoneOffsetFromUTC=zone))
    expected = None if elapsed_s is None else 70000 / (350e6 * 2 ** (-elapsed_s / 6586.2))
    assert factor == (None if expected is None else pytest.approx(expected))
