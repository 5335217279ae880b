"""A ring is heard by everyone who listens for the room, in other processes too, and by nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dicomnode.bell import FOLDER, Bell

ROOT = Path(__file__).parents[2]


def test_everyone_who_listens_for_the_room_hears_it_and_the_others_do_not(tmp_path: Path) -> None:
    one, two, other = threading.Event(), threading.Event(), threading.Event()
    Bell(tmp_path).listen("derive", "host/work-0", one.set)
    Bell(tmp_path).listen("derive", "host/work-1", two.set)
    Bell(tmp_path).listen("send", "host/send", other.set)
    Bell(tmp_path).ring("derive")
    assert one.wait(10) and two.wait(10)
    assert not other.is_set()


def test_another_process_is_heard(tmp_path: Path) -> None:
    heard = threading.Event()
    Bell(tmp_path).listen("dispatch", "node", heard.set)
    code = f"from pathlib import Path; from dicomnode.bell import Bell; Bell(Path({str(tmp_path)!r})).ring('dispatch')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
    assert heard.wait(10)


def test_ringing_where_nobody_listens_or_ever_did_waits_for_nobody(tmp_path: Path) -> None:
    bell = Bell(tmp_path)
    bell.ring("derive")
    (tmp_path / FOLDER).mkdir()
    os.mkfifo(tmp_path / FOLDER / "derive.gone")
    bell.ring("derive")


def test_a_listener_that_stands_still_holds_up_nobody_who_rings(tmp_path: Path) -> None:
    go_on, heard = threading.Event(), threading.Event()

    def stand_still() -> None:
        heard.set()
        go_on.wait(30)

    bell = Bell(tmp_path)
    bell.listen("send", "host/send", stand_still)
    bell.ring("send")
    assert heard.wait(10)
    (pipe,) = (tmp_path / FOLDER).iterdir()
    descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:  # until it is full
            os.write(descriptor, bytes(4096))
    os.close(descriptor)
    bell.ring("send")
    go_on.set()


def test_what_is_no_pipe_is_neither_written_to_nor_listened_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "derive.file").write_text("")
    Bell(tmp_path).ring("derive")
    assert (tmp_path / FOLDER / "derive.file").read_text() == ""
    Bell(tmp_path).listen("derive", "one", lambda: None)
    (pipe,) = (one for one in (tmp_path / FOLDER).iterdir() if one.is_fifo())
    assert pipe.stat().st_mode & 0o777 == 0o600
    pipe.unlink()
    pipe.write_text("")
    Bell(tmp_path).listen("derive", "one", lambda: None)
    assert "found by polling" in caplog.text
