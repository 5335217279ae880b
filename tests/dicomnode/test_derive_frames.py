"""Time frames become one series, and frames of an enhanced instance single images that say which frame they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import FileDataset, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomnode.derive import derive_frames, derive_series
from dicomnode.errors import OutputFault
from dicomnode.load import Allowed, load_stack, planned_stacks
from dicomnode.source_image import SourceImage
from inference.pipeline import Card, Outcome
from tests.builders_dicom import card_for, job_facts, pet_values, write_ct_series, write_pet_series
from tests.builders_enhanced import write_enhanced
from tests.validators import errors, inconsistent

PET = card_for("PT", token="DENOISED", label="denoised")
SLICES, TIMES = 3, 2
OF_TIME = """ImageIndex NumberOfSlices FrameReferenceTime AcquisitionTime InstanceNumber SeriesTime ImagePositionPatient
NumberOfTimeSlices NumberOfTimeSlots NumberOfRRIntervals TriggerTime"""
Frames = list[tuple[Outcome, tuple[SourceImage, ...]]]


def write_dynamic_pet(folder: Path, *, kind: str = "DYNAMIC", numbered: bool = True) -> list[Path]:
    """Two time frames of three slices, the second at twice the activity and a minute later."""
    uids = {name: generate_uid() for name in ("study_instance_uid", "series_instance_uid", "frame_of_reference_uid")}
    files: list[Path] = []
    for time in range(TIMES):

        def place(k: int, dataset: Dataset, time: int = time) -> None:
            dataset.SeriesType, dataset.ImageIndex = [kind, "IMAGE"], time * SLICES + k + 1
            dataset.InstanceNumber = time * SLICES + k + 1 if numbered else 1
            dataset.FrameReferenceTime, dataset.AcquisitionTime = 30000 + 60000 * time, f"10{20 + time}10"
            if kind == "DYNAMIC":
                dataset.NumberOfTimeSlices = TIMES
            else:
                dataset.NumberOfRRIntervals, dataset.NumberOfTimeSlots = 1, TIMES
                dataset.TriggerTime, dataset.FrameTime = 400 * time, 400
                dataset.LowRRValue, dataset.HighRRValue = 800, 1000

        values = pet_values(SLICES, 32, 32) * (time + 1)
        files += write_pet_series(folder / str(time), values=values, each=place, **uids)
    return files


def loaded(files: Sequence[Path]) -> Frames:
    frames: Frames = []
    for plan in planned_stacks(files, allowed=Allowed()):
        source, images = load_stack(plan)
        frames.append((Outcome(source), images))
    return frames


def derived(frames: Frames, card: Card = PET) -> list[FileDataset]:
    return [dcmread(BytesIO(made.content)) for made in derive_frames(frames, card, job=job_facts())]


def kept(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{k}.dcm" for k in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.save_as(path)
    return paths


@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED"])
def test_p4_time_frames_make_one_series_in_which_every_image_keeps_its_place_and_time(
    tmp_path: Path, kind: str
) -> None:
    files = write_dynamic_pet(tmp_path, kind=kind)
    frames = loaded(files)
    made = derived(frames)
    assert len(frames) == TIMES and len({one.SeriesInstanceUID for one in made}) == 1
    assert len({one.SOPInstanceUID for one in made}) == TIMES * SLICES
    for source, one in zip(map(dcmread, files), made, strict=True):
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        for keyword in OF_TIME.split():
            assert one.get(keyword) == source.get(keyword), keyword
        values = one.pixel_array * float(one.RescaleSlope)
        assert np.allclose(values, source.pixel_array * float(source.RescaleSlope), atol=float(one.RescaleSlope))
    paths = kept(tmp_path / "derived", made)
    assert [errors(path) for path in paths] == [[]] * len(paths)
    assert inconsistent(paths, sources=files) == []


def test_c6_images_of_several_time_frames_that_share_numbers_are_counted_through(tmp_path: Path) -> None:
    made = derived(loaded(write_dynamic_pet(tmp_path, numbered=False)))
    assert [one.InstanceNumber for one in made] == [1, 2, 3, 4, 5, 6]


def test_c27_all_time_frames_are_shown_by_one_window(tmp_path: Path) -> None:
    frames = loaded(write_dynamic_pet(tmp_path))
    largest = max(float(outcome.volume.values.max()) for outcome, _ in frames)
    assert {float(one.WindowWidth) for one in derived(frames)} == {float(f"{largest:.8g}")}


def test_one_time_frame_alone_is_another_series_that_keeps_its_place_among_the_times(tmp_path: Path) -> None:
    frames = loaded(write_dynamic_pet(tmp_path))
    whole, second = derived(frames), derived(frames[1:])
    assert whole[0].SeriesInstanceUID != second[0].SeriesInstanceUID
    assert [(one.ImageIndex, one.NumberOfSlices) for one in second] == [(4, 3), (5, 3), (6, 3)]


def test_what_makes_no_one_series_is_refused_before_the_first_instance(tmp_path: Path) -> None:
    frames = loaded(write_dynamic_pet(tmp_path / "one"))
    outcome, images = frames[1]
    fewer = replace(outcome, volume=replace(outcome.volume, values=outcome.volume.values[:2]))
    other = loaded(write_pet_series(tmp_path / "other", slices=SLICES))
    for wrong, rule in (
        ([], "C13"),
        ([frames[0], frames[0]], "C13"),
        ([frames[0], (fewer, images[:2])], "P4"),
        ([frames[0], *other], "C14"),
    ):
        with pytest.raises(OutputFault) as raised:
            derive_frames(wrong, PET, job=job_facts())
        assert raised.value.rule == rule


@pytest.mark.parametrize(
    ("modality", "card"),
    [
        ("CT", card_for("CT", token="MAR")),
        ("PT", PET),
        ("PT", card_for("PT", to="CT")),
        ("MR", card_for("MR", token="MOCO")),
        ("MR", card_for("MR", to="CT")),
    ],
    ids=["CT", "PET", "PET to CT", "MR", "MR to CT"],
)
def test_i10_c13_frames_of_an_enhanced_instance_become_images_that_name_their_frame(
    tmp_path: Path, modality: str, card: Card
) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", modality, order=[2, 0, 3, 1])
    enhanced = dcmread(path)
    ((outcome, images),) = loaded([path])
    if card.makes is not None:
        outcome = Outcome(outcome.volume.with_values(np.minimum(outcome.volume.values, 1000), card.makes))
    made = derived([(outcome, images)], card)
    assert [one.SourceImageSequence[0].ReferencedFrameNumber for one in made] == [2, 4, 1, 3]
    assert len({one.SOPInstanceUID for one in made}) == 4
    assert [one.InstanceNumber for one in made] == [2, 4, 1, 3]
    for one in made:
        item = one.SourceImageSequence[0]
        assert item.ReferencedSOPClassUID == enhanced.SOPClassUID and one.SOPClassUID != enhanced.SOPClassUID
        assert item.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
        (listed,) = one.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert listed.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
        assert "NumberOfFrames" not in one and "PerFrameFunctionalGroupsSequence" not in one
    paths = kept(tmp_path / "derived", made)
    assert [errors(path) for path in paths] == [[]] * len(paths)


def test_u2_other_frames_of_the_same_instance_make_another_series(tmp_path: Path) -> None:
    ((outcome, images),) = loaded([write_enhanced(tmp_path / "enhanced.dcm", "CT")])
    volume = outcome.volume
    step = volume.geometry.affine[:3, 0]
    moved = volume.geometry.affine.copy()
    moved[:3, 3] += step
    lower = Outcome(replace(volume, values=volume.values[:3]))
    upper = Outcome(replace(volume, values=volume.values[1:], geometry=replace(volume.geometry, affine=moved)))
    card = card_for("CT")
    series = {
        derived([(part, chosen)], card)[0].SeriesInstanceUID
        for part, chosen in ((outcome, images), (lower, images[:3]), (upper, images[1:]))
    }
    assert len(series) == 3


def test_c13_c14_neighbours_that_a_slice_was_made_of_are_named_after_its_own_source(tmp_path: Path) -> None:
    ((outcome, images),) = loaded(write_ct_series(tmp_path))
    card = card_for("CT", context_slices=2)
    outcome = replace(outcome, unchanged=frozenset({3}))
    made = [dcmread(BytesIO(one.content)) for one in derive_series(outcome, card, images, job=job_facts())]
    uids = [image.sop_instance_uid for image in images]
    expected = [[0, 1, 2], [1, 0, 2, 3], [2, 1, 3, 0], [3]]  # the last one was passed through: made of its own only
    for one, indices in zip(made, expected, strict=True):
        named = [item.ReferencedSOPInstanceUID for item in one.SourceImageSequence]
        listed = [item.ReferencedSOPInstanceUID for item in one.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
        assert named == listed == [uids[index] for index in indices]


def test_c14_neighbouring_frames_are_each_named_and_their_instance_is_listed_once(tmp_path: Path) -> None:
    frames = loaded([write_enhanced(tmp_path / "enhanced.dcm", "CT")])
    made = derived(frames, card_for("CT", context_slices=1))
    named = [[item.ReferencedFrameNumber for item in one.SourceImageSequence] for one in made]
    assert named == [[1, 2], [2, 1, 3], [3, 2, 4], [4, 3]]
    assert {len(one.ReferencedSeriesSequence[0].ReferencedInstanceSequence) for one in made} == {1}
    (path,) = kept(tmp_path / "derived", made[:1])
    assert errors(path) == []
