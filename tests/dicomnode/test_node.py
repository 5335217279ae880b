"""The root joins every room, keeps torch away from the port, and says clearly what it cannot do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigFault
from dicomnode.node import SWEEP_NICE, WORK_NICE, Node, children, refuse_what_needs_a_restart
from tests.peers import RunningNode, free_port, wait_until

ROOT = Path(__file__).parents[2]


def config(folder: Path, *, port: int = 0, more: str = "") -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(f'[node]\nport = {port}\ndata_folder = "../var"\n{more}')
    (folder / "rules.toml").write_text("")
    return load_config(folder)


def test_the_process_of_the_node_never_imports_torch() -> None:
    code = "import sys, dicomnode.node, dicomnode.worker, dicomnode.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_running_node_has_a_worker_per_device_and_one_that_sends(tmp_path: Path) -> None:
    workers = '[[workers]]\ndevice = "cpu"\n[[workers]]\ndevice = "cuda:0"\n'
    made = children(config(tmp_path / "config", more=workers), tmp_path / "var" / "config-in-force")
    assert [child.arguments[0] for child in made] == ["work", "work", "send"]
    assert [child.nice for child in made] == [10, 10, 0]
    assert len({child.executor_id for child in made}) == 3


def test_a_port_that_is_taken_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.reception.PORT_FREE_S", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = Node(config(tmp_path / "config", port=taken.getsockname()[1]))
        with pytest.raises(ConfigFault, match=r"node\.port: cannot listen on .*in use"):
            node.start()
        assert not (tmp_path / "var" / "config-in-force").exists()  # nothing else had begun
        node.stop()


def test_a_stop_begins_no_second_sweep_beside_one_that_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dicomnode.node.THREAD_END_S", 0.1)
    node = Node(config(tmp_path / "config"))
    (tmp_path / "var" / "arrivals" / "a.dcm").write_bytes(b"no DICOM")
    ended = threading.Event()
    node._threads.append(threading.Thread(target=ended.wait, name="sweep", daemon=True))
    node._threads[0].start()
    node.stop()
    ended.set()
    assert "not everything could be listed before the stop: a sweep still runs" in caplog.text
    assert (tmp_path / "var" / "arrivals" / "a.dcm").exists()


def test_keys_that_need_a_restart_are_refused_at_reload(tmp_path: Path) -> None:
    old = config(tmp_path / "config", port=1104)
    with pytest.raises(ConfigFault, match="port"):
        refuse_what_needs_a_restart(old, config(tmp_path / "config", port=1105))
    refuse_what_needs_a_restart(old, config(tmp_path / "config", port=1104, more="[peers.new]\nae_title = 'NEW'\n"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    running = RunningNode(tmp_path, free_port(), rules="").start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()


def test_a_node_starts_drains_at_sigterm_and_leaves_no_process(node: RunningNode) -> None:
    processes = wait_until(lambda: (found := node.processes()) and len(found) == 4 and found)
    assert set(processes) == {"node", "receive", "work", "send"}
    assert node.stop() == 0
    assert not [one for one in processes.values() if Path(f"/proc/{one}").exists()]


def test_a_second_node_on_the_same_data_folder_is_refused(node: RunningNode) -> None:
    second = RunningNode(node.folder, free_port(), rules="")
    before = (node.folder / "var" / "config-in-force" / "node.toml").read_text()
    second.write_config()
    answer = second.command("run")
    assert answer.returncode == 1 and "another node runs on it" in answer.stderr and "Traceback" not in answer.stderr
    assert (node.folder / "var" / "config-in-force" / "node.toml").read_text() == before


def test_children_keep_the_config_in_force_when_the_files_go_bad(node: RunningNode) -> None:
    wait_until(lambda: "listens to send" in node.log(), what="the sender listening")
    (node.config / "node.toml").write_text("this is no TOML")
    before = wait_until(lambda: node.processes().get("send"))
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: node.log().count("listens to send") >= 2, what="the sender listening again")
    assert node.stop() == 0


def test_receiving_goes_before_listing_and_listing_before_computing(node: RunningNode) -> None:
    processes = wait_until(lambda: (found := node.processes()) and len(found) == 4 and found)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    tasks = Path(f"/proc/{processes['node']}/task").iterdir()
    threads = sorted(os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks)
    assert threads[0] == ours and threads[-1] == ours + SWEEP_NICE  # the one that sweeps
    assert os.getpriority(os.PRIO_PROCESS, processes["receive"]) == ours
    assert os.getpriority(os.PRIO_PROCESS, processes["work"]) == ours + WORK_NICE


def test_monitors_see_every_process_and_a_dead_receiver_makes_the_node_not_ready(tmp_path: Path) -> None:
    http_port = free_port()
    running = RunningNode(
        tmp_path, free_port(), rules="", more_node=f"receivers = 2\nhttp_port = {http_port}\n"
    ).start()

    def asked(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as fault:
            return fault.read().decode()

    try:
        wait_until(lambda: "NO" not in asked("/readyz"), what="being ready")
        assert 'receive-1"} 1.0' in asked("/metrics")
        os.kill(running.processes()["receive-1"], signal.SIGKILL)
        wait_until(lambda: "NO processes" in asked("/readyz"), seconds=20, what="the monitors hearing of it")
        wait_until(lambda: "NO" not in asked("/readyz"), what="being ready again")
    finally:
        running.kill()
