"""The naps of DBOS's threads: short while there is something to do, long while there is not, and ended by a ring."""

from __future__ import annotations

import threading
import time
from typing import Any

POLLER = "queue-worker-"
"""How DBOS names the thread that polls a queue; the queue's name follows."""
FIRST_S = 0.01
STRETCH = 5.0
"""Its other threads look for what we do not use (time-outs, delays, schedules): they may nap so many times longer."""


class Naps:
    """DBOS 3.4 knows polling only: often costs a core's percents, seldom costs every job its seconds.

    So the waiting of its threads is replaced: the poller of a queue wakes at a ring for that queue, then naps 10, 20,
    40 ... ms up to its interval. The intervals are the fallback: were the replacement to fail, nothing would be lost.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._length_s: dict[str, float] = {}

    def ring(self, queue: str) -> None:
        """The poller of that queue looks at once; one that is just looking looks again."""
        with self._changed:
            self._length_s[POLLER + queue] = 0.0
            self._changed.notify_all()

    def cover(self, stop: threading.Event) -> None:
        """Who waits for this event naps as written above; setting it ends every nap for good."""
        set_it: Any = stop.set

        def set_and_wake() -> None:
            set_it()
            with self._changed:
                self._changed.notify_all()

        def nap(timeout: float | None = None) -> bool:
            return self._nap(stop, float("inf") if timeout is None else timeout)

        stop.set, stop.wait = set_and_wake, nap  # type: ignore[method-assign]

    def _nap(self, stop: threading.Event, interval_s: float) -> bool:
        name, begun = threading.current_thread().name, time.monotonic()
        polls = name.startswith(POLLER) and not name.startswith(f"{POLLER}_dbos")
        with self._changed:
            while not stop.is_set():
                length_s = min(self._length_s.get(name, interval_s), interval_s) if polls else STRETCH * interval_s
                left_s = begun + length_s - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
            if polls:
                self._length_s[name] = max(FIRST_S, 2 * self._length_s.get(name, interval_s))
        return stop.is_set()
