"""Jobs are read as they stand, with all that belongs to them."""

from __future__ import annotations

from storage import catalog, jobs
from storage.catalog import Instance
from storage.database import Database
from storage.job_rows import find_jobs, made_series
from tests.storage.builders_storage import NOW, made_uids, new_job, planned_job


def test_a_job_is_read_with_its_destinations_and_rules_in_the_order_they_were_asked_for(database: Database) -> None:
    with database.begin() as connection:
        jobs.add_job(connection, new_job(destinations=("pacs", "archive"), rule="b"))
        jobs.add_job(connection, new_job(destinations=("third",), rule="a"))
        (job,) = find_jobs(connection)
    assert (job.destinations, job.rules) == (("pacs", "archive", "third"), ("b", "a"))


def test_the_series_a_job_has_made_are_all_named_the_first_first(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        uids = made_uids(job)
        for number, uid in enumerate(uids):
            series = f"2.25.{9 - number}"
            catalog.add_derived_series(
                connection,
                series,
                [Instance(uid, "1.2", "1.2.840.10008.1.2.1", series, "1.2", "", NOW, "x", 1, {})],
            )
        assert made_series(connection, job.id) == [f"2.25.{9 - number}" for number in range(len(uids))]
        assert made_series(connection, job.id + 1) == []
