"""A job with an open need waits and says for what; filled it is ready, and a requeue looks for everything anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from storage import audit, catalog, jobs, needs
from storage.database import Database
from storage.job_rows import Need
from storage.jobs import Event, Job, State
from storage.retention import family_of
from tests.builders_standing import MOMENT, instance, new_job

NOW = datetime.now(UTC)
CT, PET = "1.2.3.5", "1.2.3.4"


@pytest.fixture
def job(database: Database) -> Job:
    with database.begin() as connection:
        for series in (PET, CT):
            catalog.add_instances(connection, [instance(1, series=series), instance(2, series=series)])
            catalog.close_series(connection, series, generation=1, instance_count=2, because="test", now=MOMENT)
        wanted = (Need("ct", {"modality": "CT"}, 100.0), Need("mr", {"modality": "MR"}, 200.0))
        return jobs.add_job(connection, new_job(created_at=NOW, needs=wanted))[0]


def fill_all(database: Database) -> None:
    with database.begin() as connection:
        chosen = catalog.get_series(connection, CT)
        for need in needs.open_needs(connection):
            assert needs.fill(connection, need, chosen, [f"{CT}.2", f"{CT}.1"], why="the only one")


def test_nobody_may_claim_a_job_that_lacks_an_input(database: Database, job: Job) -> None:
    with database.read() as connection:
        assert jobs.waiting_jobs(connection, NOW) == []
        found = needs.open_needs(connection)
    assert [(need.job_id, need.slot, need.tries) for need in found] == [(job.id, "ct", 0), (job.id, "mr", 0)]
    assert [need.give_up_at for need in found] == [NOW + timedelta(seconds=100), NOW + timedelta(seconds=200)]
    fill_all(database)
    with database.read() as connection:
        assert [one.id for one in jobs.waiting_jobs(connection, NOW)] == [job.id]


def test_a_waiting_job_says_for_what_it_waits(database: Database, job: Job) -> None:
    with database.begin() as connection:
        first = needs.open_needs(connection)[0]
        needs.note(connection, first, "pacs: holds none", tries=1, next_try_at=NOW)
        assert jobs.get_job(connection, job.id).reason == "waits for ct: pacs: holds none; waits for mr"
        assert needs.open_needs(connection)[0].tries == 1
    fill_all(database)
    with database.read() as connection:
        assert jobs.get_job(connection, job.id).reason == ""


def test_what_was_chosen_is_read_as_it_was_then_and_is_in_the_audit(database: Database, job: Job) -> None:
    fill_all(database)
    with database.begin() as connection:
        found = needs.inputs_of(connection, job.id)
        rows = [entry for entry in audit.entries(connection, series_instance_uid=PET) if entry.event == "input chosen"]
    assert [one.study_instance_uid for one in found] == ["1.2.3", "1.2.3"]
    assert [(one.slot, one.series_instance_uid, one.sop_instance_uids) for one in found] == [
        ("ct", CT, (f"{CT}.2", f"{CT}.1")),
        ("mr", CT, (f"{CT}.2", f"{CT}.1")),
    ]
    assert rows[0].details["input_series_instance_uid"] == CT and rows[0].job_id == job.id


def test_a_need_is_filled_once_and_only_while_its_job_waits(database: Database, job: Job) -> None:
    with database.begin() as connection:
        first, second = needs.open_needs(connection)
        chosen = catalog.get_series(connection, CT)
        assert needs.fill(connection, first, chosen, [f"{CT}.1"], why="")
        assert not needs.fill(connection, first, chosen, [f"{CT}.1"], why="")
        jobs.move_job(connection, job.id, Event.SUPERSEDE, expected=State.WAITING, now=NOW)
        assert not needs.fill(connection, second, chosen, [f"{CT}.1"], why="")
        assert needs.open_needs(connection) == []


def test_a_requeue_looks_for_every_input_anew_with_the_whole_time(database: Database, job: Job) -> None:
    later = NOW + timedelta(hours=1)
    with database.begin() as connection:
        first = needs.open_needs(connection)[0]
        needs.fill(connection, first, catalog.get_series(connection, CT), [f"{CT}.1"], why="")
        jobs.move_job(connection, job.id, Event.REFUSE, expected=State.WAITING, reason_code="input-missing", now=NOW)
        jobs.move_job(connection, job.id, Event.REQUEUE, expected=State.REFUSED, now=later)
        found = needs.open_needs(connection)
        assert [one.slot for one in found] == ["ct", "mr"]
        assert found[0].give_up_at == later + timedelta(seconds=100)
        assert needs.inputs_of(connection, job.id)[0].sop_instance_uids == ()


def test_retention_leaves_what_a_job_may_still_read(database: Database, job: Job) -> None:
    with database.read() as connection:
        assert not needs.is_needed(connection, CT) and family_of(connection, CT) is not None
    fill_all(database)
    with database.begin() as connection:
        assert needs.is_needed(connection, CT) and family_of(connection, CT) is None
        jobs.move_job(connection, job.id, Event.SUPERSEDE, expected=State.WAITING, now=NOW)
        assert not needs.is_needed(connection, CT)


def test_the_series_of_a_patient_are_found_over_studies(database: Database) -> None:
    with database.begin() as connection:
        for number, patient in (("7", "P 1"), ("8", "P 1"), ("9", "p 1")):
            one = instance(1, series=f"1.2.{number}.1")
            header = {**one.header, "PatientID": patient, "StudyInstanceUID": f"1.2.{number}"}
            catalog.add_instances(connection, [replace(one, study_instance_uid=f"1.2.{number}", header=header)])
        found = needs.series_of_patient(connection, "P 1")
    assert sorted(one.series_instance_uid for one in found) == ["1.2.7.1", "1.2.8.1"]


def test_the_mark_of_the_catalogue_changes_when_a_series_is_closed(database: Database) -> None:
    with database.begin() as connection:
        before = needs.catalogue_mark(connection)
        catalog.add_instances(connection, [instance(1)])
        assert needs.catalogue_mark(connection) == before
        catalog.close_series(connection, PET, generation=1, instance_count=1, because="test", now=MOMENT)
        assert needs.catalogue_mark(connection) == (1, MOMENT)
