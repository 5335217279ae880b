"""What tests of replay and explain arrange with: a config folder, received series, and jobs that have derived."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicomnode.config import Config, load_config
from dicomnode.route import route_series
from storage import catalog, deliveries, jobs
from storage.catalog import Instance
from storage.database import Database
from storage.jobs import Event, Job, State

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
NODE = """
[node]
data_folder = "../var"
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
[peers.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[peers.archive]
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = 104
"""
NOISE = """
[[rules]]
name = "noise"
when = 'Modality == "CT"'
run = "ct_denoising"
send_to = ["pacs"]
"""
CHAIN = """
[[rules]]
name = "metal"
when = 'Modality == "CT"'
run = "ct_metal_artifact_reduction"
[[rules]]
name = "then noise"
after = "metal"
when = '"MAR" in ImageType'
run = "ct_denoising"
send_to = ["pacs"]
"""


def write_config(folder: Path, rules: str = NOISE, node: str = NODE) -> Path:
    """The config folder of a node."""
    config = folder / "config"
    config.mkdir(exist_ok=True)
    (folder / "var").mkdir(exist_ok=True)
    (config / "node.toml").write_text(node)
    (config / "rules.toml").write_text(rules)
    return config


def config_of(folder: Path, rules: str = NOISE) -> Config:
    """The same, read."""
    return load_config(write_config(folder, rules))


def node_database(config: Path) -> Database:
    """The database of a node that has run with the config."""
    database = Database.open(load_config(config).database_url)
    database.migrate()
    return database


def images(series: str, count: int, *, peer: str = "scanner", at: datetime = NOW, **header: Any) -> list[Instance]:
    """CT images of a series, each with a header."""
    values = {"SOPClassUID": CT_IMAGE, "Modality": "CT"} | header
    return [
        Instance(f"{series}.{k}", CT_IMAGE, "1.2.840.10008.1.2.1", series, "1.2", peer, at, f"{k:064x}", 500, values)
        for k in range(1, count + 1)
    ]


def receive(database: Database, series: str, count: int = 2, **more: Any) -> None:
    """A series has come."""
    with database.begin() as connection:
        catalog.add_instances(connection, images(series, count, **more))


def route(database: Database, config: Config, series: str) -> list[Job]:
    """It is whole, and goes by the rules of the config."""
    with database.read() as connection:
        known = catalog.get_series(connection, series)
        instances = catalog.series_instances(connection, series)
    return route_series(database, known, instances, config=config, because="nothing came for 5 s", now=NOW)


def derive(database: Database, job: Job, series: str, **header: Any) -> Sequence[Instance]:
    """The job has derived a series, which waits to be sent."""
    made = images(series, 2, peer="", **header)
    with database.begin() as connection:
        catalog.add_derived_series(connection, series, made)
        jobs.move_job(connection, job.id, Event.CLAIM, expected=State.WAITING, now=NOW)
        jobs.move_job(
            connection, job.id, Event.FINISH, expected=State.RUNNING, derived_series_instance_uid=series, now=NOW
        )
        deliveries.plan_deliveries(connection, job.id, [one.sop_instance_uid for one in made], now=NOW)
    return made
