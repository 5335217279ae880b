"""A lock tells the living from the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from storage.database import Database
from storage.locks import take_lock

HOLDER = """
import sys, time
from pathlib import Path
from storage.database import Database
from storage.locks import take_lock
folder = Path(sys.argv[1])
assert take_lock(Database.open(f"sqlite:///{folder}/node.sqlite"), folder / "locks", "worker")
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_had_once_and_again_after_release(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    first = take_lock(database, tmp_path / "locks", "worker")
    assert first is not None
    assert take_lock(database, tmp_path / "locks", "worker") is None
    assert take_lock(database, tmp_path / "locks", "another") is not None
    first.release()
    assert take_lock(database, tmp_path / "locks", "worker") is not None


def test_a_killed_holder_loses_its_lock(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert take_lock(database, tmp_path / "locks", "worker") is None
        holder.kill()
        holder.wait()
    assert take_lock(database, tmp_path / "locks", "worker") is not None
