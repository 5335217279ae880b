"""A frame of an enhanced instance is the single-frame image it stands for, or refused with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from highdicom.legacy import (
    LegacyConvertedEnhancedCTImage,
    LegacyConvertedEnhancedMRImage,
    LegacyConvertedEnhancedPETImage,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRColorImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from dicomnode.errors import SeriesUnusable
from dicomnode.input_gate import made_by_a_node
from dicomnode.iods import SOP_CLASS_OF
from dicomnode.load import load_volume
from dicomnode.multiframe.enhanced import source_images
from dicomnode.pixels import stored_pixels
from dicomnode.source_image import SourceImage, read_source_image
from dicomnode.uids import MODEL_NAME
from tests.builders import fixtures_folder
from tests.builders_dicom import card_for, code, derived_datasets, write_ct_series, write_mr_series, write_pet_series
from tests.builders_enhanced import CLASSES, enhanced_values, write_enhanced
from tests.builders_enhanced_groups import Groups, item
from tests.validators import errors

MODALITIES = ["CT", "MR", "PT"]
CONVERTERS: dict[str, Any] = {
    "CT": LegacyConvertedEnhancedCTImage,
    "MR": LegacyConvertedEnhancedMRImage,
    "PT": LegacyConvertedEnhancedPETImage,
}
WRITERS: dict[str, Callable[..., list[Path]]] = {"CT": write_ct_series, "MR": write_mr_series, "PT": write_pet_series}
OF_THE_CONVERSION = {
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ContentTime",
    "BodyPartExamined",
}  # fmt: skip
"""What highdicom gives the converted instance of its own, or says in other words."""


def legacy_converted(modality: str, files: Sequence[Path], path: Path) -> Path:
    """The files as one legacy converted enhanced instance, by highdicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = CONVERTERS[modality]([dcmread(file) for file in files], generate_uid(), 1, generate_uid(), 1)
        made.save_as(path)
    return path


def refusal_of(path: Path) -> SeriesUnusable:
    with pytest.raises(SeriesUnusable) as refusal:
        source_images(path)
    return refusal.value


def slice_of(image: SourceImage) -> int:
    return round((image.numbers("ImagePositionPatient")[2] - 100) / 3)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_instances_we_test_with_are_enhanced_objects_without_an_error(tmp_path: Path, modality: str) -> None:
    assert errors(write_enhanced(tmp_path / "x.dcm", modality)) == []


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_single_frame_file_gives_its_one_image(tmp_path: Path, modality: str) -> None:
    path = WRITERS[modality](tmp_path, slices=1)[0]
    (image,) = source_images(path)
    assert (image.frame, image.frame_pixels) == (0, None)
    assert image.image_class_uid == image.text("SOPClassUID") == SOP_CLASS_OF[modality]
    assert image.elements == read_source_image(path).elements


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_frame_stands_for_a_single_frame_image_and_keeps_the_class_and_uid_it_is_referenced_by(
    tmp_path: Path, modality: str
) -> None:
    images = source_images(write_enhanced(tmp_path / "x.dcm", modality))
    assert [image.frame for image in images] == [1, 2, 3, 4]
    assert [image.text("InstanceNumber") for image in images] == ["1", "2", "3", "4"]
    assert {image.text("SOPClassUID") for image in images} == {CLASSES[modality]}
    assert {image.image_class_uid for image in images} == {SOP_CLASS_OF[modality]}
    assert len({image.sop_instance_uid for image in images}) == 1
    for keyword in ("NumberOfFrames", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        assert not any(keyword in image.dataset for image in images)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(MODALITIES),
    st.permutations(range(4)),
    st.sets(st.sampled_from(["PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence",
                             "FrameVOILUTSequence", "CTXRayDetailsSequence", "MREchoSequence"])),
)  # fmt: skip
def test_neither_the_order_of_frames_nor_where_a_macro_stands_changes_an_image(
    tmp_path: Path, modality: str, order: list[int], per_frame: set[str]
) -> None:
    plain = source_images(write_enhanced(tmp_path / "plain.dcm", modality))
    images = source_images(write_enhanced(tmp_path / "x.dcm", modality, order=order, per_frame=per_frame))
    assert [slice_of(image) for image in images] == list(order)
    differing = {"InstanceNumber", "ImageIndex", *(name for name in image_keywords(plain[0]) if name.endswith("UID"))}
    for image in images:
        other = plain[slice_of(image)]
        assert image_keywords(image) == image_keywords(other)
        for keyword in image_keywords(image) - differing:
            assert image.texts(keyword) == other.texts(keyword), keyword
        assert (stored_pixels(image)[1] == stored_pixels(other)[1]).all()


def image_keywords(image: SourceImage) -> set[str]:
    return {element.keyword for element in image.dataset}


@pytest.mark.parametrize("modality", MODALITIES)
def test_geometry_and_values_are_those_that_highdicom_reads(tmp_path: Path, modality: str) -> None:
    path = write_enhanced(tmp_path / "x.dcm", modality, order=[2, 0, 3, 1])
    volume, images = load_volume([path])
    other = highdicom.imread(path).get_volume(apply_real_world_transform=modality == "PT")
    corners = np.array([[0, 0, 0, 1], [3, 31, 39, 1]]).T
    to_index = np.linalg.inv(other.affine) @ volume.geometry.affine @ corners
    first, last = np.rint(to_index[:3].T).astype(int)
    assert np.allclose(to_index[:3].T, [first, last], atol=1e-6)
    assert sorted([first[0], last[0]]) == [0, 3] and list(first[1:]) == [0, 0] and list(last[1:]) == [31, 39]
    turned = other.array[:: 1 if last[0] else -1]
    assert np.allclose(volume.values, turned, rtol=1e-6)
    assert np.abs(volume.values - enhanced_values(modality, 4, 32, 40)).max() <= (0.5 if modality == "PT" else 0)
    assert [image.frame for image in images] == [2, 4, 1, 3]


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_derived_from_frames_is_a_valid_single_frame_series_that_references_them(
    tmp_path: Path, modality: str
) -> None:
    path = write_enhanced(tmp_path / "x.dcm", modality, order=[2, 0, 3, 1])
    made = derived_datasets([path], card_for(modality))
    source = dcmread(path)
    assert [instance.SOPClassUID for instance in made] == [SOP_CLASS_OF[modality]] * 4
    assert len({instance.SOPInstanceUID for instance in made}) == 4
    for instance, frame in zip(made, [2, 4, 1, 3], strict=True):
        (reference,) = instance.SourceImageSequence
        assert reference.ReferencedSOPClassUID == source.SOPClassUID
        assert (reference.ReferencedSOPInstanceUID, reference.ReferencedFrameNumber) == (source.SOPInstanceUID, frame)
        assert "NumberOfFrames" not in instance
    made[0].save_as(tmp_path / "derived.dcm")
    assert errors(tmp_path / "derived.dcm") == []


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_converted_series_reads_as_the_single_frame_series_it_was(tmp_path: Path, modality: str) -> None:
    files = WRITERS[modality](tmp_path / "single", slices=4)
    images = source_images(legacy_converted(modality, files, tmp_path / "converted.dcm"))
    frames = {image.text("InstanceNumber"): image for image in images}
    assert len(frames) == 4
    for single in map(read_source_image, files):
        frame = frames[single.text("InstanceNumber")]
        for keyword in image_keywords(single) - OF_THE_CONVERSION:
            assert frame.texts(keyword) == single.texts(keyword), keyword
        assert (stored_pixels(frame)[1] == stored_pixels(single)[1]).all()


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("ct_chest_C3N-00249", "CT"),
        ("ct_lowdose_petct_TCGA-DE-A4MA", "CT"),
        ("ct_dental_metal_TCGA-E3-A3E5", "CT"),
        ("pet_wholebody_ac_STS_001", "PT"),
        ("triple_STS_013/MR_T1", "MR"),
    ],
)
def test_a_real_series_converted_has_the_same_values_and_geometry(tmp_path: Path, name: str, modality: str) -> None:
    source = sorted((fixtures_folder() / name).glob("*.dcm"))
    volume, singles = load_volume(source)
    again, frames = load_volume([legacy_converted(modality, source, tmp_path / "x.dcm")])
    assert (volume.values == again.values).all() and volume.unit == again.unit
    assert np.allclose(volume.geometry.affine, again.geometry.affine, atol=1e-9)
    assert volume.acquisition.suv_bw_factor == again.acquisition.suv_bw_factor
    for single, frame in zip(singles, frames, strict=True):
        for keyword in ("ImageType", "KVP", "ConvolutionKernel", "Units", "CorrectedImage", "FrameReferenceTime"):
            assert frame.texts(keyword)[:3] == single.texts(keyword)[:3], keyword
        for keyword in ("AcquisitionTime", "ActualFrameDuration", "RescaleSlope", "SliceThickness"):
            assert frame.number(keyword) == single.number(keyword), keyword


def test_what_a_converted_instance_kept_of_its_sources_never_says_who_the_patient_is(tmp_path: Path) -> None:
    def spoil(instance: Dataset) -> None:
        kept = item(PatientID="SOMEONE ELSE", StudyInstanceUID="1.2.3", Rows=7, ProtocolName="Routine")
        instance.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [kept]

    image = source_images(spoiled(write_enhanced(tmp_path / "x.dcm", "CT"), spoil))[0]
    assert (image.text("PatientID"), image.number("Rows"), image.text("ProtocolName")) == ("PHANTOM-1", 32, "Routine")
    assert image.raw("PatientID") == b"PHANTOM-1"
    assert image.text("StudyInstanceUID") != "1.2.3"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda syntax: syntax.keyword)
def test_texts_keep_their_bytes_and_their_meaning_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    def spoil(instance: Dataset) -> None:
        instance.SpecificCharacterSet, instance.PatientName = "ISO_IR 192", "M\u00fcller^J\u00f6rg"
        reason = [code("1", "99X", "Entz\u00fcndung")]
        kept = item(ProtocolName="Sch\u00e4del", ReasonForPerformedProcedureCodeSequence=reason)
        instance.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [kept]

    path = spoiled(write_enhanced(tmp_path / "x.dcm", "CT", transfer_syntax_uid=syntax), spoil)
    for image in source_images(path):
        assert image.raw("PatientName") == "M\u00fcller^J\u00f6rg".encode()
        assert (image.raw("ProtocolName"), image.text("ProtocolName")) == ("Sch\u00e4del".encode(), "Sch\u00e4del")
        (reason,) = image.dataset.ReasonForPerformedProcedureCodeSequence
        assert reason.CodeMeaning == "Entz\u00fcndung"
        assert (image.number("Rows"), image.numbers("PixelSpacing")) == (32, (1.5, 1.25))
    assert (load_volume([path])[0].values == enhanced_values("CT", 4, 32, 40)).all()


def spoiled(path: Path, spoil: Callable[[Dataset], None]) -> Path:
    instance = dcmread(path)
    spoil(instance)
    instance.save_as(path)
    return path


def test_no_place_that_tells_of_earlier_steps_hides_another(tmp_path: Path) -> None:
    def derived(k: int, groups: Groups) -> None:
        codes = DicomSequence([code("MAR", "99OTHER", "Metal artifact reduction")])
        groups["DerivationImageSequence"] = item(DerivationDescription="MAR", DerivationCodeSequence=codes)
        equipment = item(Manufacturer=MODEL_NAME)
        groups["UnassignedPerFrameConvertedAttributesSequence"] = item(
            ContributingEquipmentSequence=DicomSequence([equipment]),
            DerivationCodeSequence=DicomSequence([code("1", "99THIRD", "Once more")]),
        )

    equipment = DicomSequence([item(Manufacturer="Maker")])
    path = write_enhanced(tmp_path / "x.dcm", "CT", each=derived, ContributingEquipmentSequence=equipment)
    for image in source_images(path):
        assert image.text("DerivationDescription") == "MAR"
        codes = image.dataset.DerivationCodeSequence
        assert [one.CodingSchemeDesignator for one in codes] == ["99OTHER", "99THIRD"]
        contributors = image.dataset.ContributingEquipmentSequence
        assert [one.Manufacturer for one in contributors] == ["Maker", MODEL_NAME]
        assert made_by_a_node(image)


def test_what_a_node_derived_stays_its_output_when_it_is_converted(tmp_path: Path) -> None:
    made = derived_datasets(write_ct_series(tmp_path / "source"), card_for("CT"))
    files = []
    for k, instance in enumerate(made):
        files.append(tmp_path / f"{k}.dcm")
        instance.save_as(files[-1])
    with pytest.raises(SeriesUnusable) as refusal:
        load_volume([legacy_converted("CT", files, tmp_path / "converted.dcm")])
    assert refusal.value.reason_code == "own-output"


def test_items_of_a_macro_that_disagree_say_nothing(tmp_path: Path) -> None:
    def two_sources(instance: Dataset) -> None:
        details = instance.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence
        details.append(item(KVP="140", FocalSpots="0.8"))

    image = source_images(spoiled(write_enhanced(tmp_path / "x.dcm", "CT"), two_sources))[0]
    assert (image.text("KVP"), image.text("FocalSpots")) == ("", "0.8")


@pytest.mark.parametrize("keyword", ["PerFrameFunctionalGroupsSequence", "NumberOfFrames"])
def test_an_enhanced_instance_without_a_group_for_each_frame_is_refused(tmp_path: Path, keyword: str) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT", **{keyword: None})
    assert refusal_of(path).reason_code == "multi-frame-groups"


@pytest.mark.parametrize("frames", [3, 5, 0])
def test_another_count_of_frames_than_of_their_groups_is_refused(tmp_path: Path, frames: int) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "MR", NumberOfFrames=frames)
    assert refusal_of(path).reason_code == "multi-frame-groups"


@pytest.mark.parametrize("modality", MODALITIES)
def test_several_frames_in_a_single_frame_class_are_refused(tmp_path: Path, modality: str) -> None:
    path = WRITERS[modality](tmp_path, slices=1, NumberOfFrames=4)[0]
    refusal = refusal_of(path)
    assert refusal.reason_code == "multi-frame" and "single-frame" in str(refusal)


def test_a_colour_mr_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "MR", SOPClassUID=EnhancedMRColorImageStorage)
    assert refusal_of(path).reason_code == "multi-frame"


def test_a_deflated_enhanced_instance_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT", transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    assert refusal_of(path).reason_code == "multi-frame-deflated"


def test_an_enhanced_instance_without_pixels_is_refused(tmp_path: Path) -> None:
    assert refusal_of(write_enhanced(tmp_path / "x.dcm", "CT", PixelData=None)).reason_code == "no-pixel-data"


@pytest.mark.parametrize("part", [0.03, 0.25, 0.5, 0.9, 0.999])
def test_an_enhanced_instance_cut_inside_its_header_is_refused(tmp_path: Path, part: float) -> None:
    path = write_enhanced(tmp_path / "x.dcm", "CT")
    whole = path.read_bytes()
    path.write_bytes(whole[: round(part * (len(whole) - 4 * 32 * 40 * 2))])
    assert refusal_of(path).reason_code in ("unreadable", "multi-frame-groups", "no-pixel-data", "multi-frame")


def test_frames_without_a_place_are_refused_by_the_gate(tmp_path: Path) -> None:
    def lost(k: int, groups: Groups) -> None:
        if k == 2:
            del groups["PlanePositionSequence"]

    path = write_enhanced(tmp_path / "x.dcm", "CT", each=lost)
    with pytest.raises(SeriesUnusable) as refusal:
        load_volume([path])
    assert refusal.value.reason_code == "positions-missing"


def test_phase_frames_are_refused_by_the_gate(tmp_path: Path) -> None:
    def phase(k: int, groups: Groups) -> None:
        groups["MRImageFrameTypeSequence"].ComplexImageComponent = "PHASE"

    with pytest.raises(SeriesUnusable) as refusal:
        load_volume([write_enhanced(tmp_path / "x.dcm", "MR", each=phase)])
    assert refusal.value.reason_code == "not-magnitude"


def test_diffusion_weighted_frames_are_refused_by_the_gate(tmp_path: Path) -> None:
    def weighted(k: int, groups: Groups) -> None:
        groups["MRDiffusionSequence"] = item(DiffusionBValue=1000.0, DiffusionDirectionality="ISOTROPIC")

    with pytest.raises(SeriesUnusable) as refusal:
        load_volume([write_enhanced(tmp_path / "x.dcm", "MR", each=weighted)])
    assert refusal.value.reason_code == "diffusion"
