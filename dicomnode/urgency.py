"""What is begun first: whatever would have to be begun first, so that stat goes before routine and nothing starves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

SLACK_S = (0, 600, 3600)
"""stat, routine, low: so long one may stand back behind others that come after it."""
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
FIRST, LAST = 1, 2**31 - 1
"""What a queue of DBOS takes as priority, the smaller first; LAST is in the year 2088."""


def begin_by(priority: int, since: datetime) -> int:
    """The second since 2020 by which that should be begun: its place on a queue, the smaller first.

    priority: 0 stat, 1 routine, 2 low; since: from when on it could be begun. Earliest due first: what is routine
    stands back for ten minutes, what is low for an hour; then it goes before a stat job that comes only now.
    """
    slack_s = SLACK_S[min(max(priority, 0), len(SLACK_S) - 1)]
    return min(max(int((since - EPOCH).total_seconds()) + slack_s, FIRST), LAST)


def priorities() -> Sequence[str]:
    """The words of a rule's priority, most urgent first; their places are the numbers of a job's priority."""
    return ("stat", "routine", "low")
