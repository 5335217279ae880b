"""A pipeline's settings from what the admin wrote: a frozen dataclass whose fields say what they allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any, TypeVar, cast

from inference.errors import SettingsInvalid

Settings = TypeVar("Settings")


def one_of(default: str, *others: str) -> str:
    """A field that takes one of these words; the first is the default."""
    return field(default=default, metadata={"words": (default, *others)})


def number(default: float, *, low: float, high: float) -> float:
    """A field that takes a number from `low` to `high`, both allowed."""
    return field(default=default, metadata={"range": (low, high)})


def whole_number(default: int, *, low: int, high: int) -> int:
    """A field that takes a whole number from `low` to `high`, both allowed."""
    return field(default=default, metadata={"range": (low, high), "whole": True})


def text(default: str = "") -> str:
    """A field that takes any text."""
    return field(default=default, metadata={"text": True})


def read_settings(cls: type[Settings], given: Mapping[str, Any]) -> Settings:
    """`cls` with the given values, defaults elsewhere; raises SettingsInvalid for a key or value not allowed.

    cls: a frozen dataclass whose fields were all made by the functions above.
    """
    known: dict[str, Field[Any]] = {each.name: each for each in fields(cast(Any, cls))}
    for key in given:
        if key not in known:
            raise SettingsInvalid(key, f"there is no setting {key!r}; there are {', '.join(known)}")
    return cls(**{key: _checked(known[key], value) for key, value in given.items()})


def _checked(allowed: Field[Any], value: object) -> str | float:
    if allowed.metadata.get("text"):
        if not isinstance(value, str):
            raise SettingsInvalid(allowed.name, f"{allowed.name} is a text, not {value!r}")
        return value
    if words := allowed.metadata.get("words"):
        if value not in words or not isinstance(value, str):
            raise SettingsInvalid(allowed.name, f"{allowed.name} is one of {', '.join(words)}, not {value!r}")
        return value
    (low, high), whole = allowed.metadata["range"], allowed.metadata.get("whole", False)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise SettingsInvalid(allowed.name, f"{allowed.name} is a {kind} from {low:g} to {high:g}, not {value!r}")
    return value if isinstance(value, int) and whole else float(value)
