"""Stat goes first, and whoever has waited long enough goes before a stat job that comes then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicomnode.urgency import FIRST, LAST, begin_by, priorities

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
STAT, ROUTINE, LOW = range(3)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_of_what_comes_together_stat_goes_before_routine_before_low() -> None:
    assert begin_by(STAT, NOW) < begin_by(ROUTINE, NOW) < begin_by(LOW, NOW)


def test_stat_goes_before_what_has_waited_less_than_its_slack_and_after_what_has_waited_more() -> None:
    assert begin_by(ROUTINE, ago(601)) < begin_by(STAT, NOW) < begin_by(ROUTINE, ago(599))
    assert begin_by(LOW, ago(3601)) < begin_by(STAT, NOW) < begin_by(LOW, ago(3599))


def test_among_equals_the_oldest_goes_first() -> None:
    assert begin_by(ROUTINE, ago(5)) < begin_by(ROUTINE, NOW)


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), NOW, datetime.max.replace(tzinfo=UTC)])
def test_every_moment_gives_a_place_that_a_queue_takes(moment: datetime) -> None:
    assert all(FIRST <= begin_by(priority, moment) <= LAST for priority in (-1, STAT, ROUTINE, LOW, 9))


def test_priorities_are_the_words_of_a_rule_most_urgent_first() -> None:
    assert tuple(priorities()) == ("stat", "routine", "low")
