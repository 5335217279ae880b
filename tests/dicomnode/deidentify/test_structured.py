"""Reports without words and names keep their codes, numbers and references."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentify.structured import dummy_content, without_words
from tests.builders_dicom import code


def content(value_type: str, *below: Dataset) -> Dataset:
    item = Dataset()
    item.ValueType = value_type
    if below:
        item.ContentSequence = list(below)
    return item


def types(items: Sequence) -> list[str]:
    return [item.ValueType for item in items]


def test_text_and_names_go_at_any_depth_with_what_is_below_them() -> None:
    items = Sequence(
        [content("CONTAINER", content("TEXT"), content("NUM", content("PNAME"))), content("TEXT", content("NUM"))]
    )
    assert without_words(items)
    assert types(items) == ["CONTAINER"]
    assert types(items[0].ContentSequence) == ["NUM"]
    assert "ContentSequence" not in items[0].ContentSequence[0]


def test_what_the_header_may_not_say_of_the_subject_does_not_stay_in_the_content() -> None:
    named = ("Subject Age", "Subject Birth Date", "Subject Sex", "Age", "Patient Equivalent Thickness", "Mean CTDIvol")
    items = Sequence([content("NUM") for _ in named])
    for item, name in zip(items, named, strict=True):
        item.ConceptNameCodeSequence = [code("1", "99TEST", name)]
    assert without_words(items)
    left = [item.ConceptNameCodeSequence[0].CodeMeaning for item in items]
    assert left == ["Patient Equivalent Thickness", "Mean CTDIvol"]


def test_nothing_but_words_cannot_be_kept() -> None:
    assert not without_words(Sequence([content("TEXT"), content("PNAME")]))


def test_items_that_are_pointed_at_by_position_are_left_alone() -> None:
    pointing = content("CONTAINER")
    pointing.ReferencedContentItemIdentifier = [1, 2]
    items = Sequence([content("TEXT"), content("CONTAINER", pointing)])
    assert not without_words(items)
    assert len(items) == 2


def test_the_dummy_is_a_content_item() -> None:
    assert (dummy_content().ValueType, dummy_content().TextValue) == ("TEXT", "REMOVED")
