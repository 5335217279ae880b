"""A nap ends at a ring for its queue and at the stop, and grows while nothing happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dicomnode.naps import POLLER, Naps

LONG_S = 600.0


def sleeper(stop: threading.Event, name: str, *, interval_s: float = LONG_S) -> threading.Thread:
    thread = threading.Thread(target=lambda: stop.wait(interval_s), name=name, daemon=True)
    thread.start()
    return thread


def covered() -> tuple[Naps, threading.Event]:
    naps, stop = Naps(), threading.Event()
    naps.cover(stop)
    return naps, stop


def test_a_ring_wakes_the_poller_of_its_queue_and_no_other() -> None:
    naps, stop = covered()
    rung, other = sleeper(stop, f"{POLLER}send.pacs"), sleeper(stop, f"{POLLER}derive")
    naps.ring("send.pacs")
    rung.join(10)
    assert not rung.is_alive() and other.is_alive() and not stop.is_set()
    stop.set()
    other.join(10)
    assert not other.is_alive()


def test_a_ring_that_comes_while_the_poller_looks_makes_it_look_again() -> None:
    naps, stop = covered()
    naps.ring("derive")
    thread = sleeper(stop, f"{POLLER}derive")
    thread.join(10)
    assert not thread.is_alive()


def test_the_stop_ends_every_nap_of_whatever_thread() -> None:
    _, stop = covered()
    threads = [sleeper(stop, name) for name in (f"{POLLER}derive", f"{POLLER}_dbos_internal_queue", "housekeeping")]
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert stop.wait(LONG_S) and stop.wait()


def test_naps_grow_after_a_ring_until_they_are_as_long_as_the_interval() -> None:
    naps, stop = covered()
    lengths: list[float] = []

    def poll() -> None:
        for _ in range(5):
            assert not stop.wait(0.05)
            lengths.append(naps._length_s[f"{POLLER}derive"])

    naps.ring("derive")
    run_as(f"{POLLER}derive", poll)
    assert lengths == [0.01, 0.02, 0.04, 0.08, 0.16], "each is the next one's most; the interval is the limit"


def run_as(name: str, step: Callable[[], None]) -> None:
    thread = threading.Thread(target=step, name=name)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
