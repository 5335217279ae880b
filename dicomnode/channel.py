"""What a receiving process tells the node: JSON lines over a pipe, and never at the expense of receiving."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

LOG = logging.getLogger(__name__)
GATHER_S = 0.02
"""What is told within this time goes out together."""
MOST_WAITING = 10_000
"""Happenings that wait for a node that does not listen; those beyond are told as sums."""

Message = Mapping[str, Any]


class Teller:
    """The receiving process's end. Telling costs an append: a thread of its own writes, however slow the node is."""

    def __init__(self, descriptor: int, *, most_waiting: int = MOST_WAITING) -> None:
        self._descriptor, self._most_waiting = descriptor, most_waiting
        self.arrived = threading.Event()
        """Set by whoever has something to tell; also by an instance that was kept, which needs no words."""
        self._waiting: deque[Message] = deque()
        self._sums: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._ending = False
        self._thread = threading.Thread(target=self._write_all, name="teller", daemon=True)
        self._thread.start()

    def say(self, message: Message) -> None:
        """The node hears this soon; returns at once."""
        with self._lock:
            self._waiting.append(message)
        self.arrived.set()

    def happened(self, event: str, peer: str, details: Mapping[str, Any]) -> None:
        """What the audit must know.

        The audit loses no count: when a node that stands still has let MOST_WAITING rows pile up, further ones are
        added up by event and peer, and their details are left to the log.
        """
        with self._lock:
            if len(self._waiting) < self._most_waiting:
                self._waiting.append({"event": event, "peer": peer, "details": dict(details)})
            else:
                add_up(self._sums.setdefault((event, peer), {"happenings": 0}), details)
        self.arrived.set()

    def end(self, *, within_s: float) -> None:
        """What was told is with the node, or the time is over."""
        self._ending = True
        self.arrived.set()
        self._thread.join(within_s)

    def _write_all(self) -> None:
        while True:
            self.arrived.wait()
            ending = self._ending
            self.arrived.clear()  # before looking: who comes from now on sets it again
            lines = [json.dumps(message) + "\n" for message in self._taken()]
            try:
                _write("".join([*lines, '{"arrived": true}\n']).encode(), self._descriptor)
            except OSError:  # the node is gone, and this process ends with it
                return
            if ending:
                return
            time.sleep(GATHER_S)

    def _taken(self) -> list[Message]:
        with self._lock:
            taken = list(self._waiting)
            taken += [{"event": event, "peer": peer, "details": sums} for (event, peer), sums in self._sums.items()]
            self._waiting.clear()
            self._sums.clear()
        return taken


def add_up(sums: dict[str, Any], details: Mapping[str, Any]) -> None:
    """One happening more in the sums of its kind; only its numbers can be added."""
    sums["happenings"] += 1
    for key, value in details.items():
        if isinstance(value, int):
            sums[key] = sums.get(key, 0) + value


def listen(descriptor: int, hear: Callable[[Message], None]) -> None:
    """Every message of one receiving process, until it has ended."""
    with os.fdopen(descriptor, "rb") as lines:
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:  # the process was killed in the middle of a line
                LOG.warning("channel: the last %d bytes of a receiving process are no message", len(line))
                continue
            hear(message)


def _write(octets: bytes, descriptor: int) -> None:
    while octets:
        octets = octets[os.write(descriptor, octets) :]
