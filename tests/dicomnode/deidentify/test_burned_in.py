"""Whether pixels may show names follows from the header, and silence of doubtful kinds is doubt."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from dicomnode.deidentify.burned_in import PixelFinding, PixelPolicy, Risk, pixel_finding, refused


def risk(sop_class_uid: str, **more: object) -> Risk:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return pixel_finding(dataset, has_pixels=True).risk


@pytest.mark.parametrize(
    ("sop_class_uid", "more", "expected"),
    [
        (CTImageStorage, {}, Risk.NONE),
        (CTImageStorage, {"BurnedInAnnotation": "YES"}, Risk.SAID),
        (CTImageStorage, {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, Risk.UNKNOWN),
        (CTImageStorage, {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CSA REPORT"]}, Risk.UNKNOWN),
        (CTImageStorage, {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, Risk.UNKNOWN),
        (CTImageStorage, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]}, Risk.NONE),
        (CTImageStorage, {"ConversionType": "WSD"}, Risk.UNKNOWN),
        (SecondaryCaptureImageStorage, {}, Risk.UNKNOWN),
        (SecondaryCaptureImageStorage, {"BurnedInAnnotation": "NO"}, Risk.NONE),
        (UltrasoundImageStorage, {}, Risk.UNKNOWN),
        (ComputedRadiographyImageStorage, {}, Risk.UNKNOWN),
        ("1.2.3.4", {}, Risk.UNKNOWN),
    ],
)
def test_the_risk_of_a_kind_of_image(sop_class_uid: str, more: dict[str, object], expected: Risk) -> None:
    assert risk(sop_class_uid, **more) is expected


def test_an_overlay_in_the_bits_of_the_pixels_is_doubt_and_one_beside_them_is_not() -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.BurnedInAnnotation = CTImageStorage, "NO"
    dataset.add_new(0x60000102, "US", 12)
    assert pixel_finding(dataset, has_pixels=True).risk is Risk.UNKNOWN
    dataset.add_new(0x60003000, "OW", b"\0\0")
    assert pixel_finding(dataset, has_pixels=True).risk is Risk.NONE


def test_what_has_no_pixels_shows_nothing() -> None:
    assert pixel_finding(Dataset(), has_pixels=False).risk is Risk.NONE


def test_a_policy_lets_through_what_it_says() -> None:
    through = {policy: [one for one in Risk if not refused(PixelFinding(one, ""), policy)] for policy in PixelPolicy}
    assert through[PixelPolicy.REFUSE] == [Risk.NONE]
    assert through[PixelPolicy.UNKNOWN] == [Risk.NONE, Risk.UNKNOWN]
    assert through[PixelPolicy.ALL] == list(Risk)
