"""A peer in a loop does not fill the audit, and no count is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomnode.frequent import Frequent
from tests.peers import wait_until

Told = list[tuple[str, str, Mapping[str, Any]]]
DONE = {"answers": 2, "asked": ["PatientID"], "status": "0x0000"}


def test_what_is_repeated_is_told_as_sums_beyond_some_rows_of_each_kind() -> None:
    told: Told = []
    frequent = Frequent(lambda *happening: told.append(happening), most_rows=3)
    for _ in range(10):
        frequent.happened("query answered", "viewer", DONE)
        frequent.happened("query answered", "other", {**DONE, "status": "0xA900"})
    assert len(told) == 6
    frequent.tell()
    assert told[6:] == [
        ("query answered", "viewer", {"happenings": 7, "answers": 14, "status": "0x0000"}),
        ("query answered", "other", {"happenings": 7, "answers": 14, "status": "0xA900"}),
    ]
    frequent.tell()
    assert len(told) == 8


def test_sums_are_told_when_the_time_is_over_and_then_rows_again() -> None:
    told: Told = []
    frequent = Frequent(lambda *happening: told.append(happening), most_rows=1, within_s=0.2)
    for _ in range(5):
        frequent.happened("query answered", "viewer", DONE)
    wait_until(lambda: sum(one[2].get("happenings", 1) for one in told) == 5, seconds=20, what="the sums")
    before = len(told)
    wait_until(lambda: frequent.happened("query answered", "viewer", DONE) or told[-1][2] == DONE, seconds=20)
    assert len(told) > before
