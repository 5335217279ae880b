"""What arrives is listed once, in its order, and nothing is lost, whatever the disk does meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode import gather
from dicomnode.gather import list_arrivals
from storage import audit, catalog
from storage.database import Database
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> InstanceFiles:
    return InstanceFiles(tmp_path / "var")


def arrive(files: InstanceFiles, paths: list[Path]) -> None:
    for path in paths:
        files.keep_arrival(dcmread(path).SOPInstanceUID, [path.read_bytes()])


def test_arrivals_are_listed_with_their_peer_and_settled(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    paths = write_ct_series(tmp_path / "source", slices=3)
    arrive(files, paths)
    found = list_arrivals(database, files, peer_of=lambda title: f"peer of {title!r}")
    assert files.arrivals() == []
    with database.read() as connection:
        (listed,) = catalog.open_series(connection)
        assert {listed.series_instance_uid} == found.grown
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
    files.tidy()
    for path in (tmp_path / "var" / "instances").rglob("*.dcm"):
        path.rename(tmp_path / "var" / "arrivals" / path.name)  # as a crash before the move leaves it
    assert list_arrivals(database, files, peer_of=str).grown == frozenset()
    assert files.arrivals() == []
    with database.read() as connection:
        assert catalog.open_series(connection)[0].instance_count == 2


def test_a_copy_with_other_content_left_by_a_power_cut_is_a_conflict_of_its_series(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    (source,) = write_ct_series(tmp_path / "source", slices=1)
    arrive(files, [source])
    (series_uid,) = list_arrivals(database, files, peer_of=str).grown
    files.tidy()
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
    assert len(list_arrivals(database, files, peer_of=str).grown) == 1
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


def test_a_look_lists_so_many_at_most_the_oldest_first_and_says_that_more_wait(
    database: Database, files: InstanceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "BATCH", 2)
    arrive(files, write_ct_series(tmp_path / "source", slices=7))
    order = files.arrivals()
    told: list[str] = []
    more = []
    while files.arrivals():
        look = list_arrivals(
            database, files, peer_of=str, most=3, listed=lambda new: told.extend(one.sop_instance_uid for one in new)
        )
        more.append((look.count, look.more))
    assert more == [(3, True), (3, True), (1, False)]
    assert [files.places_of(uid)[1] for uid in told] == order


def test_a_file_that_the_disk_cannot_read_is_passed_over_stays_and_holds_up_nothing(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    arrive(files, write_ct_series(tmp_path / "source", slices=2))
    sick = tmp_path / "var" / "arrivals" / "0.dcm"
    sick.mkdir()  # reading it is an error of the disk, not of its content
    passed_over: set[Path] = set()
    assert list_arrivals(database, files, peer_of=str, passed_over=passed_over).count == 3
    assert passed_over == {sick} and files.arrivals() == [sick]
    assert list_arrivals(database, files, peer_of=str, passed_over=passed_over).count == 0
    with database.read() as connection:
        assert catalog.open_series(connection)[0].instance_count == 2


def test_a_quarantine_that_takes_nothing_loses_nothing_and_holds_up_nothing(
    database: Database, files: InstanceFiles, tmp_path: Path
) -> None:
    files.keep_arrival("1.2.3.4", [b"garbage" * 99])
    (garbage,) = files.arrivals()
    arrive(files, write_ct_series(tmp_path / "source", slices=1))
    blocked = tmp_path / "var" / "quarantine" / f"{garbage.name}.reason.txt"
    blocked.mkdir()  # no file can take this name
    passed_over: set[Path] = set()
    assert len(list_arrivals(database, files, peer_of=str, passed_over=passed_over).grown) == 1
    assert passed_over == {garbage} == set(files.arrivals())
    blocked.rmdir()
    list_arrivals(database, files, peer_of=str)
    assert files.arrivals() == [] and blocked.is_file()


DIES = """
import os, signal, sys
from pathlib import Path
from dicomnode.gather import list_arrivals
from storage import instance_files
from storage.database import Database
from storage.instance_files import InstanceFiles

name, after = sys.argv[2], int(sys.argv[3])
owner = {"hardlink_to": Path, "unlink": Path, "settle_all": InstanceFiles, "tidy": InstanceFiles}.get(name)
owner = owner or instance_files
real = getattr(owner, name)

def dying(*arguments, **more):
    global after
    if after == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    after -= 1
    return real(*arguments, **more)

database, files = Database.open(f"sqlite:///{sys.argv[1]}/node.sqlite"), InstanceFiles(Path(sys.argv[1]) / "var")
setattr(owner, name, dying)
list_arrivals(database, files, peer_of=str)
files.tidy()
"""


@pytest.mark.parametrize(
    ("step", "after"), [("settle_all", 0), ("hardlink_to", 2), ("tidy", 0), ("sync_folder", 1), ("unlink", 2)]
)
def test_killed_between_any_two_steps_nothing_is_lost_and_the_next_look_mends_it(
    database: Database, files: InstanceFiles, tmp_path: Path, step: str, after: int
) -> None:
    paths = write_ct_series(tmp_path / "source", slices=6)
    arrive(files, paths)
    command = [sys.executable, "-c", DIES, str(tmp_path), step, str(after)]
    died = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    uids = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths}
    assert all(files.path_of(uid).read_bytes() == path.read_bytes() for uid, path in uids.items())
    again = InstanceFiles(tmp_path / "var")
    list_arrivals(database, again, peer_of=str)
    again.tidy()
    assert list((tmp_path / "var" / "arrivals").iterdir()) == []
    assert {path.name for path in (tmp_path / "var" / "instances").rglob("*.dcm")} == {
        files.places_of(uid)[0].name for uid in uids
    }
    with database.read() as connection:
        assert catalog.open_series(connection)[0].instance_count == 6
