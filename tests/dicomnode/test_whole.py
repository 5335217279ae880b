"""A series is whole by evidence or by quiet time, and its numbers kept one by one say what all its headers say."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from dicomnode.rules import deciding_headers
from dicomnode.whole import Tally, expected_count, slice_gap, whole_because
from storage import catalog
from storage.catalog import Instance, Series, SeriesState

CT = "1.2.840.10008.5.1.4.1.1.2"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def image(k: int, **attributes: Any) -> dict[str, Any]:
    return {
        "SOPClassUID": CT,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "AcquisitionNumber": 1,
        "ImagePositionPatient": [0.0, 0.0, 3.0 * k],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        **attributes,
    }


def instance(number: int, header: Mapping[str, Any]) -> Instance:
    return Instance(f"1.2.3.{number:05}", CT, "1.2.840.10008.1.2.1", "1.2.3", "1.2", "scanner", NOW, "", 0, header)


def told(headers: Sequence[Mapping[str, Any]]) -> Tally:
    return Tally(instance(number, header) for number, header in enumerate(headers))


def series(count: int, *, last: datetime = NOW) -> Series:
    return Series("1.2.3", "1.2", "scanner", SeriesState.OPEN, catalog.Origin.RECEIVED, 1, count, last, last, None, "")


def test_a_series_is_whole_when_everything_announced_is_here_without_a_gap() -> None:
    headers = [image(k, ImagesInAcquisition=4) for k in range(4)]
    soon = NOW + timedelta(seconds=1)
    assert "ImagesInAcquisition" in (whole_because(series(4), told(headers), quiet_seconds=60, now=soon) or "")
    assert whole_because(series(3), told(headers[:3]), quiet_seconds=60, now=soon) is None


def test_a_count_per_acquisition_stands_a_second_for_another_acquisition_may_follow() -> None:
    headers = [image(k, ImagesInAcquisition=4) for k in range(4)]
    assert whole_because(series(4), told(headers), quiet_seconds=60, now=NOW + timedelta(seconds=0.9)) is None
    pet = [image(k, Modality="PT", NumberOfSlices=4) for k in range(4)]
    assert whole_because(series(4), told(pet), quiet_seconds=60, now=NOW) is not None


def test_a_count_reached_with_a_gap_waits_for_the_quiet_time_and_says_so() -> None:
    headers = [image(k, ImagesInAcquisition=4) for k in (0, 1, 2, 5)]
    assert whole_because(series(4), told(headers), quiet_seconds=60, now=NOW) is None
    later = whole_because(series(4), told(headers), quiet_seconds=60, now=NOW + timedelta(seconds=61))
    assert later is not None and "gap of 9.00 mm" in later


def test_a_series_that_announces_nothing_is_whole_after_the_quiet_time() -> None:
    headers = [image(k) for k in range(4)]
    assert whole_because(series(4), told(headers), quiet_seconds=5, now=NOW + timedelta(seconds=4.9)) is None
    assert whole_because(series(4), told(headers), quiet_seconds=5, now=NOW + timedelta(seconds=5)) is not None


def test_too_few_after_the_quiet_time_is_said() -> None:
    headers = [image(k, ImagesInAcquisition=9) for k in range(4)]
    because = whole_because(series(4), told(headers), quiet_seconds=5, now=NOW + timedelta(seconds=6))
    assert because is not None and "announced 9" in because and "4 images" in because


def test_pet_counts_slices_times_time_slices() -> None:
    headers = [image(k, Modality="PT", NumberOfSlices=4, NumberOfTimeSlices=3) for k in range(4)]
    assert expected_count(told(headers)) == (12, "NumberOfSlices x NumberOfTimeSlices")
    static = [image(k, Modality="PT", NumberOfSlices=4) for k in range(4)]
    assert expected_count(told(static)) == (4, "NumberOfSlices")


def test_images_in_acquisition_is_summed_over_the_acquisitions() -> None:
    first = [image(k, ImagesInAcquisition=2) for k in range(2)]
    second = [image(k + 2, ImagesInAcquisition=3, AcquisitionNumber=2) for k in range(3)]
    assert expected_count(told(first + second)) == (5, "ImagesInAcquisition")
    assert expected_count(told([*first, image(9)])) is None


def test_a_localizer_does_not_count() -> None:
    headers = [image(k, ImagesInAcquisition=3) for k in range(3)]
    localizer = image(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImagesInAcquisition=1)
    assert expected_count(told([localizer, *headers])) == (3, "ImagesInAcquisition")
    soon = NOW + timedelta(seconds=1)
    assert whole_because(series(4), told([localizer, *headers]), quiet_seconds=60, now=soon) is not None


def test_jitter_is_no_gap() -> None:
    headers = [image(k, ImagePositionPatient=[0.0, 0.0, 3.0 * k + (0.05 if k % 2 else 0.0)]) for k in range(9)]
    assert slice_gap(told(headers)) is None
    assert slice_gap(told([image(0), image(1)])) is None


def expected_of_all(headers: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
    """The same asked of every header at once, as plainly as it can be said."""
    images = deciding_headers(headers)
    if not images:
        return None
    if images[0].get("Modality") == "PT":
        slices = {one.get("NumberOfSlices") for one in images}
        times = {one.get("NumberOfTimeSlices", 1) or 1 for one in images}
        if len(slices) == 1 and len(times) == 1 and (number := slices.pop()):
            by = times.pop()
            return number * by, "NumberOfSlices" if by == 1 else "NumberOfSlices x NumberOfTimeSlices"
    announced: dict[Any, set[Any]] = {}
    for one in images:
        announced.setdefault(one.get("AcquisitionNumber"), set()).add(one.get("ImagesInAcquisition"))
    if any(len(counts) != 1 or not next(iter(counts)) for counts in announced.values()):
        return None
    return sum(next(iter(counts)) for counts in announced.values()), "ImagesInAcquisition"


def places_of_all(headers: Sequence[Mapping[str, Any]]) -> list[float] | None:
    found = []
    for one in deciding_headers(headers):
        position, orientation = one.get("ImagePositionPatient"), one.get("ImageOrientationPatient")
        if not position or not orientation or len(position) != 3 or len(orientation) != 6:
            return None
        found.append(float(np.dot(np.cross(orientation[:3], orientation[3:]), position)))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_numbers_kept_one_by_one_say_what_all_headers_say(seed: int) -> None:
    chance = random.Random(seed)
    modality, count = chance.choice(["PT", "CT"]), chance.randrange(1, 12)
    headers = []
    for k in range(count):
        header = image(k, Modality=modality)
        if chance.random() < 0.8:
            header["NumberOfSlices"] = header["ImagesInAcquisition"] = chance.choice([count, count, 5])
        if chance.random() < 0.3:
            header["NumberOfTimeSlices"] = chance.choice([0, 1, 2])
        if chance.random() < 0.2:
            header["AcquisitionNumber"] = chance.choice([2, None])
        if chance.random() < 0.2:
            header["ImageType"] = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        if chance.random() < 0.1:
            header["ImagePositionPatient"] = chance.choice([None, [], [1.0]])
        header["ImageOrientationPatient"] = chance.choice([[0.6, 0.8, 0.0, 0.0, 0.0, 1.0], [1.0, 0, 0, 0, 1.0, 0]])
        headers.append(header)
    came = [instance(number, header) for number, header in enumerate(headers)]
    chance.shuffle(came)
    tally = Tally()
    for one in came:
        tally.add(one)
    assert tally.instance_count == count
    assert tally.deciding.count == len(deciding_headers(headers))
    assert expected_count(tally) == expected_of_all(headers)
    places = places_of_all(headers)
    if places is None:
        assert tally.deciding.places_mm is None
    else:
        assert sorted(tally.deciding.places_mm or []) == pytest.approx(sorted(places))
