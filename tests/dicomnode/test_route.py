"""A whole series becomes one job per rule it meets: all or nothing, and never from what we made ourselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config, load_config
from dicomnode.handling import Handling
from dicomnode.peer import Peer
from dicomnode.route import route_series
from dicomnode.rules import Rule
from dicomnode.uids import MODEL_NAME
from storage import audit, catalog, deliveries, jobs
from storage.catalog import Instance
from storage.database import Database
from storage.errors import StaleState
from storage.jobs import Event, State

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NODE = '[node]\n[peers.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
RULES = """
[[rules]]
name = "metal"
when = 'Modality == "CT" && SeriesDescription.matches("(?i)hip")'
run = "ct_metal_artifact_reduction"
send_to = ["pacs"]
priority = "stat"
[[rules]]
name = "noise"
when = 'Modality == "CT"'
run = "ct_denoising"
send_to = ["pacs"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "node.toml").write_text(NODE)
    (tmp_path / "config" / "rules.toml").write_text(RULES)
    return load_config(tmp_path / "config")


def received(database: Database, count: int, *, first: int = 0, **header: Any) -> None:
    values = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", **header}
    with database.begin() as connection:
        catalog.add_instances(
            connection,
            [
                Instance(
                    f"1.2.3.{k}", values["SOPClassUID"], "1.2.840.10008.1.2.1", "1.2.3", "1.2", "scanner", NOW, "", 1,
                    values,
                )
                for k in range(first, first + count)
            ],
        )  # fmt: skip


def routed(database: Database, config: Config) -> list[jobs.Job]:
    with database.read() as connection:
        (series,) = catalog.open_series(connection)
        instances = catalog.series_instances(connection, series.series_instance_uid)
    return route_series(database, series, instances, config=config, because="quiet", now=NOW)


def test_every_rule_that_is_met_makes_its_job(database: Database, config: Config) -> None:
    received(database, 3, SeriesDescription="Hip left")
    made = routed(database, config)
    assert [(job.rule, job.pipeline, job.priority, job.state) for job in made] == [
        ("metal", "ct_metal_artifact_reduction", 0, State.WAITING),
        ("noise", "ct_denoising", 1, State.WAITING),
    ]
    with database.read() as connection:
        assert catalog.open_series(connection) == []
        assert jobs.job_sources(connection, made[0].id) == ("1.2.3.0", "1.2.3.1", "1.2.3.2")


def test_the_audit_says_of_every_rule_why_it_met_or_not(database: Database, config: Config) -> None:
    received(database, 3)
    routed(database, config)
    with database.read() as connection:
        closed = next(entry for entry in audit.entries(connection) if entry.event == "series closed")
    metal, noise = closed.details["rules"]
    assert not metal["met"] and "SeriesDescription is absent" in metal["reason"]
    assert noise["met"]


def test_an_instance_that_comes_meanwhile_leaves_everything_open(database: Database, config: Config) -> None:
    received(database, 3)
    with database.read() as connection:
        (series,) = catalog.open_series(connection)
        instances = catalog.series_instances(connection, series.series_instance_uid)
    received(database, 1, first=3)
    with pytest.raises(StaleState):
        route_series(database, series, instances, config=config, because="quiet", now=NOW)
    with database.read() as connection:
        assert len(catalog.open_series(connection)) == 1
        assert jobs.list_jobs(connection) == []


def test_what_we_derived_is_never_routed_again(database: Database, config: Config) -> None:
    received(database, 3, ManufacturerModelName=MODEL_NAME)
    assert routed(database, config) == []
    with database.read() as connection:
        assert catalog.open_series(connection) == []


def test_a_late_instance_makes_a_new_generation_that_supersedes_the_old(database: Database, config: Config) -> None:
    received(database, 3)
    (old,) = routed(database, config)
    received(database, 1, first=3)
    (new,) = routed(database, config)
    assert new.generation == 2 and new.key != old.key
    with database.read() as connection:
        assert jobs.get_job(connection, old.id).state is State.SUPERSEDED


def test_a_late_localizer_changes_no_job(database: Database, config: Config) -> None:
    received(database, 3)
    (old,) = routed(database, config)
    received(database, 1, first=3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (same,) = routed(database, config)
    assert same.id == old.id and same.state is State.WAITING and same.generation == 2


def test_a_rule_that_follows_another_is_not_for_what_is_received(database: Database, config: Config) -> None:
    follower = Rule("follower", 'Modality == "CT"', "ct_denoising", ("pacs",), after="noise")
    received(database, 2, SeriesDescription="plain")
    made = routed(database, replace(config, rules=(*config.rules, follower)))
    assert [job.rule for job in made] == ["noise"]


def test_what_follows_is_asked_for_also_where_the_work_was_done_before_the_rule_joined(
    database: Database, config: Config
) -> None:
    received(database, 2)
    (first,) = routed(database, config)
    derived = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "ImageType": ["DERIVED", "X"]}
    with database.begin() as connection:
        made = [Instance("9.1", derived["SOPClassUID"], "1", "9", "1.2", "", NOW, "", 1, derived)]
        catalog.add_derived_series(connection, "9", made)
        jobs.move_job(connection, first.id, Event.CLAIM, expected=State.WAITING, now=NOW)
        jobs.move_job(
            connection, first.id, Event.FINISH, expected=State.RUNNING, derived_series_instance_uid="9", now=NOW
        )
        deliveries.plan_deliveries(connection, first.id, ["9.1"], now=NOW)
    again = Rule("asks too", 'Modality == "CT"', "ct_denoising", ("pacs",))
    follower = Rule("then", '"X" in ImageType', "ct_metal_artifact_reduction", ("pacs",), after="asks too")
    received(database, 1, first=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # decides nothing: the same work
    made_jobs = routed(database, replace(config, rules=(again, follower)))
    assert [job.id for job in made_jobs] == [first.id]
    with database.read() as connection:
        assert jobs.get_job(connection, first.id).rules == ("noise", "asks too")
        (waiting,) = jobs.waiting_jobs(connection, NOW)
    assert (waiting.rule, waiting.series_instance_uid) == ("then", "9")


def test_a_job_keeps_how_rule_and_pipeline_table_want_its_series_treated(database: Database, config: Config) -> None:
    noise = replace(config.pipelines["ct_denoising"], also=("banner",))
    rule = Rule("noise", 'Modality == "CT"', "ct_denoising", ("pacs",), mixed="split", uneven="split")
    sender = Peer(name="scanner", ae_title="SCANNER", may=("store",), declare_character_set="ISO_IR 100")
    changed = replace(
        config,
        rules=(rule,),
        pipelines={**config.pipelines, "ct_denoising": noise},
        peers={**config.peers, "scanner": sender},
    )
    received(database, 2)
    (job,) = routed(database, changed)
    assert Handling.from_json(job.handling) == Handling(("banner",), True, True, False, "ISO_IR 100")
