"""Dates move by whole days, and what is none of its representation is known."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.deidentify.values import dummy, moved, of_its_form, told_age

DAYS = st.dates(date(1910, 1, 1), date(2100, 1, 1))


@given(DAYS, DAYS, st.integers(1, 3650))
def test_distances_between_dates_stay(first: date, second: date, days: int) -> None:
    new = [moved("DA", f"{one:%Y%m%d}", days=days) for one in (first, second)]
    made = [date(int(one[:4]), int(one[4:6]), int(one[6:])) for one in new]
    assert made[1] - made[0] == second - first
    assert first - made[0] == timedelta(days=days)


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("DA", "20240301", "20240229"),
        ("DA", "2024.03.01", "20240229"),
        ("DA", " 20240301 ", "20240229"),
        ("DT", "20240301101112.123456+0100", "20240229101112.123456+0100"),
        ("DT", "20240301", "20240229"),
        ("DT", "202403", ""),
        ("DT", "2024", ""),
        ("DA", "20241399", ""),
        ("DA", "00010101", ""),
        ("DA", "Zwingli", ""),
        ("TM", "101112.5", "101112.5"),
        ("TM", "Zwingli", ""),
    ],
)
def test_only_full_dates_are_moved_and_times_stay(vr: str, value: str, expected: str) -> None:
    assert moved(vr, value, days=1) == expected


@pytest.mark.parametrize(
    ("vr", "value", "good"),
    [
        ("CS", "ORIGINAL", True),
        ("CS", "DOE^JOHN", False),
        ("CS", "Huldrych Zwingli, born in 1484 in Wildhaus", False),
        ("DS", "-1.5e3", True),
        ("DS", "John", False),
        ("IS", "12", True),
        ("IS", "1.5", False),
        ("UI", "1.2.3", True),
        ("UI", "1.2.John", False),
        ("AS", "045Y", True),
        ("AS", "John", False),
        ("DA", "", True),
        ("LO", "anything", True),
    ],
)
def test_a_value_of_another_form_is_known(vr: str, value: str, good: bool) -> None:
    assert of_its_form(vr, [value]) is good


def test_dummies_are_values_of_their_form() -> None:
    for vr in ("DA", "DT", "TM", "AS", "DS", "IS", "CS"):
        assert of_its_form(vr, [str(dummy(vr))])
    assert dummy("OB") == b"\0\0"


@pytest.mark.parametrize(
    ("age", "told"), [("089Y", "089Y"), ("090Y", "090Y"), ("097Y", "090Y"), ("999M", "999M"), ("", ""), ("old", "old")]
)
def test_an_age_above_89_is_told_as_90(age: str, told: str) -> None:
    assert told_age(age) == told
