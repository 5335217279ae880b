"""What the dictionary says decides: list or scalar, text or number, and what tells of the patient."""

from __future__ import annotations

import pytest

from dicomnode.attributes import Kind, attribute_at, attribute_named


@pytest.mark.parametrize(
    ("keyword", "kind", "is_list", "most_values"),
    [
        ("Modality", Kind.TEXT, False, 1),
        ("ImageType", Kind.TEXT, True, None),
        ("KVP", Kind.NUMBER, False, 1),
        ("PixelSpacing", Kind.NUMBER, True, 2),
        ("SeriesNumber", Kind.INTEGER, False, 1),
        ("SmallestImagePixelValue", Kind.INTEGER, False, 1),
        ("StudyDate", Kind.TEXT, False, 1),
    ],
)
def test_the_dictionary_decides_kind_and_number(
    keyword: str, kind: Kind, is_list: bool, most_values: int | None
) -> None:
    attribute = attribute_named(keyword)
    assert attribute is not None
    assert (attribute.kind, attribute.is_list, attribute.most_values) == (kind, is_list, most_values)


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "OperatorsName", "AccessionNumber", "ImageComments"])
def test_what_can_tell_of_the_patient_is_known_to(keyword: str) -> None:
    attribute = attribute_named(keyword)
    assert attribute is not None
    assert attribute.identifying


def test_a_series_description_may_be_shown() -> None:
    attribute = attribute_named("SeriesDescription")
    assert attribute is not None
    assert not attribute.identifying


@pytest.mark.parametrize("keyword", ["PixelData", "ReferencedImageSequence", "TransferSyntaxUID", "NoSuchKeyword", ""])
def test_what_no_rule_can_ask_for_is_none(keyword: str) -> None:
    assert attribute_named(keyword) is None


@pytest.mark.parametrize("tag", [0x00091001, 0x00020010, 0xFFFEE000, 0x12345679, 0x60000010])
def test_private_unknown_and_repeating_tags_are_none(tag: int) -> None:
    assert attribute_at(tag) is None
