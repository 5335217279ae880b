"""Scale-out: workers on other machines share the node's jobs, and a machine that dies loses none of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders_database import address, create_database
from tests.builders_dicom import write_ct_series
from tests.builders_store import S3Server
from tests.peers import Orthanc, RunningNode, storescu, wait_until

pytestmark = pytest.mark.peer
ROOT = Path(__file__).parents[2]
SERIES, SLICES = 5, 20

STORE = """
[store]
url = "s3://{bucket}/site"
endpoint = "{endpoint}"
allow_http = true
credentials_file = "s3-credentials"
"""
CREDENTIALS = "[default]\naws_access_key_id = node\naws_secret_access_key = secret\n"


@dataclass
class Machine:
    """`dicomnode workers` as it would run on another machine: own folders, own name."""

    name: str
    folder: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def die(self) -> None:
        """As a power cut: every process at once, without a word."""
        workers = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process_id in (self.process.pid, *map(int, workers)):
            os.kill(process_id, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[str, RunningNode], Machine]]:
    """Gives a machine with the node's config; it is ended with the test."""
    made: list[Machine] = []

    def make(name: str, node: RunningNode) -> Machine:
        folder = tmp_path / name
        shutil.copytree(node.config, folder / "config")
        text = (folder / "config" / "node.toml").read_text().replace("workers = []", '[[workers]]\ndevice = "cpu"')
        (folder / "config" / "node.toml").write_text(text)
        words = [sys.executable, "-m", "dicomnode", "workers", "--config", str(folder / "config"), "--name", name]
        with (folder / "log").open("w") as log:
            made.append(Machine(name, folder, subprocess.Popen(words, stderr=log, cwd=ROOT)))
        return made[-1]

    yield make
    for machine in made:
        if machine.process.poll() is None:
            machine.process.send_signal(signal.SIGTERM)
            machine.process.wait(60)


@pytest.fixture
def node(
    postgresql_url: sa.URL, s3_server: S3Server, pacs: Orthanc, make_node: Callable[..., RunningNode]
) -> RunningNode:
    """On PostgreSQL, its images in S3, and it computes nothing itself."""
    database = address(create_database(postgresql_url, "CREATE DATABASE {name}")).replace(":@", "@")
    store = STORE.format(bucket=s3_server.bucket().name, endpoint=s3_server.endpoint)
    made = make_node(pacs.dicom_port, database=database, more=store)
    write_config = made.write_config

    def write_without_workers() -> None:
        write_config()
        toml = made.config / "node.toml"
        toml.write_text("workers = []\n" + toml.read_text())
        credentials = made.config / "s3-credentials"
        credentials.write_text(CREDENTIALS)
        credentials.chmod(0o600)

    made.write_config = write_without_workers  # type: ignore[method-assign]
    return made


def worker_of(job: dict[str, Any]) -> str:
    return str(job["worker"]).partition("/")[0]


def test_two_machines_share_the_jobs_and_one_that_dies_loses_none(
    node: RunningNode, pacs: Orthanc, machines: Callable[[str, RunningNode], Machine], tmp_path: Path
) -> None:
    node.start()
    crews = {name: machines(name, node) for name in ("alpha", "beta")}
    for name, crew in crews.items():
        wait_until(lambda crew=crew, name=name: f"{name}/crew-0 listens" in crew.log(), what=f"{name} listening")
    for number in range(SERIES):
        files = write_ct_series(tmp_path / f"source{number}", slices=SLICES, rows=256, columns=256)
        assert storescu(node.port, files).returncode == 0

    def running_somewhere() -> dict[str, Any] | None:
        done = {worker_of(job) for job in node.jobs() if job["state"] not in ("waiting", "running")}
        return next((job for job in node.jobs() if job["state"] == "running" and done), None)

    victim = wait_until(running_somewhere, what="a job running on a machine")
    crews[worker_of(victim)].die()
    other = "beta" if worker_of(victim) == "alpha" else "alpha"

    jobs = node.wait_for_jobs({"delivered"}, count=SERIES)
    assert {worker_of(job) for job in jobs if job["id"] == victim["id"]} <= {other, worker_of(victim)}
    held = pacs.series()
    assert set(held) == {job["derived_series_instance_uid"] for job in jobs} and len(held) == SERIES
    assert all(len(one["instances"]) == SLICES for one in held.values())
    assert other in {worker_of(job) for job in jobs}
    assert not list((node.folder / "var" / "arrivals").iterdir())
    assert not list((node.folder / "var" / "instances").glob("*/*.dcm"))
    assert node.command("audit", "verify").returncode == 0
    passport = node.command("passport", next(iter(held)))
    assert passport.returncode == 0, passport.stderr
