"""What arrives is listed once and nothing is lost; a series is whole by evidence or by quiet time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicomnode.gather import expected_count, list_arrivals, slice_gap, whole_because
from storage import audit, catalog
from storage.catalog import Series, SeriesState
from storage.database import Database
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series

CT = "1.2.840.10008.5.1.4.1.1.2"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> InstanceFiles:
    return InstanceFiles(tmp_path / "var")


def arrive(files: InstanceFiles, paths: list[Path]) -> None:
    from pydicom import dcmread

    for path in paths:
        files.keep_arrival(dcmread(path).SOPInstanceUID, [path.read_bytes()])


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


def series(count: int, *, last: datetime = NOW) -> Series:
    return Series("1.2.3", "1.2", "scanner", SeriesState.OPEN, catalog.Origin.RECEIVED, 1, count, last, last, None, "")


def test_arrivals_are_listed_with_their_peer_and_settled(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    paths = write_ct_series(tmp_path / "source", slices=3)
    arrive(files, paths)
    grown = list_arrivals(database, files, peer_of=lambda title: f"peer of {title!r}")
    assert files.arrivals() == []
    with database.read() as connection:
        (listed,) = catalog.open_series(connection)
        assert {listed.series_instance_uid} == grown
        assert listed.instance_count == 3
        assert listed.peer == "peer of ''"
        for instance in catalog.series_instances(connection, listed.series_instance_uid):
            assert files.path_of(instance.sop_instance_uid).parent.parent.name == "instances"
            assert instance.sha256 == files.sha256_of(files.path_of(instance.sop_instance_uid))


def test_who_counts_is_told_of_each_new_instance_once(database: Database, files: InstanceFiles, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "source", slices=3)
    told: list[int] = []
    for _ in range(2):
        arrive(files, paths)
        list_arrivals(database, files, peer_of=str, listed=lambda new: told.append(len(new)))
    assert told == [3]


def test_a_crash_between_listing_and_settling_is_mended_at_the_next_look(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    paths = write_ct_series(tmp_path / "source", slices=2)
    arrive(files, paths)
    list_arrivals(database, files, peer_of=str)
    for path in (tmp_path / "var" / "instances").rglob("*.dcm"):
        path.rename(tmp_path / "var" / "arrivals" / path.name)  # as a crash before the move leaves it
    assert list_arrivals(database, files, peer_of=str) == set()
    assert files.arrivals() == []
    with database.read() as connection:
        assert catalog.open_series(connection)[0].instance_count == 2


def test_a_copy_with_other_content_left_by_a_power_cut_is_a_conflict_of_its_series(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    (source,) = write_ct_series(tmp_path / "source", slices=1)
    arrive(files, [source])
    (series_uid,) = list_arrivals(database, files, peer_of=str)
    (settled,) = (tmp_path / "var" / "instances").rglob("*.dcm")
    (tmp_path / "var" / "arrivals" / settled.name).write_bytes(settled.read_bytes()[:-2] + b"\x07\x01")
    list_arrivals(database, files, peer_of=str)
    with database.read() as connection:
        told = [entry.event for entry in audit.entries(connection, series_instance_uid=series_uid)]
    assert "conflict" in told, "a job on the series must find it"


def test_what_cannot_be_read_goes_to_quarantine_and_holds_up_nothing(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    files.keep_arrival("1.2.3.4", [b"\0" * 128 + b"DICM" + b"garbage" * 99])
    arrive(files, write_ct_series(tmp_path / "source", slices=1))
    assert len(list_arrivals(database, files, peer_of=str)) == 1
    assert files.arrivals() == []
    assert len(list((tmp_path / "var" / "quarantine").glob("*.dcm"))) == 1
    with database.read() as connection:
        assert any(entry.event == "quarantined" for entry in audit.entries(connection))


def test_a_late_instance_opens_the_series_again_and_is_audited(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    paths = write_ct_series(tmp_path / "source", slices=3)
    arrive(files, paths[:2])
    list_arrivals(database, files, peer_of=str)
    with database.begin() as connection:
        (whole,) = catalog.open_series(connection)
        catalog.close_series(
            connection, whole.series_instance_uid, generation=1, instance_count=2, because="quiet", now=NOW
        )
    arrive(files, paths[2:])
    list_arrivals(database, files, peer_of=str)
    with database.read() as connection:
        (again,) = catalog.open_series(connection)
        assert again.generation == 2
        assert any(entry.event == "late instances" for entry in audit.entries(connection))


def test_a_series_is_whole_when_everything_announced_is_here_without_a_gap() -> None:
    headers = [image(k, ImagesInAcquisition=4) for k in range(4)]
    soon = NOW + timedelta(seconds=1)
    assert "ImagesInAcquisition" in (whole_because(series(4), headers, quiet_seconds=60, now=soon) or "")
    assert whole_because(series(3), headers[:3], quiet_seconds=60, now=soon) is None


def test_a_count_per_acquisition_stands_a_second_for_another_acquisition_may_follow() -> None:
    headers = [image(k, ImagesInAcquisition=4) for k in range(4)]
    assert whole_because(series(4), headers, quiet_seconds=60, now=NOW + timedelta(seconds=0.9)) is None
    pet = [image(k, Modality="PT", NumberOfSlices=4) for k in range(4)]
    assert whole_because(series(4), pet, quiet_seconds=60, now=NOW) is not None


def test_a_count_reached_with_a_gap_waits_for_the_quiet_time_and_says_so() -> None:
    headers = [image(k, ImagesInAcquisition=4) for k in (0, 1, 2, 5)]
    assert whole_because(series(4), headers, quiet_seconds=60, now=NOW) is None
    later = whole_because(series(4), headers, quiet_seconds=60, now=NOW + timedelta(seconds=61))
    assert later is not None and "gap of 9.00 mm" in later


def test_a_series_that_announces_nothing_is_whole_after_the_quiet_time() -> None:
    headers = [image(k) for k in range(4)]
    assert whole_because(series(4), headers, quiet_seconds=5, now=NOW + timedelta(seconds=4.9)) is None
    assert whole_because(series(4), headers, quiet_seconds=5, now=NOW + timedelta(seconds=5)) is not None


def test_too_few_after_the_quiet_time_is_said() -> None:
    headers = [image(k, ImagesInAcquisition=9) for k in range(4)]
    because = whole_because(series(4), headers, quiet_seconds=5, now=NOW + timedelta(seconds=6))
    assert because is not None and "announced 9" in because and "4 images" in because


def test_pet_counts_slices_times_time_slices() -> None:
    headers = [image(k, Modality="PT", NumberOfSlices=4, NumberOfTimeSlices=3) for k in range(4)]
    assert expected_count(headers) == (12, "NumberOfSlices x NumberOfTimeSlices")
    static = [image(k, Modality="PT", NumberOfSlices=4) for k in range(4)]
    assert expected_count(static) == (4, "NumberOfSlices")


def test_images_in_acquisition_is_summed_over_the_acquisitions() -> None:
    first = [image(k, ImagesInAcquisition=2) for k in range(2)]
    second = [image(k + 2, ImagesInAcquisition=3, AcquisitionNumber=2) for k in range(3)]
    assert expected_count(first + second) == (5, "ImagesInAcquisition")
    assert expected_count([*first, image(9)]) is None


def test_a_localizer_does_not_count() -> None:
    headers = [image(k, ImagesInAcquisition=3) for k in range(3)]
    localizer = image(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImagesInAcquisition=1)
    assert expected_count([localizer, *headers]) == (3, "ImagesInAcquisition")
    soon = NOW + timedelta(seconds=1)
    assert whole_because(series(4), [localizer, *headers], quiet_seconds=60, now=soon) is not None


def test_jitter_is_no_gap() -> None:
    headers = [image(k, ImagePositionPatient=[0.0, 0.0, 3.0 * k + (0.05 if k % 2 else 0.0)]) for k in range(9)]
    assert slice_gap(headers) is None
    assert slice_gap([image(0), image(1)]) is None
