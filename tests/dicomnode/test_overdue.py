"""What runs over its limit is ended by whoever started its process, and by nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.overdue import end_overdue
from dicomnode.processes import Child, Processes
from storage import jobs
from storage.database import Database
from storage.jobs import Event, Job, State
from tests.storage.builders_storage import new_job

OURS = "here/work-0"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """One child; what it does is of no matter here."""
    started = Processes([Child(OURS, ("--help",))])
    started.start()
    yield started
    started.stop(drain_s=5)


def claimed(database: Database, config: Config, worker: str, processes: Processes) -> Job:
    """A job that worker began after its process did."""
    began = processes.began_at(OURS)
    assert began is not None
    now = began + timedelta(seconds=1)
    with database.begin() as connection:
        job, _ = jobs.add_job(connection, new_job())
        return jobs.move_job(
            connection,
            job.id,
            Event.CLAIM,
            expected=State.WAITING,
            worker=worker,
            deadline=now + timedelta(seconds=config.limit_s(job.pipeline)),
            now=now,
        )


@pytest.mark.parametrize(
    ("worker", "late_s", "ended"), [(OURS, 1, True), (OURS, -1, False), ("there/crew-0", 1, False)]
)
def test_only_an_overdue_job_of_a_worker_of_ours_is_ended(
    database: Database, processes: Processes, worker: str, late_s: float, ended: bool
) -> None:
    config = load_config(Path(__file__).parents[2] / "config")
    job = claimed(database, config, worker, processes)
    assert job.deadline is not None
    now = job.deadline + timedelta(seconds=late_s)
    assert end_overdue(job, now, config=config, database=database, processes=processes) is ended
    with database.read() as connection:
        known = jobs.get_job(connection, job.id)
    assert known.state is (State.FAILED if ended else State.RUNNING)
    assert known.reason_code == ("time-limit" if ended else "")


def test_a_claim_from_before_the_present_life_of_the_worker_is_resumed_and_not_ended(
    database: Database, processes: Processes
) -> None:
    config = load_config(Path(__file__).parents[2] / "config")
    job = claimed(database, config, OURS, processes)
    assert job.deadline is not None
    late = job.deadline + timedelta(days=1)
    began = processes.began_at(OURS)
    assert began is not None
    job = replace(job, started_at=began - timedelta(seconds=1))
    assert not end_overdue(job, late, config=config, database=database, processes=processes)
