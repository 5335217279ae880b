"""Names, numbers and windows of derived images."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode import description
from dicomnode.errors import OutputFault
from dicomnode.source_image import SourceImage, read_source_image
from tests.builders_dicom import card_for, job_facts, with_bytes, write_ct_series


def image(**attributes: Any) -> SourceImage:
    header = Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return SourceImage(Path("none"), header, {})


IMAGE_TYPES = [
    ("CT", "", "MAR", "ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI", "DERIVED\\SECONDARY\\AXIAL\\\\MAR"),
    ("CT", "", "DENOISED", "DERIVED\\SECONDARY\\AXIAL\\\\MAR", "DERIVED\\SECONDARY\\AXIAL\\\\MAR\\DENOISED"),
    ("CT", "", "MAR", "DERIVED\\SECONDARY\\AXIAL\\\\MAR", "DERIVED\\SECONDARY\\AXIAL\\\\MAR"),
    ("PT", "", "DENOISED", "ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY\\\\DENOISED"),
    ("PT", "", "DENOISED", "DERIVED\\SECONDARY", "DERIVED\\PRIMARY\\\\DENOISED"),
    ("PT", "CT", "SYNTHETIC", "ORIGINAL\\PRIMARY", "DERIVED\\SECONDARY\\AXIAL\\\\SYNTHETIC"),
    ("MR", "", "MOCO", "ORIGINAL\\PRIMARY\\M\\ND", "DERIVED\\SECONDARY\\M\\MOCO"),
    ("MR", "", "MOCO", "DERIVED\\PRIMARY\\AXIAL\\NORM", "DERIVED\\SECONDARY\\AXIAL\\NORM\\MOCO"),
    ("MR", "", "MOCO", "ORIGINAL\\PRIMARY", "DERIVED\\SECONDARY\\OTHER\\MOCO"),
    ("MR", "CT", "SYNTHETIC", "DERIVED\\PRIMARY\\M\\ND\\X", "DERIVED\\SECONDARY\\AXIAL\\\\SYNTHETIC"),
]


@pytest.mark.parametrize(("modality", "to", "token", "before", "after"), IMAGE_TYPES)
def test_c11_image_type_says_derived_by_what_and_keeps_earlier_steps(
    modality: str, to: str, token: str, before: str, after: str
) -> None:
    source = image(Modality=modality, ImageType=before.split("\\"))
    assert description.image_type(source, card_for(modality, to=to, token=token)) == after.split("\\")


@pytest.mark.parametrize(
    ("number", "expected"),
    [("3", 307), ("", 9007), ("0", 7), ("-2", 9007), ("21474836", 2147483607), ("21474837", 9007)],
)
def test_c7_the_series_number_follows_from_the_sources(number: str, expected: int) -> None:
    assert description.series_number(image(SeriesNumber=number), card_for("CT"), job_facts()) == expected


def test_c7_the_stacks_of_one_series_have_numbers_of_their_own() -> None:
    source = image(SeriesNumber="5")
    numbers = [description.series_number(source, card_for("CT"), job_facts(stack=stack)) for stack in range(3)]
    assert numbers == [507, 507001, 507002]


SOURCE_NUMBERS = ["3", "", "0", "-2", "301", "9999", "10100", "90115", "12345678", "20000000", "21474836", "2147483647"]


@pytest.mark.parametrize("number", SOURCE_NUMBERS)
@pytest.mark.parametrize("ordinal", [1, 7, 99, 100])
def test_c7_no_two_series_of_a_job_share_a_number_whatever_the_stacks_frames_and_places(
    number: str, ordinal: int
) -> None:
    source, card = image(SeriesNumber=number), card_for("CT", ordinal=ordinal)
    stacks, frames, places = 40, 60, 9
    numbers = []
    for stack in range(stacks):
        job = job_facts(stack=stack)
        numbers.append(description.series_number(source, card, job))
        numbers += [
            description.series_number_beside(source, card, job, frame=frame, place=place)
            for frame in range(frames)
            for place in range(places)
        ]
    assert len(set(numbers)) == stacks * (1 + frames * places)
    assert min(numbers) > 0 and max(numbers) <= 2**31 - 1


@pytest.mark.parametrize("stack", [499, 500, 999])
@pytest.mark.parametrize("frame", [49, 50, 999])
def test_c7_the_last_numbers_there_are_still_differ(stack: int, frame: int) -> None:
    source, card = image(SeriesNumber="3"), card_for("CT", ordinal=99)
    numbers = [description.series_number(source, card, job_facts(stack=one)) for one in (0, stack - 1, stack)]
    numbers += [
        description.series_number_beside(source, card, job_facts(stack=one), frame=frame, place=place)
        for one in (0, stack - 1, stack)
        for place in (0, 8)
    ]
    assert len(set(numbers)) == len(numbers) and max(numbers) <= 2**31 - 1


def test_c7_where_no_number_is_left_nothing_is_made() -> None:
    source, card = image(SeriesNumber="3"), card_for("CT")
    with pytest.raises(OutputFault, match="C7: a job can number 1000 stacks"):
        description.series_number(source, card, job_facts(stack=1000))
    with pytest.raises(OutputFault, match="C7"):
        description.series_number_beside(source, card, job_facts(), frame=1000, place=0)


def test_c8_the_description_is_the_sources_cut_and_ours_in_64_characters(tmp_path: Path) -> None:
    for long, expected in (
        ("Hip 1.0", "Hip 1.0 identity (AI)"),
        ("x" * 64, "x" * 50 + " identity (AI)"),
        ("", "identity (AI)"),
    ):
        source = read_source_image(write_ct_series(tmp_path, slices=1, SeriesDescription=long)[0])
        assert description.series_description(source, card_for("CT"), job_facts()) == expected
    path = write_ct_series(tmp_path, slices=1, SeriesDescription="######")[0]
    with_bytes(path, b"######", b"H\xfcfte ")
    assert description.series_description(read_source_image(path), card_for("CT"), job_facts()) == "identity (AI)"


def test_c8_stacks_of_one_series_are_told_apart_and_the_ai_mark_is_never_cut_off(tmp_path: Path) -> None:
    source = read_source_image(write_ct_series(tmp_path, slices=1, SeriesDescription="Knee PD TSE")[0])
    facts = job_facts(apart="EchoTime 80")
    assert description.series_description(source, card_for("MR"), facts) == "Knee PD TSE identity, EchoTime 80 (AI)"
    long = description.series_description(source, card_for("MR", label="word " * 20), job_facts(apart="x" * 99))
    assert long.startswith("Knee PD TSE word") and long.endswith(" (AI)") and len(long) <= 64


def test_c24_the_comment_warns(tmp_path: Path) -> None:
    assert "not for diagnosis" in description.image_comments(card_for("CT"), job_facts())
    synthetic = description.image_comments(card_for("PT", to="CT"), job_facts(content_qualification="PRODUCT"))
    assert "Synthetic image" in synthetic and "compare with the source" in synthetic


def test_c6_numbers_are_the_sources_when_each_has_its_own() -> None:
    numbered = [image(InstanceNumber=number) for number in ("9", "7", "5")]
    assert description.instance_numbers(numbered) == [9, 7, 5]
    assert description.instance_numbers([*numbered, image(InstanceNumber="7")]) == [1, 2, 3, 4]
    assert description.instance_numbers([*numbered, image()]) == [1, 2, 3, 4]


def test_p4_image_indices_count_the_derived_slices_in_the_sources_direction() -> None:
    assert description.image_indices([[image(ImageIndex=index) for index in (3, 2, 1)]]) == [3, 2, 1]
    assert description.image_indices([[image(ImageIndex=index) for index in (161, 160, 159)]]) == [3, 2, 1]
    assert description.image_indices([[image(ImageIndex=index) for index in (40, 41, 42)]]) == [1, 2, 3]
    assert description.image_indices([[image(), image()]]) == [1, 2]


def test_p4_time_frames_are_counted_one_after_the_other_as_the_standard_counts_them() -> None:
    first, second = ([image(ImageIndex=index) for index in said] for said in ((9, 8, 7), (29, 28, 27)))
    assert description.image_indices([first, second]) == [3, 2, 1, 6, 5, 4]
    whole = [[image(ImageIndex=index) for index in said] for said in ((3, 2, 1), (6, 5, 4))]
    assert description.image_indices(whole) == [3, 2, 1, 6, 5, 4]


def test_p4_a_time_frame_keeps_its_place_in_its_dynamic_series() -> None:
    def frame(said: tuple[int, ...], kind: str, slices: int) -> list[SourceImage]:
        return [image(ImageIndex=index, SeriesType=[kind, "IMAGE"], NumberOfSlices=slices) for index in said]

    assert description.image_indices([frame((7, 8, 9), "DYNAMIC", 3)]) == [7, 8, 9]
    assert description.image_indices([frame((7, 8), "DYNAMIC", 3)]) == [1, 2], "not all slices of the time frame"
    assert description.image_indices([frame((7, 8, 9), "WHOLE BODY", 3)]) == [1, 2, 3]
    assert description.image_indices([frame((7, 7, 9), "GATED", 3)]) == [1, 2, 3], "not one index each"


def test_laterality_is_the_sources_or_open_or_left_out() -> None:
    assert description.laterality(image(BodyPartExamined="KNEE", Laterality="L")) == "L"
    assert description.laterality(image(BodyPartExamined="EXTREMITY")) == ""
    assert description.laterality(image(BodyPartExamined="CHEST", Laterality="")) is None
    assert description.laterality(image(BodyPartExamined="KNEE", ImageLaterality="R")) is None


def test_c27_windows_below_one_are_not_kept_and_new_ones_have_a_width() -> None:
    assert description.keeps_window(image(WindowCenter=["40", "-600"], WindowWidth=["400", "1500"]))
    for centers, widths in ((["40"], ["0"]), (["40"], ["400", "1"]), ([], [])):
        assert not description.keeps_window(image(WindowCenter=centers, WindowWidth=widths))
    assert description.new_window(7.0, "CT") == {"WindowCenter": "40", "WindowWidth": "400"}
    assert description.new_window(9000.0, "PT") == {"WindowCenter": "4500", "WindowWidth": "9000"}
    assert description.new_window(0.0, "PT")["WindowWidth"] == "1"
