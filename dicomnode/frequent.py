"""Happenings that a peer can repeat without end: some of a minute are told one by one, the others as their sums."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dicomnode.channel import add_up
from dicomnode.service import Happening

MOST_ROWS, WITHIN_S = 100, 60.0
"""A person at a workstation asks less often. What asks more often would fill the audit, of which no row goes."""
Kind = tuple[str, str, str]
"""Event, peer and status."""


class Frequent:
    """Tells the audit what happens often; it loses no count. Safe for many threads."""

    def __init__(self, happened: Happening, *, most_rows: int = MOST_ROWS, within_s: float = WITHIN_S) -> None:
        self._happened, self._most_rows, self._within_s = happened, most_rows, within_s
        self._lock = threading.Lock()
        self._ends_at = 0.0
        self._rows: Counter[Kind] = Counter()
        self._sums: dict[Kind, dict[str, Any]] = {}
        self._timer: threading.Timer | None = None

    def happened(self, event: str, peer: str, details: Mapping[str, Any]) -> None:
        """Told at once; beyond so many of one kind in a minute, told with the others when the minute is over."""
        kind = event, peer, str(details.get("status", ""))
        with self._lock:
            now = time.monotonic()
            if now >= self._ends_at:
                self._rows.clear()
                self._ends_at = now + self._within_s
            self._rows[kind] += 1
            is_one_too_many = self._rows[kind] > self._most_rows
            if is_one_too_many:
                add_up(self._sums.setdefault(kind, {"happenings": 0}), details)
                if self._timer is None:
                    self._timer = threading.Timer(self._within_s, self.tell)
                    self._timer.daemon = True
                    self._timer.start()
        if not is_one_too_many:
            self._happened(event, peer, details)

    def tell(self) -> None:
        """The sums that wait are told now."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            sums, self._sums, self._timer = self._sums, {}, None
        for (event, peer, status), added in sums.items():
            self._happened(event, peer, added | ({"status": status} if status else {}))
