"""Masks as Segmentations: right place, right voxels, right words, valid."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import FileDataset

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.segmentation import segmentation, tracking
from dicomnode.errors import OutputFault
from inference.pipeline import Outcome
from inference.volume import Volume
from tests.builders import fixtures_folder
from tests.builders_companions import (
    changed_block,
    derivation_from,
    derived_files,
    in_order,
    phantom_derivation,
    places_in_frames_mm,
    places_mm,
    read,
    stacks,
    written,
)
from tests.builders_dicom import card_for
from tests.builders_enhanced import write_enhanced
from tests.validators import dcentvfy, dcmdump_complaints, dcmftest, errors, unexpected


def mask_of(derivation: Derivation, name: str = "metal") -> FileDataset:
    made = segmentation(derivation, mask_name=name)
    assert made is not None
    return read(made)


def masks_of(**masks: Callable[[Volume], NDArray[np.bool_]]) -> Callable[[Volume], Outcome]:
    """What a pipeline with these masks makes."""
    return lambda source: replace(changed_block(source), masks={name: made(source) for name, made in masks.items()})


def nothing(source: Volume) -> NDArray[np.bool_]:
    return np.zeros(source.values.shape, np.bool_)


def everything(source: Volume) -> NDArray[np.bool_]:
    return np.ones(source.values.shape, np.bool_)


def every_other_slice(source: Volume) -> NDArray[np.bool_]:
    mask = everything(source)
    mask[1::2] = False
    return mask


@pytest.mark.parametrize("name", stacks())
def test_every_voxel_of_the_mask_lies_where_the_source_images_say(tmp_path: Path, name: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", **stacks()[name])
    dataset = mask_of(derivation)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns) != 0
    expected = places_mm(derivation, derivation.outcome.masks["metal"])
    np.testing.assert_allclose(places_in_frames_mm(dataset, frames), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in stacks() if name not in ("gantry tilt", "gap")])
def test_highdicom_reads_the_mask_as_a_volume_in_the_sources_place(tmp_path: Path, name: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", **stacks()[name])
    volume = highdicom.seg.Segmentation.from_dataset(mask_of(derivation)).get_volume(combine_segments=True)
    marked = np.argwhere(volume.array == 1)
    places = (volume.affine @ np.column_stack([marked, np.ones(len(marked))]).T).T[:, :3]
    np.testing.assert_allclose(in_order(places), places_mm(derivation, derivation.outcome.masks["metal"]), atol=1e-5)
    np.testing.assert_allclose(volume.spacing, derivation.source.geometry.spacing_mm, rtol=1e-6)


def test_each_frame_names_the_source_image_that_it_lies_on(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=5)
    dataset = mask_of(derivation)
    for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        (k,) = [
            k for k, image in enumerate(derivation.images) if image.sop_instance_uid == item.ReferencedSOPInstanceUID
        ]
        np.testing.assert_array_equal(frame != 0, derivation.outcome.masks["metal"][k])


def test_slices_without_mask_have_no_frame_and_a_full_mask_has_all(tmp_path: Path) -> None:
    derivation = phantom_derivation(
        tmp_path / "s", slices=6, outcome_of=masks_of(all=everything, some=every_other_slice)
    )
    assert mask_of(derivation, "all").NumberOfFrames == 6
    assert mask_of(derivation, "some").NumberOfFrames == 3
    assert mask_of(derivation, "all").DimensionOrganizationType == "3D"
    assert "DimensionOrganizationType" not in mask_of(derivation, "some"), "its frames are not one step apart"


def test_an_empty_mask_is_not_written(tmp_path: Path) -> None:
    assert (
        segmentation(phantom_derivation(tmp_path / "s", outcome_of=masks_of(metal=nothing)), mask_name="metal") is None
    )


@pytest.mark.parametrize(("rows", "columns", "slices"), [(3, 3, 1), (5, 7, 3), (8, 9, 3), (17, 31, 5)])
def test_bits_that_fill_no_whole_byte_are_followed_by_zeros(
    tmp_path: Path, rows: int, columns: int, slices: int
) -> None:
    derivation = phantom_derivation(
        tmp_path / "s", rows=rows, columns=columns, slices=slices, outcome_of=masks_of(all=everything)
    )
    dataset = mask_of(derivation, "all")
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    assert len(dataset.PixelData) % 2 == 0
    assert bits[: rows * columns * slices].all()
    assert not bits[rows * columns * slices :].any()


@pytest.mark.parametrize(
    ("name", "category", "kind"),
    [
        ("metal", ("260787004", "SCT"), ("40388003", "SCT")),
        ("body", ("123037004", "SCT"), ("38266002", "SCT")),
        ("lungs", ("123037004", "SCT"), ("39607008", "SCT")),
        ("hot_spot, left", ("309825002", "SCT"), ("HOT_SPOT__LEFT", "99DCMNODE")),
    ],
)
def test_s1_what_is_masked_is_said_in_codes(tmp_path: Path, name: str, category: Any, kind: Any) -> None:
    derivation = phantom_derivation(tmp_path / "s", outcome_of=masks_of(**{name: everything}))
    (segment,) = mask_of(derivation, name).SegmentSequence
    for code, expected in (
        (segment.SegmentedPropertyCategoryCodeSequence[0], category),
        (segment.SegmentedPropertyTypeCodeSequence[0], kind),
    ):
        assert (code.CodeValue, code.CodingSchemeDesignator) == expected


def test_s1_the_algorithm_is_named_and_a_learned_one_is_called_so(tmp_path: Path) -> None:
    classical = phantom_derivation(tmp_path / "s")
    learned = replace(classical, card=card_for("CT", weights_sha256="ab" * 32, settings={"threshold_hu": 2500}))
    for derivation, family in ((classical, "123105"), (learned, "123110")):
        (segment,) = mask_of(derivation).SegmentSequence
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("identity", "1.0")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == family
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert "threshold_hu=2500" in algorithm.AlgorithmParameters


def test_the_masks_of_a_job_are_instances_of_one_series(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", outcome_of=masks_of(lungs=every_other_slice, body=everything))
    body, lungs = mask_of(derivation, "body"), mask_of(derivation, "lungs")
    assert body.SeriesInstanceUID == lungs.SeriesInstanceUID
    assert body.SOPInstanceUID != lungs.SOPInstanceUID
    assert (body.InstanceNumber, lungs.InstanceNumber) == (1, 2)
    assert (body.ContentLabel, lungs.ContentLabel) == ("BODY", "LUNGS")
    for number, dataset in ((1, body), (2, lungs)):
        (segment,) = dataset.SegmentSequence
        assert (segment.TrackingID, segment.TrackingUID) == tracking(derivation, number)


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_a_mask_on_frames_of_a_multi_frame_source_lies_on_the_derived_images(tmp_path: Path, modality: str) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", modality, order=(2, 0, 3, 1))
    derivation = derivation_from([path])
    made = segmentation(derivation, mask_name="metal")
    assert made is not None
    dataset = read(made)
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == derivation.derived[0].SeriesInstanceUID
    expected = places_mm(derivation, derivation.outcome.masks["metal"])
    np.testing.assert_allclose(places_in_frames_mm(dataset, dataset.pixel_array != 0), expected, atol=1e-6)
    (written_path,) = written(tmp_path / "made", made)
    assert unexpected(written_path) == []
    assert dcentvfy([path, *derived_files(tmp_path / "d", derivation), written_path]) == []


@pytest.mark.parametrize("mask", [np.ones((2, 2, 2), np.bool_), np.ones((4, 64, 64), np.uint8)])
def test_a_mask_off_the_grid_is_a_fault(tmp_path: Path, mask: Any) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    derivation = replace(derivation, outcome=replace(derivation.outcome, masks={"metal": mask}))
    with pytest.raises(OutputFault, match="S1"):
        segmentation(derivation, mask_name="metal")


def test_u5_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", "PT")
    assert segmentation(derivation, mask_name="metal") == segmentation(derivation, mask_name="metal")


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
@pytest.mark.parametrize("part", ["ABDOMEN", "KNEE", None])
def test_g1_g2_validators_find_nothing(tmp_path: Path, modality: str, part: str | None) -> None:
    derivation = phantom_derivation(
        tmp_path / "s", modality, BodyPartExamined=part, Laterality="L" if part == "KNEE" else None
    )
    made = segmentation(derivation, mask_name="metal")
    assert made is not None
    (path,) = written(tmp_path / "made", made)
    assert unexpected(path) == []
    assert dcmftest(path)
    assert dcmdump_complaints(path) == []
    assert dcentvfy([*sorted((tmp_path / "s").iterdir()), *derived_files(tmp_path / "d", derivation), path]) == []


@pytest.mark.parametrize(
    ("series", "threshold"),
    [("ct_dental_metal_TCGA-E3-A3E5", 2500.0), ("pet_wholebody_ac_STS_001", 3000.0), ("triple_STS_013/MR_T1", 400.0)],
)
def test_the_mask_of_a_real_series_is_valid_and_in_place(tmp_path: Path, series: str, threshold: float) -> None:
    files = sorted(path for path in (fixtures_folder() / series).iterdir() if path.suffix == ".dcm")
    derivation = derivation_from(files, masks_of(metal=lambda source: source.values > threshold))
    made = segmentation(derivation, mask_name="metal")
    assert made is not None
    dataset = read(made)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns) != 0
    expected = places_mm(derivation, derivation.outcome.masks["metal"])
    np.testing.assert_allclose(places_in_frames_mm(dataset, frames), expected, atol=1e-5)
    (path,) = written(tmp_path / "made", made)
    assert set(errors(path)) <= set(errors(files[0])), "what the source says wrongly is all that may be wrong"
    assert dcentvfy([*files, *derived_files(tmp_path / "d", derivation), path]) == []
