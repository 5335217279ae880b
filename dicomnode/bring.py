"""What is missing here of a series that a peer holds is fetched, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dicomnode.fetching import Fetcher, How, Progress
from dicomnode.finding import Finder, FoundSeries
from storage import catalog
from storage.database import Database


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a series: instances at the peer, those held here before, those that came, and that could not."""

    instances: int
    held: int
    fetched: int
    failed: int

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
        return f"the peer sent {self.fetched} of {self.instances - self.held} missing instances{failed}"


def bring_series(
    fetcher: Fetcher,
    finder: Finder,
    series: FoundSeries,
    database: Database,
    *,
    how: How,
    seen: Callable[[int], None] = lambda instances: None,
    progress: Progress = lambda done, total: None,
) -> Brought:
    """The series is here as far as the peer gives it; seen: told of how many instances it holds, before any comes.

    The peer is asked for its instances first, so that it is known what must come, and what is here is not asked for.
    Raises PeerUnreachable where another try may help, PeerRejected where somebody has to look.
    """
    there = finder.instances(series)
    seen(len(there))
    with database.read() as connection:
        held = catalog.known_instances(connection, [one.sop_instance_uid for one in there])
    missing = [one for one in there if one.sop_instance_uid not in held]
    if not missing:
        return Brought(len(there), len(held), 0, 0)
    progress(0, len(missing))
    done = fetcher.fetch(finder.peer, series, missing, how=how, whole=not held, progress=progress)
    return Brought(len(there), len(held), done.completed + done.warnings, done.failed)


def retrieved(series: FoundSeries, brought: Brought, *, how: How, by: str) -> dict[str, Any]:
    """What the audit keeps of a series that was fetched; by: whose wish it was."""
    return {
        "study_instance_uid": series.study_instance_uid,
        "series_instance_uid": series.series_instance_uid,
        "how": f"C-{how.upper()}",
        "by": by,
        **asdict(brought),
        "reason": brought.shortfall,
    }
