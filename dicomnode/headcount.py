"""How many associations each receiving process has open, in memory that they and the node share."""

from __future__ import annotations

import mmap
import os
from typing import Self

MOST_PLACES = 16
_BYTES = 4 * 2 * MOST_PLACES


class Headcount:
    """Two numbers a place: open associations, and connections that came since they were counted.

    Each receiving process writes its own and reads all, so nothing has to be locked. Shared memory instead of
    messages: what a process that was killed held is forgotten by one write of the node, and the limit on associations
    holds over all processes. Two that are asked in the same moment may both see the last free place: then one more is
    open than the limit says.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        words = memoryview(mmap.mmap(descriptor, _BYTES)).cast("I")
        self._open, self._fresh = words[:MOST_PLACES], words[MOST_PLACES:]

    @classmethod
    def make(cls) -> Self:
        """Nobody has an association open yet."""
        descriptor = os.memfd_create("dicomnode-headcount")
        os.truncate(descriptor, _BYTES)
        return cls(descriptor)

    def put(self, place: int, count: int) -> None:
        """So many associations are open in the process of that place."""
        self._open[place] = count

    def came(self, place: int) -> None:
        """A connection more; whether it becomes an association is not known yet, and the limit does not count it."""
        self._fresh[place] += 1

    def settle(self, place: int, count: int) -> None:
        """So many are open, and what came is among them or has gone."""
        self._open[place], self._fresh[place] = count, 0

    def is_ahead(self, place: int, *, places: int) -> bool:
        """Whether the process of that place has more to do than another of the first `places`."""
        loads = [held + fresh for held, fresh in zip(self._open[:places], self._fresh[:places], strict=True)]
        return loads[place] > min(loads)

    def total(self) -> int:
        """How many associations are open."""
        return sum(self._open)
