"""Masks and maps that no longer lie on their images, or say another change than the images show, are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from dicomnode.companions.companions import COMPANIONS
from dicomnode.input_gate import Allowed
from dicomnode.verify.files import found_files
from dicomnode.verify.folder import verify_folder
from dicomnode.verify.frames import frame_answers, frames_of, stored_frames
from dicomnode.verify.lookup import Lookup
from dicomnode.verify.tally import Tally
from tests.builders_companions import WRITERS, derivation_from, stacks
from tests.builders_dicom import card_for
from tests.builders_faults import sets
from tests.builders_passports import write_all

SEGMENTATION, MAPS = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30"
Fault = Callable[[Dataset], None]


def moved(dataset: Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 999]


def exchanged(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence
    one, other = groups[0].PlanePositionSequence, groups[1].PlanePositionSequence
    groups[0].PlanePositionSequence, groups[1].PlanePositionSequence = other, one


def coarser(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [9, 9]


def turned(dataset: Dataset) -> None:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def emptied(dataset: Dataset) -> None:
    keyword = "PixelData" if "PixelData" in dataset else "FloatPixelData"
    setattr(dataset, keyword, bytes(len(dataset[keyword].value)))


def rescaled(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].RealWorldValueSlope = 1000.0


def lost(dataset: Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence[0].SourceImageSequence = []


def of_class(folder: Path, sop_class_uid: str, label: str = "") -> Path:
    for path in sorted((folder / "beside").iterdir()):
        dataset = dcmread(path)
        if dataset.SOPClassUID == sop_class_uid and label in dataset.get("ContentLabel", ""):
            return path
    raise AssertionError(f"there is no {sop_class_uid}")


def missed(folder: Path) -> set[str]:
    return {rule.rule for rule in verify_folder(folder).rules if rule.missed}


def study(folder: Path, modality: str = "CT", allowed: Allowed | None = None, **options: Any) -> Path:
    files = WRITERS[modality](folder / "source", **options)
    derivation = derivation_from(files, card=card_for(modality, slicewise=allowed is not None), allowed=allowed)
    write_all(folder, derivation, COMPANIONS, passport=False)
    return folder


@pytest.mark.parametrize(
    ("rule", "sop_class_uid", "label", "fault"),
    [
        ("S1", SEGMENTATION, "", moved),
        ("S1", SEGMENTATION, "", exchanged),
        ("S1", SEGMENTATION, "", coarser),
        ("S1", SEGMENTATION, "", turned),
        ("S1", SEGMENTATION, "", emptied),
        ("S1", SEGMENTATION, "", lost),
        ("S1", SEGMENTATION, "", sets(FrameOfReferenceUID="1.2.3")),
        ("S3", MAPS, "CHANGE", moved),
        ("S3", MAPS, "CHANGE", exchanged),
        ("S3", MAPS, "CHANGE", emptied),
        ("S3", MAPS, "CHANGE", rescaled),
        ("S3", MAPS, "UNCERTAINTY", turned),
        ("C22", MAPS, "CHANGE", sets(ContentQualification="PRODUCT")),
        ("C22", SEGMENTATION, "", sets(ContentQualification="PRODUCT")),
        ("C23", SEGMENTATION, "", sets(SyntheticData="YES")),
        ("C21", MAPS, "CHANGE", sets(BurnedInAnnotation="YES")),
        ("C24", SEGMENTATION, "", sets(ImageComments="Fine.")),
        ("C21", "1.2.840.10008.5.1.4.1.1.7", "", sets(BurnedInAnnotation="YES")),
    ],
)
def test_one_fault_in_an_object_beside_the_images_is_named(
    tmp_path: Path, rule: str, sop_class_uid: str, label: str, fault: Fault
) -> None:
    path = of_class(study(tmp_path), sop_class_uid, label)
    assert missed(tmp_path) == set()
    dataset = dcmread(path)
    fault(dataset)
    dataset.save_as(path)
    assert rule in missed(tmp_path)


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
@pytest.mark.parametrize("name", ["oblique", "feet first", "odd matrix", "single slice", "gantry tilt", "gap"])
def test_masks_and_maps_of_stacks_as_patients_lie_are_right(tmp_path: Path, modality: str, name: str) -> None:
    options = dict(stacks()[name])
    study(tmp_path, modality, allowed=options.pop("allowed", None), **options)
    assert missed(tmp_path) == set()


def test_a_change_that_does_not_fit_the_pixels_is_right_where_they_were_cut(tmp_path: Path) -> None:
    values = np.full((3, 32, 32), 40)
    values[1, 10:20, 4:20] = 9000
    files = WRITERS["CT"](tmp_path / "source", values=values)
    write_all(tmp_path, derivation_from(files, ct_pixels="unsigned-12"), COMPANIONS, passport=False)
    assert missed(tmp_path) == set()


def test_without_the_images_a_mask_is_not_asked(tmp_path: Path) -> None:
    study(tmp_path)
    for path in (tmp_path / "source").iterdir():
        path.unlink()
    found = found_files([tmp_path])
    dataset = dcmread(of_class(tmp_path, SEGMENTATION))
    answers = frame_answers(dataset, Lookup(found, Tally()))
    assert answers.not_asked and all(finding.holds for finding in answers.findings)
    (rule,) = [one for one in verify_folder(tmp_path).rules if one.rule == "S1"]
    assert rule.state == "not asked"


def test_frames_are_read_by_their_places_in_every_encoding(tmp_path: Path) -> None:
    dataset = dcmread(of_class(study(tmp_path, rows=33, columns=31), SEGMENTATION))
    frames, stored = frames_of(dataset), stored_frames(dataset)
    assert len(frames) == len(stored) == dataset.NumberOfFrames
    assert all(len(frame.named) == 1 and len(frame.place.position) == 3 for frame in frames)
    again = dcmread(of_class(tmp_path, SEGMENTATION))
    again.BitsAllocated = again.BitsStored = 8
    again.HighBit = 7
    again.PixelData = stored.astype("u1").tobytes() + b"\0" * (stored.size % 2)
    assert np.array_equal(stored_frames(again), stored)
    again.compress(RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
    assert np.array_equal(stored_frames(again), stored)
