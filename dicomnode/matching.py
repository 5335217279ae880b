"""Attribute matching of PS3.4 C.2.2.2: what one key of a query asks, and whether a value answers it."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from storage.name_keys import name_keys, text_key

WILD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""PS3.4 C.2.2.2.4: those in which * and ? are wild."""
SEVERAL_VRS = frozenset(("AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"))
"""PS3.4 C.2.2.2.8: those in which several values can be asked for together."""
RANGE_VRS = frozenset(("DA", "TM", "DT"))
NUMBER_VRS = frozenset(("IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"))
Bounds = Callable[[str], tuple[str, str] | None]
EMPTY = '""'
FOR_EVER = "9" * 14
"""Behind every date, time and moment."""
LONGEST_KEY, MOST_VALUES = 1024, 10_000
_DATE = re.compile(r"\d{4}\.?\d{2}\.?\d{2}")
_TIME = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?")
_MOMENT = re.compile(
    r"(\d{4}(?:\d{2}(?:\d{2}(?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?)?)?)([+-](?:0\d|1[0-4])[0-5]\d)?"
)


class Unmatchable(ValueError):
    """A value of a key that asks nothing which could be matched; its words repeat nothing of the value."""


class Criterion(Protocol):
    """What one key asks of an attribute."""

    def matches(self, value: Any) -> bool:
        """Whether the attribute's value answers; None: the entity has no value."""


@dataclass(frozen=True, slots=True)
class Universal:
    """Anything, also nothing (C.2.2.2.3)."""

    def matches(self, value: Any) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Nothing:
    """No value (C.2.2.2.7 Empty Value Matching, when negotiated)."""

    def matches(self, value: Any) -> bool:
        return not any(texts(value))


@dataclass(frozen=True, slots=True)
class Text:
    """One of these texts, or one that fits a pattern among them; with `every` each of them among the values."""

    wanted: tuple[str, ...]
    wild: bool = False
    every: bool = False

    def matches(self, value: Any) -> bool:
        held = [text_key(one) for one in texts(value)]
        return (all if self.every else any)(any(self._fits(one, had) for had in held) for one in self.wanted)

    def _fits(self, wanted: str, held: str) -> bool:
        return fits(wanted, held) if self.wild else wanted == held


@dataclass(frozen=True, slots=True)
class Name:
    """One of these person names; any component group may answer, and with = each group its own."""

    wanted: tuple[tuple[str, ...], ...]
    every: bool = False

    def matches(self, value: Any) -> bool:
        held = [name_keys(one) for one in texts(value)]
        return (all if self.every else any)(any(self._fits(one, had) for had in held) for one in self.wanted)

    @staticmethod
    def _fits(wanted: tuple[str, ...], held: tuple[str, ...]) -> bool:
        if len(wanted) == 1:
            return any(group_fits(wanted[0], group) for group in held if group)
        padded = held + ("",) * (len(wanted) - len(held))
        return all(not one or group_fits(one, group) for one, group in zip(wanted, padded, strict=False))


@dataclass(frozen=True, slots=True)
class Number:
    """One of these numbers."""

    wanted: frozenset[float]

    def matches(self, value: Any) -> bool:
        return any(one in self.wanted for one in _several(value) if isinstance(one, int | float))


@dataclass(frozen=True, slots=True)
class Span:
    """Any date or time in one of these ranges, bounds included (C.2.2.2.5)."""

    ranges: tuple[tuple[str, str], ...]
    begin_of: Callable[[str], str | None] = field(compare=False)

    def matches(self, value: Any) -> bool:
        held = [begin for one in texts(value) if (begin := self.begin_of(one)) is not None]
        return any(low <= one <= high for low, high in self.ranges for one in held)


def criterion(vr: str, values: Sequence[Any], *, empty: bool = False, every: bool = False) -> Criterion:
    """What a key with these values asks. Raises Unmatchable for values that ask nothing in its VR.

    empty, every: whether Empty Value and Multiple Value Matching have been negotiated (C.5.1.1).
    """
    wanted = [one for one in values if one not in ("", None)]
    if not wanted:
        return Universal()
    if len(wanted) > MOST_VALUES or any(isinstance(one, str) and len(one) > LONGEST_KEY for one in wanted):
        raise Unmatchable(f"more than {MOST_VALUES} values, or one of more than {LONGEST_KEY} characters")
    if empty and wanted == [EMPTY]:
        return Nothing()
    if vr in NUMBER_VRS:
        return Number(frozenset(_number(one) for one in wanted))
    found = [str(one) for one in wanted]
    if vr in RANGE_VRS:
        bounds, begin_of = _FORMS[vr]
        return Span(tuple(_range(vr, one, bounds) for one in found), begin_of)
    together = every and len(found) > 1 and vr in SEVERAL_VRS
    if vr == "PN":
        return _name(found, every=together)
    keys = tuple(text_key(one) for one in found)
    wild = vr in WILD_VRS and not together and any("*" in one or "?" in one for one in keys)
    if wild and any(set(one) == {"*"} for one in keys):
        return Universal()
    return Text(keys, wild=wild, every=together)


def _name(found: Sequence[str], *, every: bool) -> Criterion:
    if any(not set(one.replace("=", "").replace("^", "")) - {"*"} for one in found):
        return Universal()  # * and *=* and ^^
    return Name(tuple(name_keys(one) for one in found), every=every)


def group_fits(pattern: str, group: str) -> bool:
    """Whether a name's component group is what the pattern says; components that it lacks are empty."""
    missing = pattern.count("^") - group.count("^")
    return fits(pattern, group) or (missing > 0 and fits(pattern, group + "^" * missing))


def fits(pattern: str, text: str) -> bool:
    """Whether the text is what a pattern of * and ? says; in a time that no hostile pattern makes long."""
    at, here, star, after = 0, 0, -1, 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, after, at = at, here, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            after += 1
            at, here = star + 1, after
        else:
            return False
    return not pattern[at:].strip("*")


def texts(value: Any) -> list[str]:
    """An attribute's values as texts; none when it has no value."""
    return [str(one) for one in _several(value) if one not in ("", None)]


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Unmatchable("no number") from None


def _range(vr: str, text: str, bounds: Bounds) -> tuple[str, str]:
    """The first and the last that the text names: A, A-B, A- or -B."""
    single = bounds(text)
    if single is not None:
        return single
    for at in (place for place, one in enumerate(text) if one == "-"):
        low, high = bounds(text[:at]) if at else None, bounds(text[at + 1 :]) if text[at + 1 :] else None
        if (low or not at) and (high or not text[at + 1 :]) and (low or high):
            return (low or ("", ""))[0], (high or ("", FOR_EVER))[1]
    raise Unmatchable(f"neither a value of VR {vr} nor a range of them")


def date_bounds(text: str) -> tuple[str, str] | None:
    """A date twice, as eight digits; None when it is none."""
    text = text.strip()
    return (text.replace(".", ""),) * 2 if _DATE.fullmatch(text) else None


def time_bounds(text: str) -> tuple[str, str] | None:
    """The first and the last moment of a time that may be short of minutes, seconds or their fraction."""
    text = text.strip()
    if not _TIME.fullmatch(text):
        return None
    digits, _, fraction = text.replace(":", "").partition(".")
    return f"{digits:0<6}.{fraction:0<6}", f"{digits}{'235959'[len(digits) :]}.{fraction:9<6}"


def moment_bounds(text: str) -> tuple[str, str] | None:
    """The first and the last moment of a DT, in UTC where it names its offset, as 21 characters."""
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    digits, _, fraction = found[1].partition(".")
    low = f"{digits}{'00010101000000'[len(digits) :]}.{fraction:0<6}"
    high = f"{digits}{'99991231235959'[len(digits) :]}.{fraction:9<6}"
    if len(digits) == 6 and "01" <= digits[4:] <= "12":  # months end on another day than the 31st
        high = f"{digits}{monthrange(int(digits[:4]) or 1, int(digits[4:]))[1]}235959.999999"
    shifted = [_in_utc(one, found[2]) for one in (low, high)]
    return None if None in shifted else (str(shifted[0]), str(shifted[1]))


def _in_utc(moment: str, offset: str | None) -> str | None:
    if offset is None:
        return moment
    minutes = (int(offset[1:3]) * 60 + int(offset[3:])) * (1 if offset[0] == "+" else -1)
    try:
        local = datetime.strptime(moment, "%Y%m%d%H%M%S.%f")
        utc = local - timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        return None
    return f"{utc.year:04d}{utc:%m%d%H%M%S.%f}"


def _begin(bounds: Bounds) -> Callable[[str], str | None]:
    def begin_of(text: str) -> str | None:
        found = bounds(text)
        return None if found is None else found[0]

    return begin_of


_FORMS: Mapping[str, tuple[Bounds, Callable[[str], str | None]]] = {
    vr: (bounds, _begin(bounds)) for vr, bounds in (("DA", date_bounds), ("TM", time_bounds), ("DT", moment_bounds))
}
