"""Who lives and who is dead: an executor holds its own lock, and goes on with the work of those whose lock is free."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

LOG = logging.getLogger(__name__)
PREDECESSOR_S = 8.0
LOST_LOOKS = 4
"""So many looks a lost lock may be with another: with our own dead session, or with one who is just taking over."""
CALM_LOOKS = 5
"""So many looks nobody's work is taken over after the database was away: with it the locks of the living are gone."""


class Lock(Protocol):
    """A lock that dies with its holder."""

    def release(self) -> None:
        """Let another have it."""

    def lost(self) -> bool:
        """Whether another may have it by now, because the database that gave it was away."""


LockTaker = Callable[[str], Lock | None]
"""The lock of that executor id, or None while its executor lives."""


class Takeover:
    """Looks every few seconds, in a thread of its own."""

    def __init__(
        self,
        take_lock: LockTaker,
        executor_id: str,
        *,
        busy: Callable[[], Iterable[str]],
        resume: Callable[[str], None],
        every_s: float,
        superseded: Callable[[], None] | None = None,
    ) -> None:
        """busy: executor ids that own begun work; resume: what that one began waits again.

        superseded: called when our lock was lost and another holds it; this process must not go on.

        Raises RuntimeError when another live process has this executor id.
        """
        self._lock = wait_for_lock(take_lock, executor_id)
        self._take_lock, self._executor_id, self._every_s = take_lock, executor_id, every_s
        self._busy, self._resume, self._superseded = busy, resume, superseded or end_now
        self._stop = threading.Event()
        self._calm = self._lost_looks = 0

    def start(self) -> None:
        """From now on the dead are noticed."""
        threading.Thread(target=self._watch, name="takeover", daemon=True).start()

    def stop(self) -> None:
        """Nobody's work is taken over any more; the own lock stays until the process ends."""
        self._stop.set()

    def look(self) -> None:
        """One look: the own lock is had again first, then the work of the dead waits again."""
        if self._lock.lost():
            self._calm = CALM_LOOKS
            again = self._take_lock(self._executor_id)
            if again is None:
                self._lost_looks += 1
                if self._lost_looks >= LOST_LOOKS:
                    self._superseded()
                return
            self._lock, self._lost_looks = again, 0
            LOG.warning("engine: the lock of %s was lost with the database and is had again", self._executor_id)
        elif self._calm:
            self._calm -= 1
        else:
            for executor_id in set(self._busy()) - {self._executor_id}:
                lock = self._take_lock(executor_id)
                if lock is None:
                    continue  # alive
                try:
                    self._resume(executor_id)
                finally:
                    lock.release()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.look()
            except Exception as fault:  # a database away for a while: the looking must not end with it
                said = next(iter(str(fault).splitlines()), "")
                LOG.error("engine: looking for the dead is tried again: %s: %s", type(fault).__name__, said)
                self._calm = CALM_LOOKS


def end_now() -> None:
    """The process ends with all its threads; who started it starts it again."""
    LOG.critical("engine: our lock was lost with the database and another process has it: this one ends")
    logging.shutdown()
    os._exit(1)


def wait_for_lock(take_lock: LockTaker, executor_id: str) -> Lock:
    """The executor's lock; a predecessor that is just ending is waited for."""
    deadline = time.monotonic() + PREDECESSOR_S
    while (lock := take_lock(executor_id)) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"another process already runs as {executor_id}; is a second node on this data folder?")
        time.sleep(0.1)
    return lock
