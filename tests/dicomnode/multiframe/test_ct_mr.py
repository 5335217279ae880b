"""A frame of an enhanced CT or MR says in a single-frame image's words what kind it is and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import SeriesUnusable
from dicomnode.multiframe.ct_mr import image_type, scan_options, scanning_sequence, sequence_variant
from dicomnode.multiframe.enhanced import source_images
from dicomnode.multiframe.frame import Frame
from tests.builders_enhanced import write_enhanced
from tests.builders_enhanced_groups import Groups, item


def frame_of_kind(modality: str, frame_type: list[str], **more: str) -> Frame:
    macro = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence", "PT": "PETFrameTypeSequence"}[modality]
    return Frame(1, Dataset(), Dataset(), item(**{macro: [item(FrameType=frame_type, **more)]}))


@pytest.mark.parametrize(
    ("modality", "frame_type", "more", "expected"),
    [
        ("CT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], {}, ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("CT", ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"], {}, ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ("CT", ["DERIVED", "PRIMARY", "AXIAL", "MAXIMUM"], {}, ["DERIVED", "PRIMARY", "AXIAL", "", "MAXIMUM"]),
        ("CT", ["DERIVED", "PRIMARY", "VOLUME", "NONE"], {"VolumeBasedCalculationTechnique": "MAX_IP"},
         ["DERIVED", "PRIMARY", "AXIAL", "", "MIP"]),
        ("CT", ["DERIVED", "PRIMARY", "VOLUME", "NONE"], {"VolumeBasedCalculationTechnique": "MPR"},
         ["DERIVED", "PRIMARY", "AXIAL", "", "MPR"]),
        ("CT", ["DERIVED", "SECONDARY", "AXIAL", "", "MAR"], {}, ["DERIVED", "SECONDARY", "AXIAL", "", "MAR"]),
        ("PT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], {}, ["ORIGINAL", "PRIMARY"]),
        ("PT", ["DERIVED", "PRIMARY", "VOLUME", "SUBTRACTION"], {}, ["DERIVED", "PRIMARY", "", "SUBTRACTION"]),
        ("MR", ["ORIGINAL", "PRIMARY", "M", "NONE"], {}, ["ORIGINAL", "PRIMARY", "M"]),
        ("MR", ["ORIGINAL", "PRIMARY", "T1", "NONE"], {"ComplexImageComponent": "MAGNITUDE"},
         ["ORIGINAL", "PRIMARY", "M", "T1"]),
        ("MR", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], {"ComplexImageComponent": "PHASE"},
         ["ORIGINAL", "PRIMARY", "P"]),
        ("MR", ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], {"ComplexImageComponent": "MAGNITUDE"},
         ["DERIVED", "PRIMARY", "M", "DIFFUSION", "ADC"]),
        ("MR", ["ORIGINAL", "PRIMARY"], {}, ["ORIGINAL", "PRIMARY", "OTHER"]),
    ],
)  # fmt: skip
def test_the_kind_of_a_frame_is_said_as_an_image_type(
    modality: str, frame_type: list[str], more: dict[str, str], expected: list[str]
) -> None:
    assert image_type(frame_of_kind(modality, frame_type, **more), modality) == expected


@pytest.mark.parametrize(
    ("frame_type", "more"),
    [
        (["MIXED", "PRIMARY", "VOLUME", "NONE"], {}),
        (["ORIGINAL", "PRIMARY", "VOLUME", "MIXED"], {}),
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], {"ComplexImageComponent": "MIXED"}),
    ],
)
def test_a_frame_of_mixed_kind_is_refused(frame_type: list[str], more: dict[str, str]) -> None:
    with pytest.raises(SeriesUnusable) as refusal:
        image_type(frame_of_kind("MR", frame_type, **more), "MR")
    assert refusal.value.reason_code == "multi-frame-mixed"


def test_a_curved_reformat_is_refused() -> None:
    curved = frame_of_kind("CT", ["DERIVED", "PRIMARY", "VOLUME", "NONE"], VolumetricProperties="DISTORTED")
    with pytest.raises(SeriesUnusable) as refusal:
        image_type(curved, "CT")
    assert refusal.value.reason_code == "multi-frame-distorted"


def mr_frame(modifier: dict[str, Any] | None = None, **root: str) -> Frame:
    return Frame(1, item(**root), Dataset(), item(MRModifierSequence=[item(**(modifier or {}))]))


@pytest.mark.parametrize(
    ("root", "modifier", "expected"),
    [
        ({"EchoPulseSequence": "SPIN"}, {}, ["SE"]),
        ({"EchoPulseSequence": "GRADIENT"}, {}, ["GR"]),
        ({"EchoPulseSequence": "BOTH"}, {}, ["SE", "GR"]),
        ({"EchoPulseSequence": "SPIN", "EchoPlanarPulseSequence": "YES"}, {}, ["SE", "EP"]),
        ({"EchoPulseSequence": "SPIN"}, {"InversionRecovery": "YES"}, ["SE", "IR"]),
        ({}, {}, ["RM"]),
    ],
)
def test_how_an_mr_was_scanned_is_said_in_the_terms_of_a_single_frame_image(
    root: dict[str, str], modifier: dict[str, str], expected: list[str]
) -> None:
    assert scanning_sequence(mr_frame(modifier, **root)) == expected


def test_variants_and_options_of_an_mr_are_those_that_the_object_speaks_of() -> None:
    assert (sequence_variant(mr_frame()), scan_options(mr_frame())) == (["NONE"], [])
    frame = mr_frame(
        {
            "Spoiling": "RF",
            "FlowCompensation": "ACCELERATION",
            "PartialFourier": "YES",
            "PartialFourierDirection": "PHASE",
        },
        SegmentedKSpaceTraversal="PARTIAL",
        SteadyStatePulseSequence="LONGITUDINAL",
        SpectrallySelectedSuppression="FAT",
        RespiratoryMotionCompensationTechnique="GATING",
    )
    assert sequence_variant(frame) == ["SK", "SS", "SP"]
    assert scan_options(frame) == ["RG", "FC", "PFP", "FS"]


def test_exposure_and_acquisition_of_a_ct_frame_are_the_whole_numbers_of_a_single_frame_image(tmp_path: Path) -> None:
    image = source_images(write_enhanced(tmp_path / "x.dcm", "CT"))[0]
    found = [image.number(keyword) for keyword in ("ExposureTime", "XRayTubeCurrent", "Exposure", "AcquisitionNumber")]
    assert found == [500, 200, 100, 1]
    assert (image.text("KVP"), image.text("ConvolutionKernel"), image.text("RescaleType")) == ("120", "B30f", "HU")
    assert image.number("CTDIvol") == 5.0


def test_the_timing_of_an_mr_frame_is_that_of_a_single_frame_image(tmp_path: Path) -> None:
    def inverted(k: int, groups: Groups) -> None:
        groups["MRModifierSequence"].InversionRecovery = "YES"
        groups["MRModifierSequence"].InversionTimes = 150.0
        groups["FrameContentSequence"].TemporalPositionIndex = 2

    image = source_images(write_enhanced(tmp_path / "x.dcm", "MR", each=inverted))[0]
    keywords = ("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "EchoTrainLength", "ImagingFrequency")
    assert [image.number(keyword) for keyword in keywords] == [500, 12.5, 150, 90, 1, 63.9]
    assert image.texts("ScanningSequence") == ("SE", "IR")
    assert image.text("TemporalPositionIdentifier") == "2"
    assert "RescaleSlope" not in image.dataset


def test_a_rescale_that_changes_values_stays_with_an_mr_frame(tmp_path: Path) -> None:
    def scaled(k: int, groups: Groups) -> None:
        groups["PixelValueTransformationSequence"].RescaleSlope = "2.5"

    image = source_images(write_enhanced(tmp_path / "x.dcm", "MR", each=scaled))[0]
    assert (image.number("RescaleSlope"), image.number("RescaleIntercept")) == (2.5, 0.0)


def test_how_the_patient_lay_is_said_in_one_word(tmp_path: Path) -> None:
    plain = source_images(write_enhanced(tmp_path / "a.dcm", "CT"))[0]
    pet = write_enhanced(tmp_path / "b.dcm", "PT")
    codes = source_images(pet)[0].dataset
    coded = source_images(
        write_enhanced(
            tmp_path / "c.dcm",
            "CT",
            PatientPosition=None,
            PatientOrientationCodeSequence=codes.PatientOrientationCodeSequence,
            PatientEquipmentRelationshipCodeSequence=codes.PatientGantryRelationshipCodeSequence,
        )
    )[0]
    assert plain.text("PatientPosition") == coded.text("PatientPosition") == "HFS"
    assert "PatientOrientationCodeSequence" not in coded.dataset


def test_a_frame_has_the_time_of_its_own_acquisition(tmp_path: Path) -> None:
    def timed(k: int, groups: Groups) -> None:
        groups["FrameContentSequence"].FrameAcquisitionDateTime = f"2024022923595{k}.25"

    images = source_images(write_enhanced(tmp_path / "x.dcm", "CT", each=timed))
    assert [image.text("AcquisitionTime") for image in images] == [f"23595{k}.25" for k in range(4)]
    assert {image.text("AcquisitionDate") for image in images} == {"20240229"}
