"""The demonstration ends when its series are over, however often they closed; if not, it says what it saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.demo_wait import DemoFailed, wait_for_series
from storage import audit, jobs
from storage.database import Database
from storage.jobs import Event, Job, State
from tests.builders_routed import NOW, derive, node_database, receive, route, write_config

SERIES = "1.2.3"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_config(tmp_path))


@pytest.fixture
def database(config: Config) -> Database:
    return node_database(config.folder)


def wait(config: Config, *, count: int = 3, **more: float) -> list[str]:
    """What was told while it waited for a series of so many images, with no patience at all."""
    told: list[str] = []
    log = config.data_folder / "node.log"
    wait_for_series(config.data_folder, {SERIES: count}, log=log, tell=told.append, **({"patience_s": 0.0} | more))
    return told


def deliver(database: Database, job: Job) -> None:
    derive(database, job, f"1.2.9{job.id}")
    with database.begin() as connection:
        jobs.move_job(connection, job.id, Event.FINISH, expected=State.DERIVED, now=NOW)


def test_a_series_that_closed_twice_is_over_when_the_job_of_all_its_images_is(
    config: Config, database: Database
) -> None:
    receive(database, SERIES, 2)
    route(database, config, SERIES)
    receive(database, SERIES, 3)
    [whole] = route(database, config, SERIES)
    with pytest.raises(DemoFailed, match="job 1 of generation 1, ct_denoising: superseded"):
        wait(config)
    deliver(database, whole)
    assert wait(config) == ["ct_denoising superseded, ct_denoising delivered"]


def test_the_result_of_a_part_of_the_series_is_not_its_end(config: Config, database: Database) -> None:
    receive(database, SERIES, 2)
    [part] = route(database, config, SERIES)
    deliver(database, part)
    with pytest.raises(DemoFailed, match="2 of 3 images"):
        wait(config)
    assert wait(config, count=2) == ["ct_denoising delivered"]


def test_a_failure_names_every_series_job_delivery_and_lane_with_the_latest_events_files_and_log(
    config: Config, database: Database
) -> None:
    receive(database, SERIES, 3)
    [job] = route(database, config, SERIES)
    derive(database, job, "1.2.9")
    (config.data_folder / "arrivals").mkdir()
    (config.data_folder / "arrivals" / "one.dcm").write_bytes(b"")
    (config.data_folder / "node.log").write_text("INFO first\nERROR node: dispatch failed\n")
    with pytest.raises(DemoFailed) as failure:
        wait(config)
    message = str(failure.value)
    assert message.startswith("the series are not over: nothing has changed for 0 s\n")
    for word in (
        f"series {SERIES}: closed, generation 1, 3 of 3 images",
        "job 1 of generation 1, ct_denoising: derived; attempts 1",
        "to pacs: waiting, 2 instances unsent, 0 tries failed",
        "job waiting job 1 1.2.3",
        "arrivals: 1 files",
        "ERROR node: dispatch failed",
    ):
        assert word in message, f"{word} is not in\n{message}"


def test_a_series_that_never_came_is_named(config: Config, database: Database) -> None:
    with pytest.raises(DemoFailed, match=r"series 1\.2\.3: the node knows nothing of it; 3 images were sent"):
        wait(config)


def test_a_node_that_has_ended_is_not_waited_for(config: Config, database: Database) -> None:
    with pytest.raises(DemoFailed, match="the node has ended"):
        wait_for_series(
            config.data_folder,
            {SERIES: 1},
            log=Path("none"),
            tell=lambda now: None,
            alive=lambda: False,
            patience_s=600,
        )


def test_patience_counts_from_the_last_change_and_not_from_the_start(config: Config, database: Database) -> None:
    def go_on(now: str) -> None:
        with database.begin() as connection:
            seen.append(now)
            if len(seen) < 4:
                audit.append(connection, "association released", details={})

    seen: list[str] = []
    with pytest.raises(DemoFailed):
        wait_for_series(config.data_folder, {SERIES: 1}, log=Path("none"), tell=go_on, patience_s=0.2)
    assert len(seen) >= 5  # three looks found something new; the patience of one look began after each
