"""Children are started again when they die, and end with the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnode.processes import Child, Processes, describe_exit

ROOT = Path(__file__).parents[2]
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import time; from dicomnode.processes import end_with_parent; end_with_parent();"
     "print('up', flush=True); time.sleep(60)"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def wait_for(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{process_id}/status").read_text()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    # `python -m dicomnode work ...` would want a config; a child that only sleeps is enough here.
    monkeypatch.setattr(sys, "executable", str(ROOT / "tests" / "sleeper.sh"))
    return Processes([Child("host/work-0", ("work",))])


def test_a_child_that_dies_is_started_again(processes: Processes) -> None:
    processes.start()
    first = processes.process_ids()["host/work-0"]
    assert processes.tend() == []
    assert processes.kill("host/work-0")
    noticed = processes.tend()
    assert len(noticed) == 1 and "killed by SIGKILL" in noticed[0]
    assert processes.process_ids()["host/work-0"] != first
    processes.stop(drain_s=10)


def test_a_child_that_dies_at_once_again_and_again_is_started_with_growing_pauses(processes: Processes) -> None:
    processes.start()
    pauses = []
    for _ in range(3):
        processes.kill("host/work-0")
        pauses.append(processes.tend()[0].rpartition(" in ")[2])
        wait_for(lambda: processes.tend() == [] and bool(processes.process_ids()))
    processes.stop(drain_s=10)
    assert pauses == ["0 s", "1 s", "2 s"]


def test_stopping_ends_children_and_starts_none(processes: Processes) -> None:
    processes.start()
    child = processes.process_ids()["host/work-0"]
    processes.stop(drain_s=10)
    assert not alive(child)
    assert processes.tend() == []


def test_a_child_stands_back_behind_the_others_as_far_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(ROOT / "tests" / "sleeper.sh"))
    processes = Processes([Child("host/receive-0", ("receive",)), Child("host/work-0", ("work",), nice=10)])
    processes.start()
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    nice = {name: os.getpriority(os.PRIO_PROCESS, number) for name, number in processes.process_ids().items()}
    processes.stop(drain_s=10)
    assert nice == {"host/receive-0": ours, "host/work-0": min(19, ours + 10)}


def test_what_each_life_of_a_child_tells_is_heard_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    teller = tmp_path / "teller.sh"
    teller.write_text('#!/bin/sh\nfor last; do :; done\necho "life of $$" > /proc/self/fd/$last\nexec sleep 60\n')
    teller.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(teller))
    heard: list[str] = []

    def hear(descriptor: int) -> None:
        with os.fdopen(descriptor) as lines:
            heard.extend(lines)
        heard.append("end")

    processes = Processes([Child("host/receive-0", ("receive",), hear=hear)])
    processes.start()
    first = processes.process_ids()["host/receive-0"]
    wait_for(lambda: bool(heard))
    assert heard == [f"life of {first}\n"]
    processes.kill("host/receive-0")
    wait_for(lambda: len(heard) == 2)
    processes.tend()
    second = processes.process_ids()["host/receive-0"]
    wait_for(lambda: len(heard) == 3)
    processes.stop(drain_s=10)
    wait_for(lambda: len(heard) == 4)
    assert heard == [f"life of {first}\n", "end", f"life of {second}\n", "end"]


def test_an_open_file_of_the_node_is_the_childs_too_where_it_is_told_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(ROOT / "tests" / "sleeper.sh"))
    (tmp_path / "shared").touch()
    (tmp_path / "ours").touch()
    with (tmp_path / "shared").open() as shared, (tmp_path / "ours").open():
        processes = Processes([Child("host/receive-0", ("receive",), descriptors=(shared.fileno(),))])
        processes.start()
        folder = Path(f"/proc/{processes.process_ids()['host/receive-0']}/fd")
        theirs = {str(one.readlink()) for one in folder.iterdir()}
        processes.stop(drain_s=10)
    assert str(tmp_path / "shared") in theirs and str(tmp_path / "ours") not in theirs


def test_only_our_children_can_be_killed(processes: Processes) -> None:
    assert not processes.kill("another-host/work-0")


def test_a_child_ends_when_the_node_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not alive(child))


def test_an_exit_code_is_told_in_words() -> None:
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(3) == "exit code 3"
