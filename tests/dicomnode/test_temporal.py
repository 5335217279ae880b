"""A dynamic or gated PET is run time frame by time frame, and only when every frame is whole."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import SeriesUnusable
from dicomnode.load import Allowed, load_stack, load_volume, planned_stacks
from dicomnode.multiframe.enhanced import source_images
from dicomnode.source_image import SourceImage
from dicomnode.temporal import time_frames
from tests.builders_dicom import pet_values, write_mr_series, write_pet_series
from tests.builders_enhanced import write_enhanced
from tests.builders_stacks import write_dynamic_pet


def images_of(files: list[Path]) -> list[SourceImage]:
    return [image for path in files for image in source_images(path)]


@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED"])
def test_i5_the_frames_of_a_dynamic_or_gated_pet_are_one_group_and_each_is_a_stack(tmp_path: Path, kind: str) -> None:
    files = write_dynamic_pet(tmp_path, frames=3, slices=4, kind=kind)
    random.Random(4).shuffle(files)
    plans = planned_stacks(files, allowed=Allowed())
    assert [plan.frame for plan in plans] == [1, 2, 3]
    assert {plan.group for plan in plans} == {0} and {plan.apart for plan in plans} == {""}
    for plan in plans:
        volume, images = load_stack(plan)
        assert np.abs(volume.values - plan.frame * pet_values(4, 16, 16)).max() <= max(i.slope for i in images)
        assert [image.number("ImageIndex") for image in images] == [4 * plan.frame - 3 + k for k in range(4)]
        assert [image.position_mm for image in images] == [100.0, 103.0, 106.0, 109.0]


def test_several_time_frames_are_no_single_volume(tmp_path: Path) -> None:
    with pytest.raises(SeriesUnusable) as refusal:
        load_volume(write_dynamic_pet(tmp_path))
    assert refusal.value.reason_code == "temporal-series"


def test_a_dynamic_pet_of_one_time_frame_is_one_stack(tmp_path: Path) -> None:
    files = write_dynamic_pet(tmp_path, frames=1)
    assert len(planned_stacks(files, allowed=Allowed())) == 1
    assert load_volume(files)[0].values.shape == (4, 16, 16)


def test_gates_of_several_heart_beats_are_frames_of_their_own(tmp_path: Path) -> None:
    def beats(k: int, dataset: Dataset) -> None:
        dataset.NumberOfTimeSlots, dataset.NumberOfRRIntervals = 3, 2

    files = write_dynamic_pet(tmp_path, frames=6, slices=2, kind="GATED", each=beats)
    assert len(time_frames(images_of(files))) == 6


def test_frames_are_counted_where_the_header_does_not_say_how_many_there_are(tmp_path: Path) -> None:
    def unsaid(k: int, dataset: Dataset) -> None:
        del dataset.NumberOfTimeSlices

    assert len(time_frames(images_of(write_dynamic_pet(tmp_path, each=unsaid)))) == 3


def only(which: int, **changes: Any) -> Callable[[int, Dataset], None]:
    def spoil(k: int, dataset: Dataset) -> None:
        for keyword, value in changes.items():
            if k == which:
                setattr(dataset, keyword, value)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (only(5, ImageIndex=5), "there twice"),
        (only(5, ImageIndex=None), "no ImageIndex"),
        (only(5, ImageIndex=0), "no ImageIndex"),
        (only(5, ImageIndex=13), "counts 3 time frames, and 4"),
        (only(5, NumberOfSlices=5), "NumberOfSlices varies"),
        (only(5, SeriesType=["STATIC", "IMAGE"]), "SeriesType varies"),
        (only(5, ImagePositionPatient=["-32", "-32", "104"]), "do not lie where"),
        (only(5, ImagePositionPatient=["-31", "-32", "103"]), "do not lie where"),
    ],
)
def test_a_time_frame_that_is_not_whole_or_lies_elsewhere_refuses_the_series(
    tmp_path: Path, spoil: Callable[[int, Dataset], None], words: str
) -> None:
    files = write_dynamic_pet(tmp_path, each=spoil)
    with pytest.raises(SeriesUnusable, match=words) as refusal:
        planned_stacks(files, allowed=Allowed(split_mixed=True, split_uneven=True))
    assert refusal.value.reason_code == "temporal-incomplete"


@pytest.mark.parametrize("lost", [0, 5, 11])
def test_a_lost_image_refuses_the_series_wherever_it_is_lost(tmp_path: Path, lost: int) -> None:
    files = write_dynamic_pet(tmp_path)
    with pytest.raises(SeriesUnusable, match="1 of 12 images are missing") as refusal:
        planned_stacks(files[:lost] + files[lost + 1 :], allowed=Allowed())
    assert refusal.value.reason_code == "temporal-incomplete"


def test_a_lost_time_frame_refuses_the_series(tmp_path: Path) -> None:
    files = write_dynamic_pet(tmp_path)
    for left in (files[4:], files[:8], files[:4] + files[8:]):
        with pytest.raises(SeriesUnusable) as refusal:
            planned_stacks(left, allowed=Allowed())
        assert refusal.value.reason_code == "temporal-incomplete"


def test_the_frames_of_an_uneven_pet_part_alike_or_run_whole(tmp_path: Path) -> None:
    files = write_dynamic_pet(tmp_path, frames=2, slices=5, heights_mm=[0, 3, 6, 30, 33])
    parts = planned_stacks(files, allowed=Allowed(split_uneven=True))
    assert [(plan.group, plan.frame, len(plan.images)) for plan in parts] == [
        (0, 1, 3),
        (0, 2, 3),
        (1, 1, 2),
        (1, 2, 2),
    ]
    assert [plan.apart for plan in parts[1:3]] == ["slices from 100 to 106 mm", "slices from 130 to 133 mm"]
    whole = planned_stacks(files, allowed=Allowed(slicewise=True))
    assert [len(plan.images) for plan in whole] == [5, 5] and not whole[0].geometry.is_even


def test_time_frames_that_would_part_in_different_ways_refuse_the_series(tmp_path: Path) -> None:
    def jitter(index: int, dataset: Dataset) -> None:
        if index % 3 == 1:  # just within, then just beyond what counts as even, and less than 0.01 mm from each other
            dataset.ImagePositionPatient = ["-32", "-32", "103.098" if index == 1 else "103.102"]

    files = write_dynamic_pet(tmp_path, frames=2, slices=3, each=jitter)
    with pytest.raises(SeriesUnusable, match="part in different ways") as refusal:
        planned_stacks(files, allowed=Allowed(split_uneven=True))
    assert refusal.value.reason_code == "temporal-incomplete"


def test_the_temporal_positions_that_a_pet_names_are_its_frames(tmp_path: Path) -> None:
    def name(k: int, dataset: Dataset) -> None:
        dataset.TemporalPositionIdentifier = 1 + k // 4
        dataset.ImagePositionPatient = ["-32", "-32", str(100 + 3 * (k % 4))]

    files = write_pet_series(tmp_path / "whole", slices=12, each=name)
    assert [plan.frame for plan in planned_stacks(files, allowed=Allowed())] == [1, 2, 3]
    for left in (files[:11], files[:4] + files[8:]):
        with pytest.raises(SeriesUnusable) as refusal:
            planned_stacks(left, allowed=Allowed())
        assert refusal.value.reason_code == "temporal-incomplete"
    assert len(planned_stacks(files[4:8], allowed=Allowed())) == 1, "one time, sent as a series of its own"


@pytest.mark.parametrize("order", [range(6), [0, 3, 1, 4, 2, 5], [5, 0, 3, 2, 4, 1]])
def test_i10_the_frames_of_an_enhanced_dynamic_pet_fall_into_their_times_in_whatever_order_they_are_stored(
    tmp_path: Path, order: list[int]
) -> None:
    """Frame n shows slice `order[n]`: 0-2 are the places at the first time, 3-5 those at the second."""

    def later(k: int, groups: dict[str, Dataset]) -> None:
        groups["FrameContentSequence"].TemporalPositionIndex = k // 3 + 1
        groups["PlanePositionSequence"].ImagePositionPatient = ["-32", "-30", str(100 + 3 * (k % 3))]

    values = np.concatenate([pet_values(3, 8, 8), 2 * pet_values(3, 8, 8)])
    path = write_enhanced(tmp_path / "pet.dcm", "PT", values=values, order=order, each=later)
    plans = planned_stacks([path], allowed=Allowed())
    assert [(plan.group, plan.frame) for plan in plans] == [(0, 1), (0, 2)]
    for plan in plans:
        volume, images = load_stack(plan)
        assert volume.values == pytest.approx(plan.frame * pet_values(3, 8, 8), abs=2.0)
        stored = list(order)
        assert [stored[image.frame - 1] for image in images] == [3 * (plan.frame - 1) + k for k in range(3)]


def test_an_mr_has_no_time_frames_of_one_series(tmp_path: Path) -> None:
    images = images_of(write_mr_series(tmp_path, slices=3, rows=8, columns=8))
    assert time_frames(images) == [tuple(images)]


@pytest.mark.parametrize("keyword", ["TemporalPositionIdentifier", "TemporalPositionIndex"])
def test_a_dynamic_pet_without_image_index_is_told_apart_by_its_temporal_positions(
    tmp_path: Path, keyword: str
) -> None:
    def named(index: int, dataset: Dataset) -> None:
        del dataset.ImageIndex
        setattr(dataset, keyword, index // 4 + 1)

    files = write_dynamic_pet(tmp_path, each=named)
    assert [len(frame) for frame in time_frames(images_of(files))] == [4, 4, 4]
    for left in (files[:8], files[:-1], files[:4] + files[8:]):
        with pytest.raises(SeriesUnusable) as refusal:
            time_frames(images_of(left))
        assert refusal.value.reason_code == "temporal-incomplete"


def test_where_images_are_counted_their_count_decides_and_not_the_temporal_positions(tmp_path: Path) -> None:
    def wrong(index: int, dataset: Dataset) -> None:
        dataset.TemporalPositionIdentifier = str(index % 4 + 1)

    assert [len(frame) for frame in time_frames(images_of(write_dynamic_pet(tmp_path, each=wrong)))] == [4, 4, 4]
