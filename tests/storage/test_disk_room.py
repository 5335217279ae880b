"""The room of a disk is asked of the disk, by a process that has no database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from storage.disk_room import free_bytes

ROOT = Path(__file__).parents[2]


def test_the_room_is_that_which_a_process_without_privileges_has(tmp_path: Path) -> None:
    state = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - state.f_bavail * state.f_frsize) < 1 << 30  # others write at the same time


def test_the_room_is_asked_without_a_database() -> None:
    code = "import sys, storage.disk_room, storage.instance_files; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
