"""kill -9 of any process at any time: nothing lost that was acknowledged, all derived, all delivered, none doubled."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.builders_dicom import write_ct_series
from tests.builders_stream import (
    CountingPacs,
    Scanner,
    assert_everything_was_delivered_once,
    assert_nothing_was_lost,
    moments,
)
from tests.peers import Orthanc, RunningNode, storescu, wait_until

pytestmark = pytest.mark.peer
KILLS = 50
EVERYTHING = "everything"
IN_HAND = {"work": "running", "send": "sending"}
"""What a job is while a process of that role has it."""


def kill(node: RunningNode, role: str) -> None:
    """kill -9 of one process of the node, or of all at once as in a power cut; who starts the node starts it again."""
    if role == EVERYTHING:
        assert node.process is not None
        for child in psutil.Process(node.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # one that ended with the process it was begun by, killed just before
                child.kill()
    if role in (EVERYTHING, "node"):
        node.kill()
        node.start()
    elif (process_id := node.processes().get(role)) is not None:
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def wait_a_little_for_a_job(node: RunningNode, role: str) -> None:
    """So that the process is in the middle of something; most of their time they wait."""
    state = next((state for word, state in IN_HAND.items() if role.startswith(word)), None)
    deadline = time.monotonic() + 5.0
    while state and time.monotonic() < deadline and all(job["state"] != state for job in node.jobs()):
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_fifty_kills_in_a_stream_of_series_lose_nothing_and_double_nothing(
    kind: str,
    request: pytest.FixtureRequest,
    counting_pacs: CountingPacs,
    make_node: Callable[..., RunningNode],
    tmp_path: Path,
) -> None:
    database = request.getfixturevalue("database_url") if kind == "postgresql" else ""
    # A worker that is killed from outside looks like one that its job took down, so that may happen more often here.
    node = make_node(
        counting_pacs.port, database=database, quiet_seconds=300.0, more_node="crash_attempts = 20\n"
    ).start()

    def dawdle(uid: str) -> int:
        time.sleep(0.03)
        return 0x0000

    counting_pacs.answer = dawdle
    chance, pauses = moments(KILLS, shortest_s=0.0, longest_s=1.0)
    scanner = Scanner(node.port, tmp_path / "sources", slices=6, rows=128, pause_s=1.0).start()
    killed: Counter[str] = Counter()
    for pause in pauses:
        time.sleep(pause)
        children = sorted(set(node.processes()) - {"node"})
        # A start of the node takes seconds, and so does that of a worker.
        role = chance.choice(
            [EVERYTHING, "node", *(2 * children), *(3 * [one for one in children if "work" not in one])]
        )
        wait_a_little_for_a_job(node, role)
        time.sleep(chance.uniform(0.0, 0.1))
        kill(node, role)
        killed[role] += 1
    print(f"killed {dict(killed)}")
    scanner.finish()
    print(f"sent {len(scanner.completed)} series; otherwise heard {dict(scanner.not_now)}")
    assert len(killed) >= 4, f"too few kinds of processes were killed: {killed}"
    assert_everything_was_delivered_once(node, scanner, counting_pacs)
    assert_nothing_was_lost(node, scanner)
    print(f"derived again {sum(job['attempts'] - 1 for job in node.jobs())} times")
    print(f"sent again {sum(count - 1 for count in counting_pacs.stored.values())} instances")
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
    node = make_node(pacs.dicom_port, more="[pipelines.ct_denoising]\nlimit_s = 40.0\n").start()
    assert storescu(node.port, files).returncode == 0
    running = wait_until(lambda: [job for job in node.jobs() if job["state"] == "running"], what="the job running")
    node.kill()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 41, seconds=60, what="the cut")
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
