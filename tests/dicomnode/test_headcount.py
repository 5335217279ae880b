"""Receiving processes know of each other how much they have to do, and the dead are forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dicomnode.headcount import Headcount

ROOT = Path(__file__).parents[2]


def test_another_process_sees_what_is_put_and_the_node_sees_the_sum() -> None:
    mine = Headcount.make()
    mine.put(0, 3)
    code = "import sys; from dicomnode.headcount import Headcount; other = Headcount(int(sys.argv[1]));"
    code += "assert other.total() == 3; other.put(1, 4)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(mine.descriptor)], pass_fds=(mine.descriptor,), cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert mine.total() == 7
    mine.settle(1, 0)  # as the node does for one that was killed
    assert mine.total() == 3
    os.close(mine.descriptor)


def test_who_has_less_to_do_is_let_first_and_places_that_nobody_has_do_not_count() -> None:
    count = Headcount.make()
    assert not count.is_ahead(0, places=2)
    count.put(0, 1)
    assert count.is_ahead(0, places=2) and not count.is_ahead(1, places=2)
    assert not count.is_ahead(0, places=1)
    os.close(count.descriptor)


def test_a_connection_that_came_is_work_to_do_but_takes_no_place_of_the_limit() -> None:
    count = Headcount.make()
    count.came(0)
    assert count.is_ahead(0, places=2) and count.total() == 0
    count.settle(0, 0)
    assert not count.is_ahead(0, places=2)
    os.close(count.descriptor)
