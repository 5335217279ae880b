"""The measurement report: Comprehensive 3D SR, TID 1500."""

from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.companions.report import measurement_report
from dicomnode.companions.segmentation import segmentation
from dicomnode.derived_instance import DerivedInstance
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import phantom_derivation, read, written
from tests.builders_dicom import card_for
from tests.validators import dcmftest, dsrdump, unexpected


def parsed(instance: DerivedInstance) -> highdicom.sr.MeasurementReport:
    """The content as highdicom reads it back."""
    content = highdicom.sr.Comprehensive3DSR.from_dataset(read(instance)).content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    return content


def measured(group: highdicom.sr.MeasurementsAndQualitativeEvaluations) -> dict[str, tuple[float, str]]:
    return {item.name.meaning: (item.value, item.unit.value) for item in group.get_measurements()}


def evidence_of(report: Dataset) -> set[str]:
    return {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def test_a_mask_with_a_segmentation_is_a_region_with_its_segment_and_its_measurements(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    mask = segmentation(derivation, mask_name="metal")
    assert mask is not None
    report = measurement_report(derivation, segmentations={"metal": mask})
    (region,) = parsed(report).get_volumetric_roi_measurement_groups()
    (referenced,) = [
        item.ReferencedSOPSequence[0] for item in region[0].ContentSequence if item.name.meaning == "Referenced Segment"
    ]
    assert referenced.ReferencedSOPInstanceUID == mask.sop_instance_uid and referenced.ReferencedSegmentNumber == 1
    assert region.tracking_uid == read(mask).SegmentSequence[0].TrackingUID
    assert region.finding_type.meaning == "Implant"
    voxels = int(np.count_nonzero(derivation.outcome.masks["metal"]))
    assert measured(region) == {
        "metal volume": (pytest.approx(voxels * 3 / 1000), "ml"),
        "slices with the mask": (2, "{slices}"),
        "voxels of the mask": (voxels, "{voxels}"),
    }
    (whole,) = parsed(report).get_image_measurement_groups()
    assert measured(whole) == {"slices passed through unchanged": (2, "{slices}")}
    assert mask.sop_instance_uid in evidence_of(read(report))


def test_a_measurement_belongs_to_the_mask_with_the_longest_name_it_begins_with(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    block = derivation.outcome.masks["metal"]
    outcome = replace(
        derivation.outcome,
        masks={"metal": block, "metal_core": block},
        measurements={"metal_volume_ml": 2.0, "metal_core_volume_ml": 1.0, "streak_before_hu": 17.0},
    )
    several = replace(derivation, outcome=outcome)
    masks = {name: segmentation(several, mask_name=name) for name in outcome.masks}
    report = measurement_report(several, segmentations={name: mask for name, mask in masks.items() if mask})
    regions = parsed(report).get_volumetric_roi_measurement_groups()
    assert [next(iter(measured(region))) for region in regions] == ["metal core volume", "metal volume"]
    (whole,) = parsed(report).get_image_measurement_groups()
    assert set(measured(whole)) == {"streak before", "slices passed through unchanged"}


def test_without_a_segmentation_all_measurements_are_of_the_whole_series(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    content = parsed(measurement_report(derivation, segmentations={}))
    assert content.get_volumetric_roi_measurement_groups() == []
    (whole,) = content.get_image_measurement_groups()
    assert set(measured(whole)) == {"metal volume", "slices passed through unchanged"}
    sources = {image.referenced_sop_instance_uid for image in whole.source_images}
    assert sources == {image.sop_instance_uid for image in derivation.images}


def test_the_report_is_final_unverified_and_by_the_node(tmp_path: Path) -> None:
    made = read(measurement_report(phantom_derivation(tmp_path / "s"), segmentations={}))
    assert (made.PreliminaryFlag, made.CompletionFlag, made.VerificationFlag) == ("FINAL", "COMPLETE", "UNVERIFIED")
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert "VerifyingObserverSequence" not in made


def test_the_evidence_is_every_source_and_every_derived_image(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    found = evidence_of(read(measurement_report(derivation, segmentations={})))
    sources = {image.sop_instance_uid for image in derivation.images}
    assert found == sources | {str(image.SOPInstanceUID) for image in derivation.derived}


def test_dcmtk_reads_measurements_with_units_and_the_words(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    (path,) = written(tmp_path / "made", measurement_report(derivation, segmentations={}))
    text = "\n".join(dsrdump(path))
    volume = derivation.outcome.measurements["metal_volume_ml"]
    assert f'"metal volume")="{volume:g}" (ml,UCUM,"milliliter")' in text
    assert "2 of 4 slices were passed through unchanged" in text and "a block was changed" in text
    assert "For research only, not for diagnosis" in text and "Compare with the source images" in text


def test_the_empty_mask_and_a_measurement_without_a_number_are_said_in_words(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    empty = replace(
        derivation.outcome,
        masks={"metal": np.zeros_like(derivation.outcome.masks["metal"])},
        measurements={"metal_volume_ml": 0.0, "streak_before_hu": float("nan")},
    )
    (path,) = written(tmp_path / "made", measurement_report(replace(derivation, outcome=empty), segmentations={}))
    text = "\n".join(dsrdump(path))
    assert "no metal was found" in text and "The measurement streak before has no number" in text
    assert 'NUM:(,,"metal volume")="0.0"' in text and 'NUM:(,,"streak before")' not in text
    assert unexpected(path) == []


def soft_tissue(source: Volume) -> Outcome:
    return Outcome(source.with_values(np.zeros_like(source.values), Unit.HU), measurements={"body_ml": 61234.5678})


@pytest.mark.parametrize(
    ("modality", "to", "procedure"),
    [("CT", "", "CT unsp"), ("PT", "", "PET unsp"), ("MR", "", "MRI unsp"), ("PT", "CT", "PET unsp")],
)
def test_the_report_is_right_for_every_modality(tmp_path: Path, modality: str, to: str, procedure: str) -> None:
    outcome_of = soft_tissue if to else None
    derivation = phantom_derivation(tmp_path / "s", modality, outcome_of=outcome_of, card=card_for(modality, to=to))
    (path,) = written(tmp_path / "made", measurement_report(derivation, segmentations={}))
    assert unexpected(path) == [] and dcmftest(path)
    assert procedure in "\n".join(dsrdump(path))


def test_a_source_with_an_empty_slice_thickness_still_has_its_report(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", SliceThickness="")
    (path,) = written(tmp_path / "made", measurement_report(derivation, segmentations={}))
    assert unexpected(path) == []


def test_frames_of_a_multi_frame_source_are_named_as_frames(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    framed = tuple(replace(derivation.images[0], frame=k + 1) for k in range(len(derivation.images)))
    (whole,) = parsed(
        measurement_report(replace(derivation, images=framed), segmentations={})
    ).get_image_measurement_groups()
    assert [image.referenced_frame_numbers for image in whole.source_images] == [[1, 2, 3, 4]]


def test_the_same_work_gives_the_same_bytes(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    first, again = (measurement_report(derivation, segmentations={}) for _ in range(2))
    assert first == again
