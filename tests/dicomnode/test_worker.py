"""A process beside the port ends with its node, and no second one takes its place while it lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTENS = "listens to"


def start(config: Path, role: str, executor: str = "host/one") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dicomnode", role, "--config", str(config), "--executor", executor],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def wait_until_it_listens(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if LISTENS in line:
            return line
    raise AssertionError("".join(lines))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "node.toml").write_text(
        '[node]\ndata_folder = "../var"\n[peers.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
    )
    (folder / "rules.toml").write_text("")
    return folder


@pytest.mark.parametrize(("role", "queue"), [("work", "derive"), ("send", "send.pacs")])
def test_it_listens_to_its_queues_and_ends_at_sigterm(config: Path, role: str, queue: str) -> None:
    with start(config, role) as process:
        assert queue in wait_until_it_listens(process)
        process.terminate()
        assert process.wait(60) == 0


def test_it_ends_when_its_node_is_gone(config: Path) -> None:
    with start(config, "work") as process:
        wait_until_it_listens(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_second_one_of_the_same_name_says_why_it_does_not_start(config: Path) -> None:
    with start(config, "send") as first:
        wait_until_it_listens(first)
        with start(config, "send") as second:
            assert second.stderr is not None
            complaint = second.stderr.read()  # until it ends; its standard input stays open as with a living node
            assert second.wait(60) != 0 and "already runs as host/one" in complaint
        first.terminate()
