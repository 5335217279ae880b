"""Images of several kinds are told apart by what their headers say, and some things may never vary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import SeriesUnusable
from dicomnode.mixed import finer_kinds, kinds_apart, one_kind, refuse_contradictions, words_apart
from dicomnode.multiframe.enhanced import source_images
from dicomnode.source_image import SourceImage
from tests.builders_dicom import write_ct_series, write_mr_series, write_pet_series
from tests.builders_stacks import by_slice

SMALL = {"rows": 8, "columns": 8}


def images_of(files: list[Path]) -> list[SourceImage]:
    return [image for path in files for image in source_images(path)]


def test_images_of_one_kind_are_one_kind(tmp_path: Path) -> None:
    images = images_of(write_ct_series(tmp_path, slices=3, **SMALL))
    refuse_contradictions(images)
    assert one_kind(images).images == tuple(images)
    (kind,) = kinds_apart(images)
    assert kind.images == tuple(images) and words_apart([kind]) == [""]


@pytest.mark.parametrize(
    ("write", "keyword", "values", "reason_code", "words"),
    [
        (write_mr_series, "EchoTime", ["12", "80"], "mixed-echo", ["EchoTime 12", "EchoTime 80"]),
        (write_mr_series, "EchoNumbers", ["1", "2"], "mixed-echo", ["EchoNumbers 1", "EchoNumbers 2"]),
        (write_mr_series, "Rows", [8, 4], "mixed-size", ["Rows 8", "Rows 4"]),
        (write_ct_series, "KVP", ["80", "140"], "mixed-kvp", ["KVP 80", "KVP 140"]),
        (
            write_ct_series,
            "ConvolutionKernel",
            [["Br38f", "3"], "B70f"],
            "mixed-kernel",
            ["ConvolutionKernel Br38f\\3", "ConvolutionKernel B70f"],
        ),
        (
            write_ct_series,
            "FrameOfReferenceUID",
            ["1.2.3", "1.2.4"],
            "mixed-frame-of-reference",
            ["FrameOfReferenceUID 1", "FrameOfReferenceUID 2"],
        ),
        (
            write_ct_series,
            "PixelSpacing",
            [["1", "1"], ["1", "1.1"]],
            "mixed-spacing",
            ["PixelSpacing 1\\1", "PixelSpacing 1\\1.1"],
        ),
        (
            write_ct_series,
            "ImageType",
            [["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL", "MPR"]],
            "mixed-image-type",
            ["ImageType ORIGINAL\\PRIMARY\\AXIAL", "ImageType DERIVED\\SECONDARY\\AXIAL\\MPR"],
        ),
        (
            write_mr_series,
            "TemporalPositionIdentifier",
            ["1", "2"],
            "mixed-time",
            ["TemporalPositionIdentifier 1", "TemporalPositionIdentifier 2"],
        ),
        (
            write_mr_series,
            "PhotometricInterpretation",
            ["MONOCHROME2", "MONOCHROME1"],
            "mixed-photometric",
            ["PhotometricInterpretation MONOCHROME2", "PhotometricInterpretation MONOCHROME1"],
        ),
        (
            write_pet_series,
            "AttenuationCorrectionMethod",
            ["measured", "CTAC"],
            "mixed-corrections",
            ["AttenuationCorrectionMethod measured", "AttenuationCorrectionMethod CTAC"],
        ),
    ],
)
def test_i4_what_tells_two_stacks_apart_refuses_them_as_one_and_names_them_as_two(
    tmp_path: Path,
    write: Callable[..., list[Path]],
    keyword: str,
    values: list[Any],
    reason_code: str,
    words: list[str],
) -> None:
    images = images_of(write(tmp_path, slices=4, each=by_slice(of=2, **{keyword: values}), **SMALL))
    refuse_contradictions(images)
    with pytest.raises(SeriesUnusable, match=keyword) as refusal:
        one_kind(images)
    assert refusal.value.reason_code == reason_code
    kinds = kinds_apart(images)
    assert [kind.images for kind in kinds] == [tuple(images[:2]), tuple(images[2:])]
    assert words_apart(kinds) == words


@pytest.mark.parametrize(
    ("write", "keyword", "values", "reason_code"),
    [
        (write_ct_series, "StudyInstanceUID", ["1.2", "1.3"], "mixed-study"),
        (write_ct_series, "SeriesInstanceUID", ["1.2", "1.3"], "mixed-series"),
        (write_ct_series, "RescaleType", ["HU", "US"], "mixed-units"),
        (write_ct_series, "PatientID", ["A", "B"], "mixed-patient"),
        (write_ct_series, "PatientPosition", ["HFS", "FFS"], "mixed-patient-position"),
        (write_pet_series, "Units", ["BQML", "GML"], "mixed-units"),
        (write_pet_series, "SUVType", ["BW", "LBM"], "mixed-units"),
        (write_pet_series, "PatientWeight", ["70", "90"], "mixed-weight"),
        (write_pet_series, "PatientSize", ["1.7", "1.9"], "mixed-weight"),
        (write_pet_series, "SeriesDate", ["20240229", "20240301"], "mixed-series-time"),
    ],
)
def test_i4_what_contradicts_itself_is_never_split_away(
    tmp_path: Path, write: Callable[..., list[Path]], keyword: str, values: list[Any], reason_code: str
) -> None:
    images = images_of(write(tmp_path, slices=4, each=by_slice(of=2, **{keyword: values}), **SMALL))
    with pytest.raises(SeriesUnusable, match=keyword) as refusal:
        refuse_contradictions(images)
    assert refusal.value.reason_code == reason_code


def test_what_the_image_type_says_behind_its_third_value_may_vary_within_a_stack(tmp_path: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"], ["ORIGINAL", "PRIMARY", "AXIAL"]]
    images = images_of(write_ct_series(tmp_path, slices=2, each=by_slice(of=1, ImageType=kinds), **SMALL))
    assert one_kind(images).images == tuple(images) and len(kinds_apart(images)) == 1


def test_one_number_written_in_two_ways_is_one_kind(tmp_path: Path) -> None:
    images = images_of(write_mr_series(tmp_path, slices=2, each=by_slice(of=1, EchoTime=["12", "12.0"]), **SMALL))
    assert one_kind(images).images == tuple(images)


def test_kinds_that_differ_in_two_ways_are_named_by_both_and_groups_are_counted_over_the_whole_series(
    tmp_path: Path,
) -> None:
    put = by_slice(of=1, EchoTime=["12", "80", "12", "80"], FrameOfReferenceUID=["1.2", "1.2", "1.3", "1.3"])
    kinds = kinds_apart(images_of(write_mr_series(tmp_path, slices=4, each=put, **SMALL)))
    assert words_apart(kinds) == [
        "FrameOfReferenceUID 1, EchoTime 12",
        "FrameOfReferenceUID 1, EchoTime 80",
        "FrameOfReferenceUID 2, EchoTime 12",
        "FrameOfReferenceUID 2, EchoTime 80",
    ]


def test_words_are_ascii_whatever_the_header_holds(tmp_path: Path) -> None:
    put = by_slice(of=1, ConvolutionKernel=["weich ä", "hart"])
    kinds = kinds_apart(images_of(write_ct_series(tmp_path, slices=2, each=put, **SMALL)))
    assert words_apart(kinds) == ["ConvolutionKernel weich ?", "ConvolutionKernel hart"]


def test_a_kind_is_told_apart_finer_only_when_that_leaves_clean_parts(tmp_path: Path) -> None:
    def put(k: int, dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"] if k < 2 else ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.FlipAngle = str(10 + k)

    (kind,) = kinds_apart(images_of(write_mr_series(tmp_path, slices=4, each=put, **SMALL)))
    parts = finer_kinds(kind, lambda images: len(images) == 2)
    assert words_apart(parts) == ["ImageType ORIGINAL\\PRIMARY\\M\\ND\\NORM", "ImageType ORIGINAL\\PRIMARY\\M\\ND"]
    assert [part.told["FlipAngle"] for part in finer_kinds(kind, lambda images: len(images) == 1)] == [
        "10",
        "11",
        "12",
        "13",
    ]
    assert finer_kinds(kind, lambda images: False) == [kind]


def test_a_kind_that_is_clean_already_is_not_told_apart(tmp_path: Path) -> None:
    put = by_slice(of=1, AcquisitionNumber=["1", "2", "3"])
    (kind,) = kinds_apart(images_of(write_ct_series(tmp_path, slices=3, each=put, **SMALL)))
    assert finer_kinds(kind, lambda images: True) == [kind]


@pytest.mark.parametrize(
    ("keyword", "values"),
    [("PatientWeight", ["70", "70.0"]), ("PatientSize", ["1.8", "1.80"]), ("SeriesTime", ["102000", "102000.000"])],
)
def test_one_weight_or_time_written_in_two_ways_is_no_contradiction(
    tmp_path: Path, keyword: str, values: list[str]
) -> None:
    refuse_contradictions(images_of(write_pet_series(tmp_path, slices=2, each=by_slice(of=1, **{keyword: values}))))


@pytest.mark.parametrize(
    ("keyword", "values", "refused"),
    [
        ("RadionuclideTotalDose", ["3.5e8", "350000000"], False),
        ("RadionuclideTotalDose", ["3.5e8", "350000001"], True),
        ("RadiopharmaceuticalStartTime", ["092000.00", "092000"], False),
        ("RadiopharmaceuticalStartTime", ["092000.01", "092000"], True),
    ],
)
def test_one_dose_written_in_two_ways_is_no_contradiction(
    tmp_path: Path, keyword: str, values: list[str], refused: bool
) -> None:
    def put(k: int, dataset: Dataset) -> None:
        setattr(dataset.RadiopharmaceuticalInformationSequence[0], keyword, values[k])

    images = images_of(write_pet_series(tmp_path, slices=2, each=put))
    found = ""
    try:
        refuse_contradictions(images)
    except SeriesUnusable as fault:
        found = fault.reason_code
    assert found == ("mixed-dose" if refused else "")


@pytest.mark.parametrize(("step", "kinds"), [(6e-5, 1), (2e-4, 1), (1e-3, 4)])
def test_an_orientation_that_drifts_within_the_tilt_a_stack_may_have_is_one_kind(
    tmp_path: Path, step: float, kinds: int
) -> None:
    turned = [["1", f"{step * k:.6f}", "0", "0", "1", "0"] for k in range(4)]
    images = images_of(write_ct_series(tmp_path, each=by_slice(of=1, ImageOrientationPatient=turned), **SMALL))
    assert len(kinds_apart(images)) == kinds
