"""Before a start it is said what is missing, and nothing is changed by asking."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.start_conditions import start_conditions
from storage.database import Database


def config(folder: Path, *, host: str, port: int) -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(f'[node]\nhost = "{host}"\nport = {port}\ndata_folder = "../var"\n')
    (folder / "rules.toml").write_text("")
    return load_config(folder)


def test_a_machine_that_has_everything_is_said_to_have_it_and_is_left_as_it_was(tmp_path: Path) -> None:
    found = list(start_conditions(config(tmp_path / "config", host="127.0.0.1", port=0)))
    assert all(good for _, _, good in found)
    assert ("database answers", "made at the first start", True) in found
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_on_which_somebody_listens_is_said_to_be_taken(tmp_path: Path, host: str) -> None:
    try:
        taken = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with taken:
        port = taken.getsockname()[1]
        found = {
            what: (finding, good) for what, finding, good in start_conditions(config(tmp_path, host=host, port=port))
        }
    finding, good = found[f"port {port}"]
    assert not good and "in use" in finding


def test_the_database_of_a_node_that_has_run_answers(tmp_path: Path) -> None:
    settings = config(tmp_path / "config", host="127.0.0.1", port=0)
    settings.data_folder.mkdir()
    database = Database.open(settings.database_url)
    database.migrate()
    database.close()
    assert ("database answers", "yes", True) in list(start_conditions(settings))
