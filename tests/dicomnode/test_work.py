"""One waiting job to a derived series on our disk, or to a reason why not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicomnode.follow import Following
from dicomnode.passport import body_sha256, check_passport, exported_passport
from dicomnode.settings import NodeSettings
from dicomnode.work import Workshop, do_job, interrupt_jobs
from inference.errors import DeviceExhausted
from storage import audit, catalog, deliveries, jobs
from storage.catalog import Instance
from storage.database import Database
from storage.errors import DatabaseAway, StaleState
from storage.instance_files import InstanceFiles
from storage.jobs import Event, Job, NewJob, State
from storage.passport_files import PassportFiles
from tests.builders_dicom import ct_values, write_ct_series, write_pet_series
from tests.builders_stacks import by_slice

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
        passports=PassportFiles(tmp_path / "var"),
        node=NodeSettings(),
        limit_s=lambda pipeline: 600.0,
        retry_s=lambda attempts: 30.0,
        following=lambda job, images: Following((), ()),
    )
    database.close()


def waiting_job(
    workshop: Workshop,
    paths: list[Path],
    pipeline: str = "ct_denoising",
    key: str = "k",
    handling: dict[str, Any] | None = None,
    **settings: Any,
) -> int:
    uids = []
    for path in paths:
        uids.append(str(dcmread(path).SOPInstanceUID))
        workshop.files.keep_derived(uids[-1], path.read_bytes())
    source = dcmread(paths[0])
    with workshop.database.begin() as connection:
        new = NewJob(
            key, source.SeriesInstanceUID, source.StudyInstanceUID, 1, "rule", pipeline, "1", settings, tuple(uids), 1,
            ("pacs",), NOW, handling or {},
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
    assert do_job(job_id, replace(workshop, node=NodeSettings(content_qualification="PRODUCT"))) == State.DERIVED
    assert job(workshop, job_id).derived_series_instance_uid != first


def test_every_derived_series_has_a_passport_whose_hash_is_in_the_audit(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=2))
    do_job(job_id, workshop)
    with workshop.database.read() as connection:
        (row,) = [entry for entry in audit.entries(connection, job_id=job_id) if entry.event == "derived"]
    uid, sha256 = job(workshop, job_id).derived_series_instance_uid, row.details["passport_sha256"]
    body = json.loads(workshop.passports.read(uid, sha256))
    assert row.details["passport_sha256"] == body_sha256(body)
    passport = json.loads(exported_passport(body, row))
    files = {uid: workshop.files.path_of(uid) for uid in [one["sop_instance_uid"] for one in body["derived"]]}
    assert len(files) == 2 and all(finding.holds for finding in check_passport(passport, files))


def test_another_result_of_the_same_work_becomes_another_series_and_the_first_stays(
    workshop: Workshop, tmp_path: Path
) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=2))
    do_job(job_id, workshop)
    first = job(workshop, job_id).derived_series_instance_uid
    with workshop.database.begin() as connection:
        uid = catalog.instance_uids(connection, first)[1]
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.DERIVED, now=NOW)
        jobs.move_job(connection, job_id, Event.REQUEUE, expected=State.FAILED, now=NOW)
    left = workshop.files.path_of(uid)  # as if a device had computed another value then
    left.write_bytes(left.read_bytes()[:-2] + b"\x01\x02")
    assert do_job(job_id, workshop) == State.DERIVED
    second = job(workshop, job_id).derived_series_instance_uid
    assert second != first and left.read_bytes().endswith(b"\x01\x02")
    with workshop.database.read() as connection:
        assert "other result" in [entry.event for entry in audit.entries(connection, job_id=job_id)]
        rows = [entry for entry in audit.entries(connection, series_instance_uid=second) if entry.event == "derived"]
    kept = workshop.passports.read(second, rows[-1].details["passport_sha256"])
    passport = json.loads(exported_passport(json.loads(kept), rows[-1]))
    assert all(finding.holds for finding in check_passport(passport, {}))


def test_a_run_that_comes_to_nothing_harms_no_passport_that_stands(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    do_job(job_id, workshop)
    with workshop.database.begin() as connection:
        (row,) = [entry for entry in audit.entries(connection, job_id=job_id) if entry.event == "derived"]
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.DERIVED, now=NOW)
        jobs.move_job(connection, job_id, Event.REQUEUE, expected=State.FAILED, now=NOW)

    def ended_by_its_limit(done: Job, images: Sequence[Instance]) -> Following:
        with workshop.database.begin() as connection:
            jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.RUNNING, now=NOW)
        return Following((), ())

    assert do_job(job_id, replace(workshop, following=ended_by_its_limit)) == "stale"
    uid = str(row.details["derived_series_instance_uid"])
    body = json.loads(workshop.passports.read(uid, str(row.details["passport_sha256"])))
    assert body_sha256(body) == row.details["passport_sha256"]


def test_a_run_that_ends_just_after_its_stop_is_not_over_and_goes_on(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))

    def told_to_stop(done: Job, images: Sequence[Instance]) -> Following:
        interrupt_jobs(workshop)
        return Following((), ())

    with pytest.raises(StaleState):  # for the engine: the run is done again, here or at the next start
        do_job(job_id, replace(workshop, following=told_to_stop))
    assert job(workshop, job_id).state is State.WAITING
    assert do_job(job_id, workshop) == State.DERIVED


def test_a_fault_just_after_the_stop_does_not_end_the_run_either(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))

    def told_to_stop(done: Job, images: Sequence[Instance]) -> Following:
        interrupt_jobs(workshop)
        raise ArithmeticError("odd")

    with pytest.raises(StaleState):
        do_job(job_id, replace(workshop, following=told_to_stop))
    assert do_job(job_id, workshop) == State.DERIVED


def test_what_stands_beside_is_listed_audited_and_sent_with_the_images(workshop: Workshop, tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source", slices=2)
    job_id = waiting_job(workshop, files, handling={"also": ["text_report", "uncertainty_map"]})
    do_job(job_id, workshop)
    with workshop.database.read() as connection:
        (row,) = [entry for entry in audit.entries(connection, job_id=job_id) if entry.event == "derived"]
        ((report_uid, description),) = row.details["beside"].items()
        (report,) = catalog.series_instances(connection, report_uid)
        wanted = deliveries.unsent(connection, job_id, "pacs")
        assert [entry.event for entry in audit.entries(connection, series_instance_uid=report_uid)]
    assert report.header["Modality"] == "SR" and description
    assert report.sop_instance_uid in wanted and len(wanted) == 3
    assert any("no uncertainty map" in note for note in row.details["notes"])


def test_a_stack_that_is_refused_does_not_keep_the_others_back_and_is_named(workshop: Workshop, tmp_path: Path) -> None:
    values = ct_values(8, 64, 64)
    values[4:] = -1000
    kernels = by_slice(of=4, ConvolutionKernel=["B30f", "B70f"])
    job_id = waiting_job(
        workshop,
        write_ct_series(tmp_path / "source", values=values, each=kernels),
        handling={"split_mixed": True},
    )
    assert do_job(job_id, workshop) == State.DERIVED
    done = job(workshop, job_id)
    assert done.reason_code == "partly-refused"
    assert "B70f" in done.reason and "no-body-seen" in done.reason


def test_what_follows_waits_on_what_was_derived(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=2))

    def following(done: Job, images: Sequence[Instance]) -> Following:
        uids = tuple(image.sop_instance_uid for image in images)
        new = NewJob(
            "f", images[0].series_instance_uid, done.study_instance_uid, 1, "then", "ct_denoising", "1", {}, uids, 1,
            ("pacs",), NOW, {"follows": True},
        )  # fmt: skip
        return Following((new,) if done.rule == "rule" else (), ({"rule": "then", "met": True, "reason": "match"},))

    chained = replace(workshop, following=following)
    do_job(job_id, chained)
    with workshop.database.read() as connection:
        (follower,) = jobs.waiting_jobs(connection, NOW)
    assert follower.series_instance_uid == job(workshop, job_id).derived_series_instance_uid
    assert do_job(follower.id, chained) == State.DERIVED
    with workshop.database.read() as connection:
        uids = catalog.instance_uids(connection, job(workshop, follower.id).derived_series_instance_uid)
    derived = dcmread(workshop.files.path_of(uids[0]))
    assert list(derived.ImageType)[-1] == "DENOISED" and len(derived.ContributingEquipmentSequence) >= 3


def test_our_own_output_is_refused_where_no_rule_follows(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=2))
    do_job(job_id, workshop)
    with workshop.database.read() as connection:
        uids = catalog.instance_uids(connection, job(workshop, job_id).derived_series_instance_uid)
    again = waiting_job(workshop, [workshop.files.path_of(uid) for uid in uids], key="again")
    assert do_job(again, workshop) == State.REFUSED
    assert job(workshop, again).reason_code == "own-output"


def test_a_conflict_of_the_series_flags_its_job(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    with workshop.database.begin() as connection:
        uid = jobs.get_job(connection, job_id).series_instance_uid
        audit.append(connection, "conflict", series_instance_uid=uid, details={"status": "0x0111"})
    do_job(job_id, workshop)
    done = job(workshop, job_id)
    assert done.reason_code == "conflict" and "first copies were used" in done.reason


def test_an_exhausted_device_is_tried_again_later(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise DeviceExhausted("out of memory")

    monkeypatch.setattr("dicomnode.produce.run_pipeline", exhausted)
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    assert do_job(job_id, workshop) == State.WAITING
    waiting = job(workshop, job_id)
    assert waiting.not_before is not None and waiting.not_before > datetime.now(UTC)


def test_an_unnamed_fault_fails_the_job_and_its_words_stay_out_of_the_record(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("cannot parse 'Doe^John'")

    monkeypatch.setattr("dicomnode.produce.run_pipeline", broken)
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

    monkeypatch.setattr("dicomnode.produce.run_pipeline", superseded_meanwhile)
    assert do_job(job_id, workshop) == "stale"
    assert job(workshop, job_id).state is State.SUPERSEDED
    with workshop.database.read() as connection:
        assert catalog.list_series(connection) == []


def test_a_job_that_is_over_is_left_alone(workshop: Workshop, tmp_path: Path) -> None:
    job_id = waiting_job(workshop, write_ct_series(tmp_path / "source", slices=1))
    with workshop.database.begin() as connection:
        jobs.move_job(connection, job_id, Event.GIVE_UP, expected=State.WAITING, now=NOW)
    assert do_job(job_id, replace(workshop, worker="other")) == State.FAILED
