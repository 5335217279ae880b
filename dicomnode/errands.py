"""Work that waits for peers, on threads that never keep the process from ending, and in turns where it must."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

AT_ONCE = 4
"""So many peers are asked at the same time."""


class Errands:
    """Which errands are out; for one caller."""

    def __init__(self, *, most: int = AT_ONCE) -> None:
        self._most = most
        self._out: dict[Hashable, threading.Thread] = {}

    def is_out(self, key: Hashable) -> bool:
        """Whether that errand has not come back yet."""
        thread = self._out.get(key)
        return thread is not None and thread.is_alive()

    def send(self, key: Hashable, errand: Callable[[], None]) -> bool:
        """Whether it went out: not while one of that key is out, nor while too many are."""
        self._out = {known: thread for known, thread in self._out.items() if thread.is_alive()}
        if key in self._out or len(self._out) >= self._most:
            return False
        # A daemon: a C-MOVE may take minutes, and a node that is told to stop does not wait for it.
        self._out[key] = threading.Thread(target=errand, name=f"errand {key}", daemon=True)
        self._out[key].start()
        return True


class Turns:
    """Whoever wants the same has it one after the other; for any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[Hashable] = set()

    @contextmanager
    def turn(self, key: Hashable) -> Iterator[None]:
        """Nobody else is inside with that key."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._taken)
            self._taken.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._taken.discard(key)
                self._changed.notify_all()
