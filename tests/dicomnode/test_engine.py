"""What the engine promises: nothing enqueued is lost or done at the same time twice, whoever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.engine import Engine, priorities, queue_task
from storage.database import Database, open_engine

EXECUTOR = """
import sys, time
from pathlib import Path
from dicomnode.engine import Executor
from storage.database import Database, open_engine
from storage.locks import take_lock

folder, executor_id, task_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
database = Database.open(f"sqlite:///{folder}/node.sqlite")


def task(job_id, destination):
    with (folder / "begun").open("a") as begun:
        begun.write(f"{job_id}{destination} {executor_id}\\n")
    time.sleep(task_s)
    with (folder / "done").open("a") as done:
        done.write(f"{job_id}{destination} {executor_id}\\n")
    return "done"


executor = Executor(
    open_engine(f"sqlite:///{folder}/engine.sqlite"),
    executor_id=executor_id,
    tasks={sys.argv[4]: task},
    take_lock=lambda name: take_lock(database, folder / "locks", name),
    takeover_s=0.3,
)
executor.start()
time.sleep(120)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    Database.open(f"sqlite:///{tmp_path}/node.sqlite").close()
    engine = Engine(open_engine(f"sqlite:///{tmp_path}/engine.sqlite"))
    engine.register_queue("derive", concurrency_per_executor=1)
    yield engine
    engine.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start_executor(executor_id: str, task_s: float = 0.0, queue: str = "derive") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", EXECUTOR, str(tmp_path), executor_id, str(task_s), queue]
        running.append(subprocess.Popen(command, cwd=Path(__file__).parents[2]))
        return running[-1]

    yield start_executor
    for process in running:
        process.kill()
        process.wait()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for(question: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_enqueueing_twice_runs_once(engine: Engine, start: Callable[..., object], tmp_path: Path) -> None:
    for _ in range(3):
        engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    engine.enqueue("derive", "run-2", job_id=2, destination="", priority=1)
    start("one")
    wait_for(lambda: len(lines(tmp_path / "done")) >= 2)
    assert sorted(lines(tmp_path / "done")) == ["1 one", "2 one"]


def test_the_more_urgent_is_taken_first(engine: Engine, start: Callable[..., object], tmp_path: Path) -> None:
    for job_id, priority in ((1, 3), (2, 2), (3, 1)):
        engine.enqueue("derive", f"run-{job_id}", job_id=job_id, destination="", priority=priority)
    start("one")
    wait_for(lambda: len(lines(tmp_path / "done")) == 3)
    assert [line.split()[0] for line in lines(tmp_path / "done")] == ["3", "2", "1"]


def test_a_killed_executor_goes_on_when_it_is_started_again(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    first = start("one", 60)
    wait_for(lambda: len(lines(tmp_path / "begun")) == 1)
    first.send_signal(signal.SIGKILL)
    start("one", 0)
    wait_for(lambda: lines(tmp_path / "done") == ["1 one"])


def test_work_of_a_dead_executor_is_taken_over_by_a_living_one_and_only_then(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    dying = start("dying", 60)
    wait_for(lambda: len(lines(tmp_path / "begun")) == 1)
    start("living", 0)
    engine.enqueue("derive", "run-2", job_id=2, destination="", priority=1)
    wait_for(lambda: lines(tmp_path / "done") == ["2 living"])
    time.sleep(1.5)  # five looks: while its owner lives, nobody takes run-1
    assert lines(tmp_path / "done") == ["2 living"]
    dying.send_signal(signal.SIGKILL)
    wait_for(lambda: lines(tmp_path / "done") == ["2 living", "1 living"])


def test_a_second_process_with_the_same_executor_id_is_refused(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    start("one", 0)
    wait_for(lambda: len(lines(tmp_path / "done")) == 1)
    assert start("one", 0).wait(30) != 0


def test_lanes_share_a_task_and_are_told_apart_by_destination(
    engine: Engine, start: Callable[..., object], tmp_path: Path
) -> None:
    engine.register_queue("send.pacs", concurrency_per_executor=1)
    engine.enqueue("send.pacs", "send-1", job_id=1, destination="pacs", priority=1)
    start("one", 0, "send.pacs")
    wait_for(lambda: lines(tmp_path / "done") == ["1pacs one"])
    assert queue_task("send.pacs") == "send"


def test_priorities_are_the_words_of_a_rule_most_urgent_first() -> None:
    assert tuple(priorities()) == ("stat", "routine", "low")
