"""What the table does not name: numbers stay, words only where a device writes them."""

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicomnode.deidentify.profile import Action, Option, row_of
from dicomnode.deidentify.unlisted import SAFE_WORDS, unlisted_action


def action(keyword: str, *options: Option) -> Action:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return unlisted_action(tag, dictionary_VR(tag), set(options))


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("Rows", Action.KEEP),
        ("ConvolutionKernel", Action.KEEP),
        ("Manufacturer", Action.KEEP),
        ("TrackingID", Action.DUMMY),
        ("SegmentDescription", Action.DUMMY),
        ("SecondaryReviewerName", Action.EMPTY),
        ("ExpiryDate", Action.EMPTY),
        ("SOPClassUID", Action.UID),
        ("CodingSchemeURL", Action.REMOVE),
        ("HPGLDocument", Action.REMOVE),
    ],
)
def test_what_stays_and_what_goes(keyword: str, expected: Action) -> None:
    assert action(keyword) is expected


def test_an_element_of_no_dictionary_and_a_group_length_go() -> None:
    assert unlisted_action(0x0018FFF2, "DS", set()) is Action.REMOVE
    assert unlisted_action(0x00080000, "UL", set()) is Action.REMOVE
    assert unlisted_action(0x00020016, "AE", set()) is Action.REMOVE
    assert unlisted_action(0x00041500, "CS", set()) is Action.REMOVE


def test_options_reach_what_the_table_does_not_name() -> None:
    assert action("ExpiryDate", Option.MODIFIED_DATES) is Action.CLEAN
    assert action("ExpiryDate", Option.FULL_DATES) is Action.KEEP
    assert action("SegmentDescription", Option.DESCRIPTORS) is Action.CLEAN
    assert action("ReferencedFiducialUID", Option.UIDS) is Action.KEEP


def test_every_attribute_judged_safe_exists_and_the_table_does_not_name_it() -> None:
    for keyword in SAFE_WORDS:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        assert row_of(tag) is None, keyword
