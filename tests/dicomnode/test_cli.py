"""What an administrator types is answered in words, and for a script in JSON."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.config import load_config
from dicomnode.stores import Stores
from tests.builders_typed import dicomnode
from tests.peers import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "node.toml").write_text(
        f'[node]\nport = {free_port()}\ndata_folder = "../var"\n'
        f'[peers.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    )
    (folder / "rules.toml").write_text(
        '[[rules]]\nname = "all"\nwhen = \'Modality == "CT"\'\nrun = "ct_denoising"\nsend_to = ["pacs"]\n'
    )
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "check",
        "demo",
        "jobs",
        "requeue",
        "audit",
        "echo",
        "passport",
        "verify",
        "replay",
        "explain",
        "conformance",
    ],
)
def test_help_says_what_a_command_is_for_with_an_example(command: str) -> None:
    answer = dicomnode(command, "--help")
    assert answer.returncode == 0
    assert f"dicomnode {command}" in answer.stdout
    if command not in ("demo", "verify"):
        assert "--config" in answer.stdout


def test_the_program_answers_as_it_does_in_a_process_of_its_own(config: Path) -> None:
    (config / "node.toml").write_text("[node]\nae_titel = 'X'\n")
    words = ("check", "--config", str(config))
    answer = subprocess.run(
        [sys.executable, "-m", "dicomnode", *words], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    same = dicomnode(*words)
    assert (answer.returncode, answer.stdout, answer.stderr) == (same.returncode, same.stdout, same.stderr)


def test_check_says_what_the_config_means_and_whether_it_could_start(config: Path) -> None:
    answer = dicomnode("check", "--config", config)
    assert answer.returncode == 0, answer.stderr
    assert "no mistakes" in answer.stdout and "free" in answer.stdout
    lines = json.loads(dicomnode("check", "--config", config, "--json").stdout)
    assert any(line["what"].startswith("rule") for line in lines)


def test_a_mistake_is_one_clear_line_without_a_traceback(config: Path) -> None:
    (config / "node.toml").write_text("[node]\nae_titel = 'X'\n")
    answer = dicomnode("check", "--config", config)
    assert answer.returncode == 1
    assert "node.toml" in answer.stderr and "ae_title" in answer.stderr
    assert "Traceback" not in answer.stderr and answer.stdout == ""


def test_reading_commands_make_nothing_where_no_node_has_run(config: Path) -> None:
    for command in (["jobs"], ["audit"], ["audit", "verify"], ["requeue", "1"]):
        answer = dicomnode(*command, "--config", config)
        assert answer.returncode == 1 and "no node has run yet" in answer.stderr
    assert not (config.parent / "var").exists()


def test_check_says_with_its_exit_code_that_the_port_is_taken(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", load_config(config).node.port))
        taken.listen()
        answer = dicomnode("check", "--config", config)
    assert answer.returncode == 1 and "not free" in answer.stdout


def test_an_empty_node_has_no_jobs_and_a_whole_audit(config: Path) -> None:
    Stores.open(load_config(config)).database.close()
    assert json.loads(dicomnode("jobs", "--config", config, "--json").stdout) == []
    assert json.loads(dicomnode("audit", "--config", config, "--json").stdout) == []
    verified = json.loads(dicomnode("audit", "verify", "--config", config, "--json").stdout)
    assert verified["whole"] and verified["rows"] == 0


def test_a_peer_that_does_not_answer_is_named(config: Path) -> None:
    answer = dicomnode("echo", "pacs", "--config", config)
    assert answer.returncode == 1 and "PACS at 127.0.0.1" in answer.stderr
    unknown = dicomnode("echo", "pasc", "--config", config)
    assert unknown.returncode == 1 and "pacs" in unknown.stderr


def test_requeueing_what_is_not_there_is_said_so(config: Path) -> None:
    Stores.open(load_config(config)).database.close()
    answer = dicomnode("requeue", 99, "--config", config)
    assert answer.returncode == 1 and "no job 99" in answer.stderr
