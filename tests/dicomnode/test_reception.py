"""The node holds the port; whether those who receive at it answer is known, and said when they do not."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config, keep_in_force, load_config
from dicomnode.errors import ConfigFault, NodeFault
from dicomnode.reception import Reception, receivers
from tests.builders_receive import RawPeer
from tests.peers import wait_until

Told = list[tuple[str, str, Mapping[str, Any]]]


def config(folder: Path, *, more: str = "") -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(
        f'[node]\nport = 0\ndata_folder = "../var"\n{more}[peers.scanner]\nae_title = "SCANNER"\nmay = ["store"]\n'
    )
    (folder / "rules.toml").write_text("")
    return load_config(folder)


def reception_of(settings: Config) -> tuple[Reception, Told]:
    told: Told = []
    arrived = threading.Event()
    return Reception(settings, tell=lambda *happening: told.append(happening), arrived=arrived), told


def test_the_receivers_are_as_many_as_the_config_says_and_share_what_the_node_opened(tmp_path: Path) -> None:
    made = receivers(config(tmp_path / "config", more="receivers = 3\n"), {"--listen-fd": 7}, lambda *_: None)
    assert [child.arguments[0] for child in made] == ["receive"] * 3
    assert len({child.executor_id for child in made}) == 3
    assert all(child.descriptors == (7,) and child.nice == 0 for child in made)
    assert "--listen-fd 7" in " ".join(made[0].arguments)


def test_who_answers_is_known_from_its_first_word_to_its_death(tmp_path: Path) -> None:
    settings = config(tmp_path / "config", more="receivers = 1\n")
    keep_in_force(settings)
    reception, told = reception_of(settings)
    port = reception.open()
    reception.start()
    assert not any(reception.living().values())
    reception.wait_until_answering()
    assert all(reception.living().values())
    with RawPeer(port):
        wait_until(lambda: reception.open_associations == 1, seconds=30, what="the association being counted")
        (name,) = reception.living()
        os.kill(reception._processes.process_ids()[name], signal.SIGKILL)
        wait_until(reception.ended.is_set, seconds=30, what="its death being heard")
        wait_until(reception.tend, seconds=30, what="its death being seen")
    assert not any(reception.living().values())  # started again, and has not answered yet
    assert reception.open_associations == 0
    wait_until(lambda: all(reception.living().values()), what="its answer")
    assert [event for event, _, _ in told] == ["process restarted"]
    reception.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_receiver_that_cannot_start_is_a_clear_fault_and_no_endless_wait(tmp_path: Path) -> None:
    reception, _ = reception_of(config(tmp_path / "config"))  # no config in force is kept: it finds none
    reception.open()
    reception.start()
    with pytest.raises(NodeFault, match="ended before it could answer"):
        reception.wait_until_answering()
    reception.stop()


def test_a_port_that_is_taken_is_said_to_be_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomnode.reception.PORT_FREE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = config(tmp_path / "config")
        port = taken.getsockname()[1]
        node = settings.node.model_copy(update={"port": port})
        reception, _ = reception_of(replace(settings, node=node))
        with pytest.raises(ConfigFault, match=rf"node\.port: cannot listen on 127\.0\.0\.1:{port} .*in use"):
            reception.open()
    assert reception.living() == {}


def test_a_port_that_the_dead_are_giving_up_is_waited_for(tmp_path: Path) -> None:
    settings = config(tmp_path / "config")
    taken = socket.create_server(("127.0.0.1", 0))
    node = settings.node.model_copy(update={"port": taken.getsockname()[1]})
    reception, _ = reception_of(replace(settings, node=node))
    threading.Timer(2.5, taken.close).start()
    assert reception.open() == node.port
    reception.stop()
