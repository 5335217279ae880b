"""kill -9 of any process at any time: all derived, none lost, none doubled."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.builders_dicom import write_ct_series
from tests.peers import Orthanc, RunningNode, storescu, wait_until

pytestmark = pytest.mark.peer
SERIES, SLICES, KILLS = 20, 4, 10


def send_until_acknowledged(node: RunningNode, files: list[Path]) -> None:
    """A scanner that tries again until every instance is acknowledged, as scanners do."""
    for _ in range(60):
        if storescu(node.port, files, options=["-to", "5", "-ta", "5", "-td", "10"]).returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError("the node never took the series")


def test_twenty_jobs_survive_kills_of_every_process(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    every = [write_ct_series(tmp_path / f"source{number}", slices=SLICES) for number in range(SERIES)]
    sources = {dcmread(files[0]).SeriesInstanceUID for files in every}
    node = make_node(pacs.dicom_port).start()
    chance = random.Random(20)
    scanner = threading.Thread(target=lambda: [send_until_acknowledged(node, files) for files in every])
    scanner.start()
    killed: Counter[str] = Counter()
    for number in range(KILLS):
        time.sleep(chance.uniform(0.5, 2.0))
        role = ("work", "send", "node")[number % 3]
        if role == "node":
            node.kill()
            node.start()
        elif (process_id := node.processes().get(role)) is not None:
            os.kill(process_id, signal.SIGKILL)
        else:
            continue
        killed[role] += 1
    scanner.join()
    assert killed["work"] and killed["send"] and killed["node"], killed

    jobs = node.wait_for_jobs({"delivered", "superseded"}, count=SERIES, seconds=240)
    current = [job for job in jobs if job["superseded_by_generation"] is None]
    assert {job["series_instance_uid"] for job in current} == sources
    assert len(current) == SERIES
    held = pacs.series()
    assert set(held) >= {job["derived_series_instance_uid"] for job in current}
    assert set(held) <= {job["derived_series_instance_uid"] for job in jobs}
    for job in current:
        assert len(held[job["derived_series_instance_uid"]]["instances"]) == SLICES
    assert node.command("audit", "verify").returncode == 0
    assert node.stop() == 0


def test_a_job_that_kills_its_worker_three_times_is_failed_with_its_reason_and_the_node_goes_on(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    poison = write_ct_series(tmp_path / "poison", slices=60, rows=512, columns=512)
    node = make_node(pacs.dicom_port).start()
    assert storescu(node.port, poison).returncode == 0
    for attempt in (1, 2, 3):
        wait_until(
            lambda attempt=attempt: any(j["attempts"] == attempt and j["state"] == "running" for j in node.jobs()),
            what=f"attempt {attempt}",
        )
        os.kill(node.processes()["work"], signal.SIGKILL)
    failed = node.wait_for_jobs({"failed"}, count=1)[0]
    assert failed["reason_code"] == "worker-crashed" and "3 times" in failed["reason"]

    assert storescu(node.port, write_ct_series(tmp_path / "good", slices=3)).returncode == 0
    node.wait_for_jobs({"failed", "delivered"}, count=2)


def test_a_pipeline_that_runs_over_its_limit_is_ended(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    slow = write_ct_series(tmp_path / "slow", slices=60, rows=512, columns=512)
    node = make_node(pacs.dicom_port, more="[pipelines.ct_denoising]\nlimit_s = 1.0\n").start()
    assert storescu(node.port, slow).returncode == 0
    failed = node.wait_for_jobs({"failed"}, count=1)[0]
    assert failed["reason_code"] == "time-limit" and "limit of 1 s" in failed["reason"]
    assert storescu(node.port, write_ct_series(tmp_path / "good", slices=1, rows=32, columns=32)).returncode == 0
    node.wait_for_jobs({"failed", "delivered"}, count=2)


def test_a_node_ended_by_sigterm_in_the_middle_goes_on_where_it_stopped(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port).start()
    for number in range(3):
        assert (
            storescu(node.port, write_ct_series(tmp_path / str(number), slices=8, rows=128, columns=128)).returncode
            == 0
        )
    assert node.stop() == 0
    node.start()
    node.wait_for_jobs({"delivered"}, count=3)


def test_a_power_cut_longer_than_a_pipelines_limit_fails_no_job(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    files = write_ct_series(tmp_path / "source", slices=12, rows=512, columns=512)
    node = make_node(pacs.dicom_port, more="[pipelines.ct_denoising]\nlimit_s = 15.0\n").start()
    assert storescu(node.port, files).returncode == 0
    running = wait_until(lambda: [job for job in node.jobs() if job["state"] == "running"], what="the job running")
    node.kill()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 16, what="the cut")
    assert running[0]["state"] == "running"
    node.start()
    done = node.wait_for_jobs({"delivered"}, count=1)[0]
    assert done["attempts"] == 2


def test_the_loss_of_the_engines_own_file_loses_no_job(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port).start()
    assert storescu(node.port, write_ct_series(tmp_path / "one", slices=12, rows=512, columns=512)).returncode == 0
    wait_until(lambda: [job for job in node.jobs() if job["state"] == "running"], what="the job running")
    node.kill()
    wait_until(lambda: not process_alive(node, "work"), what="the end of the worker")
    for path in (node.folder / "var").glob("engine.sqlite*"):
        path.unlink()
    node.start()
    assert node.wait_for_jobs({"delivered"}, count=1)[0]["attempts"] == 2


def process_alive(node: RunningNode, role: str) -> bool:
    """Whether a child of that node still runs, by its command line."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if role in words and any(str(node.folder) in word for word in words):
            return True
    return False
