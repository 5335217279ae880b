"""A frame knows what its functional groups say of it, and its times in the instance's time zone."""

from datetime import datetime

import pytest
from pydicom.dataset import Dataset

from dicomnode.multiframe.frame import Frame, moment
from tests.builders_enhanced_groups import item


def frame(*, own: Dataset | None = None, shared: Dataset | None = None, **root: str) -> Frame:
    return Frame(1, item(**root), shared or Dataset(), own or Dataset())


def test_what_is_said_for_the_frame_alone_comes_before_what_is_said_for_all() -> None:
    both = frame(
        own=item(MREchoSequence=[item(EffectiveEchoTime=30.0)]),
        shared=item(MREchoSequence=[item(EffectiveEchoTime=5.0)]),
    )
    assert both.number_of("MREchoSequence", "EffectiveEchoTime") == 30.0


def test_items_that_disagree_or_say_nothing_have_no_value() -> None:
    sources = [item(KVP="80"), item(KVP="140")]
    assert frame(own=item(CTXRayDetailsSequence=sources)).value("CTXRayDetailsSequence", "KVP") is None
    assert frame(own=item(CTXRayDetailsSequence=[item(KVP="80"), item()])).text("CTXRayDetailsSequence", "KVP") == ""
    assert frame(own=item(CTXRayDetailsSequence=[])).value("CTXRayDetailsSequence", "KVP") is None
    assert frame().number_of("CTXRayDetailsSequence", "KVP") is None


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("20240229102010", "", "20240229102010"),
        ("20240229102010.5", "+0100", "20240229102010.5"),
        ("20240229102010.5+0100", "+0100", "20240229102010.5"),
        ("20240229102010+0100", "", "20240229102010"),
        ("20240229233010+0000", "+0100", "20240301003010.000000"),
        ("20240301003010-0500", "+0530", "20240301110010.000000"),
        ("202402291020", "", "202402291020"),
        ("", "", ""),
        ("yesterday", "", ""),
    ],
)
def test_a_time_is_given_in_the_zone_of_the_instance(text: str, zone: str, expected: str) -> None:
    assert frame(TimezoneOffsetFromUTC=zone).local(text) == expected


def test_what_a_time_leaves_out_counts_as_zero() -> None:
    assert moment("202402291020") == datetime(2024, 2, 29, 10, 20)
    assert moment("20240229102010.25") == datetime(2024, 2, 29, 10, 20, 10, 250000)


def test_a_number_that_is_not_finite_is_none() -> None:
    content = Dataset()
    content.FrameAcquisitionDuration = float("inf")
    own = Dataset()
    own.FrameContentSequence = [content]
    assert Frame(1, Dataset(), Dataset(), own).number_of("FrameContentSequence", "FrameAcquisitionDuration") is None
