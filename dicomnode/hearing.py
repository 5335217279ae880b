"""How long nothing came for a series, as far as the node can know: quiet counts only while it listened."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from dicomnode.errors import DatasetUnfit
from dicomnode.peek import first_uids, peek_uids
from storage.catalog import Series
from storage.instance_files import InstanceFiles, data_set_offset

LONGEST_LOOK_S = 2.0
"""A longer pause between two looks counts as this: machine or process stood still, and the senders' words with it."""
NEARLY_S = 1.0
HELD_S = 3600.0
"""So long an instance that does not come to its end may keep its series open."""
HEAD_BYTES = 1 << 16
_TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI"


class Hearing:
    """What is known of the moments in which something could have come: `look` before each look at what arrived."""

    def __init__(self, files: InstanceFiles, *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: in seconds; it may go on or stand still while the machine does."""
        self._files, self._clock = files, clock
        self._looked_at: float | None = None
        self._listened_s = 0.0
        self._until = datetime.min.replace(tzinfo=UTC)
        self._grown: dict[str, tuple[int, int, float]] = {}
        """Series -> its generation and instances when it last grew, and how long the node had listened by then."""
        self._nearly: set[str] = set()
        """Series that are quiet long enough, or soon will be: what is being received of them must be known."""
        self._quiet: set[str] = set()
        """Those of the look before of which nothing was being received when this look began."""
        self._coming: dict[Path, tuple[str, float]] = {}
        """A file that is being written -> its series ("" while that cannot be said), and when it was first seen."""

    def look(self) -> None:
        """A look at what arrived begins: what was being received before it, and is kept meanwhile, is found by it."""
        now = self._clock()
        if self._looked_at is not None:
            self._listened_s += min(now - self._looked_at, LONGEST_LOOK_S)
        self._looked_at = now
        self._quiet = self._nearly - self._series_coming(now) if self._nearly else set()
        self._nearly = set()

    def listed(self, until: datetime) -> None:
        """Everything that came before that moment is listed."""
        self._until = until

    def forget_all_but(self, uids: set[str]) -> None:
        """Other series are no longer asked about."""
        self._grown = {uid: grown for uid, grown in self._grown.items() if uid in uids}

    def quiet_s(self, series: Series, *, enough_s: float) -> float:
        """For so many seconds the node has listened and nothing came for the series; asked once a look.

        After a start, a pause of the machine, a step of its clock or an outage of the database everything that stood
        still has its time to come: a series that seems old by its files' times is not taken for whole at once.
        And it is never enough while an instance of the series is being received, however long that takes.
        """
        uid, stands = series.series_instance_uid, (series.generation, series.instance_count)
        if uid not in self._grown or self._grown[uid][:2] != stands:
            self._grown[uid] = (*stands, self._listened_s)
        listened_s = self._listened_s - self._grown[uid][2]
        by_files_s = (self._until - series.last_received_at).total_seconds()
        quiet_s = max(0.0, min(listened_s, by_files_s))
        if quiet_s >= enough_s - NEARLY_S:
            self._nearly.add(uid)
        return quiet_s if quiet_s < enough_s or uid in self._quiet else 0.0

    def _series_coming(self, now: float) -> set[str]:
        """The series of which an instance is being received, also one whose bytes the disk does not take yet."""
        coming = {}
        for part in self._files.coming():
            uid, since = self._coming.get(part, ("", now))
            coming[part] = (uid or series_of_part(part), since)
        self._coming = coming
        return {uid for uid, since in coming.values() if uid and now - since < HELD_S}


def series_of_part(part: Path) -> str:
    """The series of an instance of which only the beginning may be written yet; "" when that does not say it."""
    with suppress(FileNotFoundError, DatasetUnfit, ValueError), part.open("rb") as file:
        head = file.read(HEAD_BYTES)
        begin = data_set_offset(head[:144], len(head))
        at = head.index(_TRANSFER_SYNTAX, 132, begin) + len(_TRANSFER_SYNTAX)
        length = int.from_bytes(head[at : at + 2], "little")
        syntax = head[at + 2 : at + 2 + length].rstrip(b"\0 ").decode("ascii")
        uids = first_uids(memoryview(head)[begin:], syntax) or peek_uids(BytesIO(head[begin:]), syntax)
        return uids["SeriesInstanceUID"]
    return ""
