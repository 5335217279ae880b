"""What a derived image keeps of its source's header, what it drops, and what of it is always there."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.derive import derive_series
from dicomnode.gate.image_rules import image_findings
from dicomnode.load import Allowed, load_stack, load_volume, planned_stacks
from inference.pipeline import Outcome
from tests.builders_dicom import (
    card_for,
    derived_datasets,
    job_facts,
    write_ct_series,
    write_mr_series,
    write_pet_series,
)
from tests.validators import errors

CT = card_for("CT")


def errors_of(dataset: Dataset, folder: Path) -> list[str]:
    path = folder / "derived.dcm"
    dataset.save_as(path)
    return errors(path)


def test_c2_what_differs_between_the_images_of_a_study_is_each_images_own(tmp_path: Path) -> None:
    def differ(k: int, dataset: Dataset) -> None:
        dataset.PatientAge, dataset.AdditionalPatientHistory = f"05{k}Y", f"history {k}"

    made = derived_datasets(write_ct_series(tmp_path, slices=3, each=differ), CT)
    assert [(one.PatientAge, one.AdditionalPatientHistory) for one in made] == [
        ("050Y", "history 0"),
        ("051Y", "history 1"),
        ("052Y", "history 2"),
    ]


def test_c2_empty_type_two_attributes_stay_empty_and_clinical_trial_and_deidentification_stay(tmp_path: Path) -> None:
    trial = {
        "ClinicalTrialSponsorName": "Sponsor",
        "ClinicalTrialProtocolID": "P1",
        "ClinicalTrialProtocolName": "",
        "ClinicalTrialSiteID": "",
        "ClinicalTrialSiteName": "",
        "ClinicalTrialSubjectID": "S7",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "by hand",
        "StudyID": "",
        "PatientSex": "",
    }
    (one,) = derived_datasets(write_ct_series(tmp_path, slices=1, **trial), CT)
    for keyword, value in trial.items():
        assert (one[keyword].value or "") == value, keyword
    assert errors_of(one, tmp_path) == []


@pytest.mark.parametrize("write", [write_ct_series, write_mr_series])
def test_c5_c29_a_tilt_and_the_distance_between_slices_are_kept(tmp_path: Path, write: object) -> None:
    is_ct = write is write_ct_series
    more = {"GantryDetectorTilt": "-12.5"} if is_ct else {"SpacingBetweenSlices": "3"}
    assert callable(write)
    (one, *_) = derived_datasets(write(tmp_path, **more), card_for("CT" if is_ct else "MR"))
    assert {keyword: str(one[keyword].value) for keyword in more} == more


def test_c25_what_was_true_of_the_old_pixels_is_gone(tmp_path: Path) -> None:
    icon, mapping = Dataset(), Dataset()
    icon.Rows, mapping.LUTLabel = 4, "old"
    files = write_ct_series(
        tmp_path,
        slices=1,
        PixelPaddingValue=63536,
        PixelPaddingRangeLimit=64036,
        IconImageSequence=[icon],
        RealWorldValueMappingSequence=[mapping],
        each=lambda k, dataset: dataset.add_new(0x60003000, "OW", b"\0" * 2),
    )
    (one,) = derived_datasets(files, CT)
    gone = "PixelPaddingValue PixelPaddingRangeLimit IconImageSequence RealWorldValueMappingSequence"
    assert not [keyword for keyword in gone.split() if keyword in one]
    assert not [element for element in one if element.tag.group == 0x6000]


def test_t4_padding_is_named_only_where_no_voxel_inside_holds_its_value(tmp_path: Path) -> None:
    values = np.full((2, 32, 32), 40)
    values[:, :6], values[:, -6:] = -2000, -2000
    source, images = load_volume(write_ct_series(tmp_path, values=values))
    made = source.values.copy()
    made[1, 16, 16] = -1999.7  # is rounded to the padding's value, and is no padding
    outcome = Outcome(source.with_values(made))
    images = tuple(replace(image, lowest=-2000.0) for image in images)  # as if the source had such voxels inside
    first, second = (dcmread(BytesIO(one.content)) for one in derive_series(outcome, CT, images, job=job_facts()))
    assert first.PixelPaddingValue == -2000 and "PixelPaddingValue" not in second
    assert errors_of(first, tmp_path) == [] and errors_of(second, tmp_path) == []


def test_t4_padding_of_several_values_is_restored_and_not_named(tmp_path: Path) -> None:
    values = np.full((1, 32, 32), 40)
    values[:, :6], values[:, -6:] = -2000, -2001
    files = write_ct_series(
        tmp_path, values=values, intercept=-4096.0, PixelPaddingValue=2096, PixelPaddingRangeLimit=2095
    )
    (one,) = derived_datasets(files, CT)
    assert (one.pixel_array == values[0]).all() and "PixelPaddingValue" not in one


def test_t4_padding_below_what_16_bits_of_hu_hold_is_cut_and_the_job_does_not_fail(tmp_path: Path) -> None:
    values = np.full((2, 32, 32), 40)
    values[:, :6], values[:, -6:] = -32768 - 1024, -32768 - 1024
    for one in derived_datasets(write_ct_series(tmp_path, values=values), CT):
        assert one.pixel_array[0, 0] == -32768 and (one.pixel_array[6:-6] == 40).all()
        assert one.PixelPaddingValue == -32768
        assert errors_of(one, tmp_path) == []


def test_p4_a_dynamic_pet_that_does_not_count_its_times_counts_those_it_has(tmp_path: Path) -> None:
    files = write_pet_series(tmp_path, SeriesType=["DYNAMIC", "IMAGE"])
    source, images = load_volume(files)
    made = [
        dcmread(BytesIO(one.content)) for one in derive_series(Outcome(source), card_for("PT"), images, job=job_facts())
    ]
    assert {one.NumberOfTimeSlices for one in made} == {1}
    assert errors_of(made[0], tmp_path) == []


UNEVEN: dict[str, list[tuple[float, float, float]]] = {
    "a gap": [(-32, -32, 100), (-32, -32, 103), (-32, -32, 112), (-32, -32, 115)],
    "a tilt": [(-32, -32 + 0.8 * k, 100 + 3 * k) for k in range(4)],
}


@pytest.mark.parametrize("kind", UNEVEN)
def test_c5_slices_of_an_uneven_stack_each_stay_where_they_lie(tmp_path: Path, kind: str) -> None:
    def place(k: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [f"{value:.6g}" for value in UNEVEN[kind][k]]
        dataset.GantryDetectorTilt = "15" if kind == "a tilt" else "0"

    files = write_ct_series(tmp_path, each=place)
    (plan,) = planned_stacks(files, allowed=Allowed(slicewise=True))
    source, images = load_stack(plan)
    assert not source.geometry.is_even
    made = [dcmread(BytesIO(one.content)) for one in derive_series(Outcome(source), CT, images, job=job_facts())]
    assert [tuple(one.ImagePositionPatient) for one in made] == UNEVEN[kind]
    assert {one.GantryDetectorTilt for one in made} == {15 if kind == "a tilt" else 0}
    assert all(errors_of(one, tmp_path) == [] for one in made)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        ("2", None, (2.0, 0.0)),
        (None, "-3", (1.0, -3.0)),
        ("2", "", (2.0, 0.0)),
        ("1", None, None),
        (None, "0", None),
        ("", "", None),
        ("1", "0", (1.0, 0.0)),
        (None, None, None),
    ],
)
def test_m2_an_mr_says_both_parts_of_its_scale_or_none(
    tmp_path: Path, slope: str | None, intercept: str | None, expected: tuple[float, float] | None
) -> None:
    files = write_mr_series(tmp_path, RescaleSlope=slope, RescaleIntercept=intercept)
    source, _ = load_volume(files)
    for k, one in enumerate(derived_datasets(files, card_for("MR"))):
        found = one.get("RescaleSlope"), one.get("RescaleIntercept")
        assert found == (expected or (None, None))
        values = one.pixel_array * float(found[0] or 1) + float(found[1] or 0)
        assert np.array_equal(values, source.values[k])


def test_c23_one_synthetic_image_makes_the_whole_series_synthetic(tmp_path: Path) -> None:
    def one_is(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.SyntheticData = "YES"

    assert [one.SyntheticData for one in derived_datasets(write_ct_series(tmp_path, each=one_is), CT)] == ["YES"] * 4


def test_c22_c24_research_wins_over_product_in_every_image(tmp_path: Path) -> None:
    def one_is(k: int, dataset: Dataset) -> None:
        dataset.ContentQualification = "RESEARCH" if k == 1 else "PRODUCT"

    files = write_ct_series(tmp_path, each=one_is)
    for one in derived_datasets(files, CT, content_qualification="PRODUCT"):
        assert one.ContentQualification == "RESEARCH" and "research only" in one.ImageComments
    plain = write_ct_series(tmp_path / "plain", ContentQualification="PRODUCT")
    assert derived_datasets(plain, CT, content_qualification="PRODUCT")[0].ContentQualification == "PRODUCT"


@pytest.mark.parametrize("study", ["2.25.77", "2.25.78"], ids=["an earlier study", "the same study"])
def test_c15_what_was_read_beside_the_source_is_named_as_a_series(tmp_path: Path, study: str) -> None:
    """Its slices lie elsewhere: none is a source image of one of ours, so that C13 and C14 name the source's only."""
    files = write_pet_series(tmp_path / "pet", slices=2, study_instance_uid="2.25.78")
    beside = ("ct", study, "2.25.79", "a" * 64)
    made = derived_datasets(files, card_for("PT"), inputs=(beside, ("again", *beside[1:])))
    for one in made:
        source, read = one.RelatedSeriesSequence
        assert source.SeriesInstanceUID == dcmread(files[0]).SeriesInstanceUID
        assert (read.StudyInstanceUID, read.SeriesInstanceUID) == (study, "2.25.79")
        assert read.PurposeOfReferenceCodeSequence[0].CodeValue == "121323"
        assert [item.SeriesInstanceUID for item in one.ReferencedSeriesSequence] == [source.SeriesInstanceUID]
        assert not [finding.rule for finding in image_findings(one) if not finding.holds]
        assert errors_of(one, tmp_path) == []
