"""What is missing here of a series that a peer holds is fetched, nothing twice; whether it came is looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dicomnode.errors import NoAssociation, PeerRejected, PeerUnreachable
from dicomnode.fetching import Fetcher, How, Progress
from dicomnode.finding import Finder, FoundSeries
from storage import catalog, sightings
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.sightings import Sight

ARRIVE_S, LOOK_S = 10.0, 0.1
"""What a peer says that it has sent us may take so long to be here: some answer a C-MOVE before they have sent."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a series: instances at the peer, those held here before, those that came, and that could not.

    said: how many the peer says that it has sent.
    """

    instances: int
    held: int
    fetched: int
    failed: int
    said: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all that the peer holds is here now."""
        return self.held + self.fetched >= self.instances and not self.failed

    @property
    def shortfall(self) -> str:
        """What is wrong, in words; empty when nothing is."""
        if self.is_whole:
            return ""
        failed = f", {self.failed} failed" if self.failed else ""
        short = f"{self.fetched} of {self.instances - self.held} missing instances came{failed}"
        if self.said <= self.fetched:
            return short
        return f"{short}, though the peer says that it sent {self.said}: where does our AE title lead to there?"


def bring_series(
    fetcher: Fetcher,
    finder: Finder,
    series: FoundSeries,
    database: Database,
    *,
    how: How,
    by: str,
    progress: Progress = lambda done, total: None,
) -> Brought:
    """The series is here as far as the peer gives it; by: whose wish it is, a rule's name or a job.

    The peer is asked for its instances first, so that it is known what must come, and what is here is not asked for.
    How many it holds is written down before any comes: what breaks off, or is closed too early, is known to be short.
    Nobody else fetches the same series meanwhile. Raises PeerUnreachable where another try may help, PeerRejected
    where somebody has to look.
    """
    sight = _Sight(database, finder.peer.name, series, by)
    with fetcher.turns.turn(series.series_instance_uid):
        try:
            return _bring(fetcher, finder, series, database, sight, how=how, progress=progress)
        except NoAssociation:
            raise  # says nothing of the series
        except (PeerUnreachable, PeerRejected) as fault:
            sight.note(Sight.WANTED, reason=str(fault))
            raise


def _bring(
    fetcher: Fetcher,
    finder: Finder,
    series: FoundSeries,
    database: Database,
    sight: _Sight,
    *,
    how: How,
    progress: Progress,
) -> Brought:
    there = finder.instances(series)
    if series.instances and not there:
        counts = f"{finder.peer.name} counts {series.instances} instances and lists none"
        raise PeerRejected(f"{counts}; look at its log")
    sight.instances = len(there)
    held = here(fetcher.files, database, [one.sop_instance_uid for one in there])
    missing = [one for one in there if one.sop_instance_uid not in held]
    if not missing:
        sight.note(Sight.FETCHED)
        return Brought(len(there), len(held), 0, 0)
    sight.note(Sight.WANTED)
    progress(0, len(missing))
    # A peer that lists fewer than it counts has cut its list short: the series as such is asked for then.
    whole = not held or (series.instances or 0) > len(there)
    done = fetcher.fetch(finder.peer, series, missing, how=how, whole=whole, progress=progress)
    said, uids = done.completed + done.warnings, [one.sop_instance_uid for one in missing]
    ends_at = time.monotonic() + ARRIVE_S
    while len(came := here(fetcher.files, database, uids)) < min(said, len(uids)) and time.monotonic() < ends_at:
        time.sleep(LOOK_S)
    brought = Brought(len(there), len(held), len(came), done.failed, said)
    sight.note(Sight.FETCHED if brought.is_whole else Sight.WANTED, reason=brought.shortfall)
    return brought


def here(files: InstanceFiles, database: Database, sop_instance_uids: Sequence[str]) -> set[str]:
    """Those of the instances that are listed, or received and not yet listed."""
    # In this order: what is listed between the two looks is seen by the second.
    arrived = {uid for uid in sop_instance_uids if files.places_of(uid)[1].exists()}
    with database.read() as connection:
        return arrived | catalog.known_instances(connection, [uid for uid in sop_instance_uids if uid not in arrived])


def retrieved(series: FoundSeries, brought: Brought, *, how: How, by: str) -> dict[str, Any]:
    """What the audit keeps of a series that was fetched; by: whose wish it was."""
    return {
        "study_instance_uid": series.study_instance_uid,
        "series_instance_uid": series.series_instance_uid,
        "how": f"C-{how.upper()}",
        "by": by,
        "instances": brought.instances,
        "held": brought.held,
        "fetched": brought.fetched,
        "failed": brought.failed,
        "reason": brought.shortfall,
    }


class _Sight:
    """Where it is written down how far the series is; instances: how many the peer holds, as far as is known."""

    def __init__(self, database: Database, peer: str, series: FoundSeries, by: str) -> None:
        self._database, self._peer, self._series, self._by = database, peer, series, by
        self.instances = series.instances or 0

    def note(self, state: Sight, *, reason: str = "") -> None:
        with self._database.begin() as connection:
            sightings.saw(
                connection,
                peer=self._peer,
                series_instance_uid=self._series.series_instance_uid,
                study_instance_uid=self._series.study_instance_uid,
                rule=self._by,
                state=state,
                instances=self.instances,
                now=datetime.now(UTC),
                reason=reason,
            )
