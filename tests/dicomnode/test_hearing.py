"""Quiet is what the node has listened to: no pause of its own and no instance on its way makes a series whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.hearing import HELD_S, LONGEST_LOOK_S, Hearing, series_of_part
from storage.catalog import Origin, Series, SeriesState
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series

CAME = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


class Machine:
    """A clock, and looks at what arrived in which everything that came is listed."""

    def __init__(self, folder: Path) -> None:
        self.now_s, self.day = 1000.0, CAME
        self.files = InstanceFiles(folder)
        self.hearing = Hearing(self.files, clock=lambda: self.now_s)

    def stand_still(self, seconds: float) -> None:
        self.now_s += seconds
        self.day += timedelta(seconds=seconds)

    def look(self, series: Series, *, enough_s: float = 5.0) -> float:
        self.hearing.look()
        self.hearing.listed(self.day)
        return self.hearing.quiet_s(series, enough_s=enough_s)

    def go_on(self, series: Series, seconds: float) -> float:
        """A look each quarter of a second; how quiet it was at the last."""
        quiet_s = self.look(series)
        for _ in range(round(seconds * 4)):
            self.stand_still(0.25)
            quiet_s = self.look(series)
        return quiet_s


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "var")


def series(uid: str = "1.2.3", *, count: int = 2, came: datetime = CAME) -> Series:
    return Series(
        uid,
        "1.2",
        "scanner",
        SeriesState.OPEN,
        Origin.RECEIVED,
        1,
        count,
        came,
        came,
        closed_at=None,
        closed_because="",
    )


@contextmanager
def being_received(files: InstanceFiles, path: Path, *, octets: int = 4096) -> Iterator[None]:
    """The file's first bytes have come, and no more do."""
    arrival = files.open_arrival(str(dcmread(path).SOPInstanceUID))
    try:
        arrival.write(path.read_bytes()[:octets])
        yield
    finally:
        arrival.close()


def test_quiet_is_the_time_since_the_last_instance(machine: Machine) -> None:
    assert machine.go_on(series(), 3.0) == 3.0
    assert machine.go_on(series(), 2.5) == 5.5
    assert machine.go_on(series(count=3, came=machine.day), 1.0) == 1.0


def test_a_pause_of_the_machine_is_not_the_senders_silence(machine: Machine) -> None:
    machine.go_on(series(), 1.0)
    machine.stand_still(60.0)
    assert machine.look(series()) == 1.0 + LONGEST_LOOK_S
    assert machine.go_on(series(), 2.0) == 5.0


def test_after_a_start_every_series_has_its_time(machine: Machine) -> None:
    old = series(came=CAME - timedelta(hours=1))
    assert machine.look(old) == 0.0
    assert machine.go_on(old, 5.0) == 5.0


def test_only_what_is_listed_counts_as_quiet(machine: Machine) -> None:
    machine.go_on(series(), 4.0)
    machine.stand_still(2.0)
    machine.hearing.look()  # the database is away: nothing is listed
    assert machine.hearing.quiet_s(series(), enough_s=5.0) == 4.0


def test_a_clock_that_is_set_makes_no_series_whole_and_holds_none_back_longer_than_that(machine: Machine) -> None:
    machine.go_on(series(), 1.0)
    machine.day += timedelta(hours=1)
    assert machine.go_on(series(), 0.25) == 1.25


def test_a_series_of_which_an_instance_is_being_received_is_not_quiet(machine: Machine, tmp_path: Path) -> None:
    (path,) = write_ct_series(tmp_path / "source", slices=1)
    ours, other = series(str(dcmread(path).SeriesInstanceUID)), series("1.2.3")
    with being_received(machine.files, path):
        assert machine.go_on(ours, 20.0) == 0.0
        machine.look(other)
        assert machine.go_on(other, 6.0) == 6.0
    assert machine.go_on(ours, 0.25) > 5.0


def test_one_that_begins_to_come_in_the_moment_before_the_series_would_close_is_seen(
    machine: Machine, tmp_path: Path
) -> None:
    (path,) = write_ct_series(tmp_path / "source", slices=1)
    ours = series(str(dcmread(path).SeriesInstanceUID))
    machine.go_on(ours, 4.75)
    with being_received(machine.files, path):
        assert machine.go_on(ours, 1.0) == 0.0


def test_an_instance_that_never_ends_does_not_hold_its_series_for_ever(machine: Machine, tmp_path: Path) -> None:
    (path,) = write_ct_series(tmp_path / "source", slices=1)
    ours = series(str(dcmread(path).SeriesInstanceUID))
    with being_received(machine.files, path):
        assert machine.go_on(ours, 10.0) == 0.0
        machine.stand_still(HELD_S)
        assert machine.go_on(ours, 0.25) > 5.0


def test_a_series_closes_at_the_first_look_after_its_quiet_time(machine: Machine) -> None:
    quick = replace(series(), series_instance_uid="1.2.4")
    assert machine.look(quick, enough_s=0.25) == 0.0
    machine.stand_still(0.25)
    assert machine.look(quick, enough_s=0.25) == 0.25


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_the_beginning_of_a_file_tells_its_series(machine: Machine, tmp_path: Path, syntax: str | None) -> None:
    (path,) = write_ct_series(tmp_path / "source", slices=1)
    dataset = dcmread(path)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
    with being_received(machine.files, path):
        (part,) = machine.files.coming()
        assert series_of_part(part) == dataset.SeriesInstanceUID
    assert series_of_part(part) == "", "it is gone"


@pytest.mark.parametrize("octets", [0, 100, 132, 200, 400])
def test_too_short_a_beginning_tells_nothing(machine: Machine, tmp_path: Path, octets: int) -> None:
    (path,) = write_ct_series(tmp_path / "source", slices=1)
    with being_received(machine.files, path, octets=octets):
        (part,) = machine.files.coming()
        assert series_of_part(part) == ""
