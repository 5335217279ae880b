"""What the engine promises: nothing enqueued is lost or done at the same time twice, whoever dies."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicomnode.engine import Engine, queue_task
from storage.database import Database, open_engine
from tests.builders_database import address, create_database

EXECUTOR = """
import sys, time
from pathlib import Path
from dicomnode.engine import Executor
from storage.database import Database, open_engine
from storage.locks import take_lock

folder, executor_id, task_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
database = Database.open(sys.argv[5])


def task(job_id, destination):
    with (folder / "begun").open("a") as begun:
        begun.write(f"{job_id}{destination} {executor_id}\\n")
    time.sleep(task_s)
    with (folder / "done").open("a") as done:
        done.write(f"{job_id}{destination} {executor_id}\\n")
    return "done"


executor = Executor(
    open_engine(sys.argv[6]),
    executor_id=executor_id,
    tasks={sys.argv[4]: task},
    take_lock=lambda name: take_lock(database, folder / "locks", name),
    ended=lambda: (folder / "ended").touch(),
    takeover_s=0.3,
)
executor.start()
for _ in range(600):
    time.sleep(0.2)
    (folder / "naps").write_text("\\n".join(executor._naps._length_s))
"""


@pytest.fixture(params=["sqlite"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Where the node's and the engine's tables are; both in one database on PostgreSQL, as in a node."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/node.sqlite", f"sqlite:///{tmp_path}/engine.sqlite"
    made = address(create_database(request.getfixturevalue("postgresql_url"), "CREATE DATABASE {name}"))
    return made, made


on_both = pytest.mark.parametrize("urls", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def engine(urls: tuple[str, str]) -> Iterator[Engine]:
    Database.open(urls[0]).close()
    engine = Engine(open_engine(urls[1]))
    engine.register_queue("derive", concurrency_per_executor=1)
    yield engine
    engine.close()


@pytest.fixture
def start(tmp_path: Path, urls: tuple[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start_executor(executor_id: str, task_s: float = 0.0, queue: str = "derive") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", EXECUTOR, str(tmp_path), executor_id, str(task_s), queue, *urls]
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


@on_both
def test_a_killed_executor_goes_on_when_it_is_started_again(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    first = start("one", 60)
    wait_for(lambda: len(lines(tmp_path / "begun")) == 1)
    first.send_signal(signal.SIGKILL)
    start("one", 0)
    wait_for(lambda: lines(tmp_path / "done") == ["1 one"])


@on_both
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


@on_both
def test_what_was_claimed_and_never_begun_is_done_although_its_executor_lives(
    engine: Engine, start: Callable[..., object], tmp_path: Path, urls: tuple[str, str]
) -> None:
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    start("one")
    wait_for(lambda: lines(tmp_path / "done") == ["1 one"])
    engine.register_queue("elsewhere", concurrency_per_executor=1)
    engine.enqueue("elsewhere", "run-2", job_id=2, destination="", priority=1)
    table = "dbos.workflow_status" if urls[1].startswith("postgresql") else "workflow_status"
    claim = f"UPDATE {table} SET status = 'PENDING', executor_id = 'one', queue_name = 'derive', name = 'derive' "
    sql = open_engine(urls[1])
    with sql.begin() as connection:  # as when the answer to the claim was lost with the database
        assert connection.exec_driver_sql(claim + "WHERE workflow_uuid = 'run-2'").rowcount == 1
    sql.dispose()
    wait_for(lambda: lines(tmp_path / "done") == ["1 one", "2 one"])


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


def test_the_pollers_of_the_installed_dbos_nap_as_we_want_and_the_end_of_a_task_is_told(
    engine: Engine, start: Callable[..., object], tmp_path: Path
) -> None:
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    start("one")
    wait_for(lambda: "queue-worker-derive" in lines(tmp_path / "naps"))
    wait_for(lambda: (tmp_path / "ended").exists())


def test_a_finished_run_is_forgotten_after_its_time_with_all_its_rows_and_what_waits_stays(
    engine: Engine, start: Callable[..., object], tmp_path: Path
) -> None:
    engine.register_queue("send.pacs", concurrency_per_executor=1)
    engine.enqueue("send.pacs", "send-1", job_id=1, destination="pacs", priority=1)
    engine.enqueue("derive", "run-1", job_id=1, destination="", priority=1)
    began = datetime.now(UTC)
    start("one")
    wait_for(lambda: rows(tmp_path, "workflow_status", "WHERE status = 'SUCCESS'") == 1)
    assert engine.forget_finished(began) == 0 and rows(tmp_path, "workflow_status") == 2
    assert engine.forget_finished(datetime.now(UTC) + timedelta(seconds=5)) == 1
    assert rows(tmp_path, "workflow_status") == 1 and rows(tmp_path, "operation_outputs") == 0
    start("two", 0, "send.pacs")
    wait_for(lambda: "1pacs two" in lines(tmp_path / "done"))


def rows(folder: Path, table: str, condition: str = "") -> int:
    with closing(sqlite3.connect(folder / "engine.sqlite", timeout=30)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table} {condition}").fetchone()[0])
