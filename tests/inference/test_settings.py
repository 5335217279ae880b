"""Settings of a pipeline are what the admin wrote or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from inference.errors import SettingsInvalid
from inference.settings import number, one_of, read_settings, text, whole_number


@dataclass(frozen=True)
class Example:
    method: str = one_of("fast", "slow")
    strength: float = number(0.5, low=0.0, high=1.0)
    steps: int = whole_number(20, low=20, high=50)
    folder: str = text()


def test_what_is_not_given_keeps_its_default() -> None:
    assert read_settings(Example, {}) == Example("fast", 0.5, 20, "")
    assert read_settings(Example, {"method": "slow"}) == Example("slow", 0.5, 20, "")
    assert read_settings(Example, {"steps": 50, "folder": "/here"}) == Example("fast", 0.5, 50, "/here")


def test_a_whole_number_and_both_ends_of_the_range_are_taken() -> None:
    assert read_settings(Example, {"strength": 1}).strength == 1.0
    assert read_settings(Example, {"strength": 0.0}).strength == 0.0


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"strenght": 0.5}, "strenght"),
        ({"strength": 1.01}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"strength": True}, "strength"),
        ({"strength": "0.5"}, "strength"),
        ({"steps": 51}, "steps"),
        ({"steps": 20.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"folder": 7}, "folder"),
        ({"method": "other"}, "method"),
        ({"method": 1}, "method"),
        ({"method": ["fast"]}, "method"),
    ],
)
def test_an_unknown_key_or_a_value_not_allowed_is_refused_by_name(given: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(Example, given)
    assert refused.value.key == key
    assert key in str(refused.value)
