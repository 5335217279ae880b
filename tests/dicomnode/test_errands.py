"""Each errand goes out once at a time, not too many at once, and none keeps the process from ending."""

from __future__ import annotations

import subprocess
import sys
import threading

from dicomnode.errands import Errands, Turns


def test_an_errand_is_out_once_at_a_time() -> None:
    errands, may_end = Errands(), threading.Event()
    assert errands.send("a", may_end.wait) and errands.is_out("a")
    assert not errands.send("a", may_end.wait)
    assert errands.send("b", may_end.wait)
    may_end.set()
    while errands.is_out("a"):
        pass
    assert errands.send("a", lambda: None)


def test_not_too_many_are_out_at_once() -> None:
    errands, may_end = Errands(most=2), threading.Event()
    assert [errands.send(key, may_end.wait) for key in "abc"] == [True, True, False]
    may_end.set()


def test_an_errand_that_does_not_come_back_does_not_keep_the_process() -> None:
    code = "import time; from dicomnode.errands import Errands; Errands().send('a', lambda: time.sleep(600))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_whoever_wants_the_same_has_it_one_after_the_other() -> None:
    turns, inside, most = Turns(), [0], [0]
    gate = threading.Event()

    def fetch(key: str) -> None:
        with turns.turn(key):
            inside[0] += key == "same"
            most[0] = max(most[0], inside[0])
            gate.wait(0.05)
            inside[0] -= key == "same"

    threads = [threading.Thread(target=fetch, args=("same",)) for _ in range(3)]
    with turns.turn("other"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert most == [1] and not any(thread.is_alive() for thread in threads)
