"""systemd hears on a real socket what it must hear, and a process without systemd goes on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dicomnode.notify import notify, watchdog_s


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_listener_hears_the_state(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@dicomnode-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address if kind == "path" else "\0" + address[1:])
        assert notify("READY=1", environment={"NOTIFY_SOCKET": address})
        assert systemd.recv(64) == b"READY=1"


def test_nobody_is_told_where_nobody_listens(tmp_path: Path) -> None:
    assert not notify("READY=1", environment={})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": "vsock:2:1234"})


def test_the_watchdog_is_told_twice_within_its_limit(tmp_path: Path) -> None:
    assert watchdog_s(environment={"WATCHDOG_USEC": "60000000"}) == 30.0
    assert watchdog_s(environment={"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}],
)
def test_a_watchdog_that_does_not_ask_this_process_is_not_told(environment: dict[str, str]) -> None:
    assert watchdog_s(environment=environment) is None
