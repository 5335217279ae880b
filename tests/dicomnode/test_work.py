"""One waiting job to a derived series on our disk, or to a reason why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicomnode.work import Workshop, do_job, interrupt_jobs
from inference.errors import DeviceExhausted
from storage import audit, catalog, jobs
from storage.database import Database
from storage.errors import DatabaseAway
from storage.instance_files import InstanceFiles
from storage.jobs import Event, NewJob, State
from tests.builders_dicom import write_ct_series, write_pet_series

NOW = datetime.now(UTC)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    yield Workshop(
        database=database,
        files=InstanceFiles(tmp_path / "var"),
        worker="host/work-0",
        deployment_uuid=database.deployment_uuid(),
        content_qualification="RESEARCH",
        crash_attempts=3,
        accept_lossy=False,
        limit_s=lambda pipeline: 600.0,
        retry_s=lambda attempts: 30.0,
    )
    database.close()


def waiting_job(workshop: Workshop, paths: list[Path], pipeline: str = "ct_denoising", **settings: Any) -> int:
    uids = []
    for path in paths:
        uids.append(str(dcmread(path).SOPInstanceUID))
        workshop.files.keep_derived(uids[-1], path.read_bytes())
    source = dcmread(paths[0])
    with workshop.database.begin() as connection:
        new = NewJob(
            "k", source.SeriesInstanceUID, source.StudyInstanceUID, 1, "rule", pipeline, "1", settings, tuple(uids), 1,
            ("pacs",), NOW,
        )  # fmt: skip
        return jobs.add_job(connection, new)[0].id


def job(workshop: Workshop, job_id: int) -> jobs.Job:
    with workshop.database.read() as connection:
        return jobs.get_job(connection, job_id)


def test_a_waiting_job_becomes_a_derived_series_on_our_disk(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=3))
    assert do_job(job_id, workshop) == State.DERIVED
    done = job(workshop, job_id)
    with workshop.database.read() as connection:
        uids = catalog.instance_uids(connection, done.derived_series_instance_uid)
        assert any(entry.event == "derived" for entry in audit.entries(connection, job_id=job_id))
    assert len(uids) == 3
    for uid in uids:
        assert dcmread(workshop.files.path_of(uid)).SeriesInstanceUID == done.derived_series_instance_uid


def test_doing_it_twice_is_harmless_and_gives_the_same_bytes(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=2))
    do_job(job_id, workshop)
    before = {path.name: path.read_bytes() for path in (tmp_path / "var" / "instances").rglob("*.dcm")}
    assert do_job(job_id, workshop) == State.DERIVED
    with workshop.database.begin() as connection:
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.DERIVED, now=NOW)
        jobs.move_job(connection, job_id, Event.REQUEUE, expected=State.FAILED, now=NOW)
    assert do_job(job_id, workshop) == State.DERIVED
    assert {path.name: path.read_bytes() for path in (tmp_path / "var" / "instances").rglob("*.dcm")} == before


def test_what_cannot_be_done_honestly_is_refused_with_code_and_sentence(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_pet_series(tmp_path / "pet"), "pet_to_ct")
    assert do_job(job_id, workshop) == State.REFUSED
    refused = job(workshop, job_id)
    assert refused.reason_code == "already-attenuation-corrected" and refused.reason


def test_a_series_that_is_no_volume_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=3, ImagePositionPatient=None))
    assert do_job(job_id, workshop) == State.REFUSED


def test_a_job_found_running_is_done_again_until_it_crashed_too_often(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    for expected in (State.WAITING, State.RUNNING, State.RUNNING):  # three claims whose workers died
        with workshop.database.begin() as connection:
            jobs.move_job(connection, job_id, Event.CLAIM, expected=expected, worker="dead", now=NOW)
    assert do_job(job_id, workshop) == State.FAILED
    assert job(workshop, job_id).reason_code == "worker-crashed"


def test_retries_and_planned_stops_are_no_crashes(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    for _ in range(4):
        with workshop.database.begin() as connection:
            jobs.move_job(connection, job_id, Event.CLAIM, expected=State.WAITING, worker=workshop.worker, now=NOW)
        assert [one.state for one in interrupt_jobs(workshop)] == [State.WAITING]
    assert job(workshop, job_id).crashes == 0
    assert do_job(job_id, workshop) == State.DERIVED


def test_a_database_that_is_away_when_the_work_is_done_loses_nothing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    real, failures = catalog.add_derived_series, [1, 2]

    def away_twice(*arguments: Any) -> None:
        if failures:
            failures.pop()
            raise DatabaseAway("locked")
        real(*arguments)

    monkeypatch.setattr(catalog, "add_derived_series", away_twice)
    assert do_job(job_id, workshop) == State.DERIVED
    assert job(workshop, job_id).attempts == 1


def test_another_qualification_makes_other_uids_never_other_bytes_under_the_same(
    workshop: Workshop, tmp_path: Path
) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    do_job(job_id, workshop)
    first = job(workshop, job_id).derived_series_instance_uid
    with workshop.database.begin() as connection:
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.DERIVED, now=NOW)
        jobs.move_job(connection, job_id, Event.REQUEUE, expected=State.FAILED, now=NOW)
    assert do_job(job_id, replace(workshop, content_qualification="PRODUCT")) == State.DERIVED
    assert job(workshop, job_id).derived_series_instance_uid != first


def test_an_exhausted_device_is_tried_again_later(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise DeviceExhausted("out of memory")

    monkeypatch.setattr("dicomnode.work.run_pipeline", exhausted)
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    assert do_job(job_id, workshop) == State.WAITING
    waiting = job(workshop, job_id)
    assert waiting.not_before is not None and waiting.not_before > datetime.now(UTC)


def test_an_unnamed_fault_fails_the_job_and_its_words_stay_out_of_the_record(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("cannot parse 'Doe^John'")

    monkeypatch.setattr("dicomnode.work.run_pipeline", broken)
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    assert do_job(job_id, workshop) == State.FAILED
    failed = job(workshop, job_id)
    assert failed.reason_code == "ValueError" and "test_work.py" in failed.reason and "Doe" not in failed.reason


def test_a_job_superseded_while_it_runs_keeps_nothing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.pipeline import run_pipeline

    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))

    def superseded_meanwhile(*arguments: Any) -> Any:
        with workshop.database.begin() as connection:
            jobs.move_job(connection, job_id, Event.SUPERSEDE, expected=State.RUNNING, now=NOW)
        return run_pipeline(*arguments)

    monkeypatch.setattr("dicomnode.work.run_pipeline", superseded_meanwhile)
    assert do_job(job_id, workshop) == "stale"
    assert job(workshop, job_id).state is State.SUPERSEDED
    with workshop.database.read() as connection:
        assert catalog.list_series(connection) == []


def test_a_job_that_is_over_is_left_alone(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    with workshop.database.begin() as connection:
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.WAITING, now=NOW)
    assert do_job(job_id, replace(workshop, worker="other")) == State.FAILED
