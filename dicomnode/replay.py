"""New rules over what was received: which series would go elsewhere, and which rule's which term is why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dicomnode.config import Config
from dicomnode.rules import Rule, Verdict
from dicomnode.ways import Asked, Decision, Path, Way, decide, keywords_of, path_in_words, work_of
from storage.catalog import Series
from storage.database import Database
from storage.received import Choice, Held, derived_headers, received_series


class Kind(StrEnum):
    """How where a series goes changes."""

    STARTS = "starts"
    ENDS = "ends"
    ALSO_TO = "also to"
    NO_LONGER_TO = "no longer to"
    PRIORITY = "priority"
    UNKNOWN = "cannot be said"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changes for a series. details: destinations, the two priorities, or the rules not asked."""

    kind: Kind
    path: Path
    details: tuple[str, ...]

    def __str__(self) -> str:
        what, details = path_in_words(self.path), ", ".join(self.details)
        match self.kind:
            case Kind.STARTS:
                return f"+ {what}" + (f" to {details}" if details else "")
            case Kind.ENDS:
                return f"- {what}" + (f" to {details}" if details else "")
            case Kind.ALSO_TO:
                return f"+ {what}: also to {details}"
            case Kind.NO_LONGER_TO:
                return f"- {what}: no longer to {details}"
            case Kind.PRIORITY:
                return f"~ {what}: {self.details[0]} becomes {self.details[1]}"
            case Kind.UNKNOWN:
                return f"? after {what}, which has derived nothing of the series that is here: {details}"


@dataclass(frozen=True, slots=True)
class Because:
    """A rule that decides otherwise: its verdict by the rules in force and by the new ones; None: no such rule."""

    rule: str
    before: Path
    now: Verdict | None
    then: Verdict | None

    @property
    def outcome(self) -> tuple[Any, ...]:
        """What is alike in all series for which the rule decides so: the terms' outcomes, not their values."""
        sides = (self.now, self.then)
        terms = [one and (one.met, tuple((term.text, term.outcome) for term in one.terms)) for one in sides]
        return (self.rule, self.before, *terms)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One series: what changes for it, and why. otherwise: rules decide otherwise, but it goes the same way."""

    series: Series
    changes: tuple[Change, ...]
    because: tuple[Because, ...]
    otherwise: bool

    @property
    def alike(self) -> tuple[Any, ...]:
        """The same for all series that change alike for the same reason."""
        return self.changes, tuple(one.outcome for one in self.because)


@dataclass(slots=True)
class Group:
    """Series that change alike for the same reason, the first of them as an example."""

    example: Replayed
    count: int = 0


@dataclass(slots=True)
class Totals:
    """What the whole comes to. now, then: (work, destination) -> series."""

    series: int = 0
    changed: int = 0
    uncertain: int = 0
    otherwise: int = 0
    now: Counter[tuple[str, str]] = field(default_factory=Counter)
    then: Counter[tuple[str, str]] = field(default_factory=Counter)
    groups: dict[tuple[Any, ...], Group] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Whether anything changes, or may."""
        return bool(self.changed or self.uncertain)

    def add(self, one: Replayed, flows: tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]) -> None:
        """One more series."""
        self.series += 1
        self.now.update(flows[0])
        self.then.update(flows[1])
        certain = any(change.kind is not Kind.UNKNOWN for change in one.changes)
        self.changed += certain
        self.uncertain += bool(one.changes) and not certain
        self.otherwise += one.otherwise
        if one.changes:
            self.groups.setdefault(one.alike, Group(one)).count += 1


def replay(
    database: Database, choice: Choice, *, in_force: Config, new: Config, totals: Totals, now: datetime
) -> Iterator[Replayed]:
    """Every chosen series in turn, with what the new config's rules change; totals grow with it. Nothing is written."""
    keywords = keywords_of((*in_force.rules, *new.rules))

    def derived(key: str) -> list[Held]:
        with database.read() as connection:
            return derived_headers(connection, key)

    for held in received_series(database, choice):
        decisions = [decide(config, held, derived=derived, keywords=keywords, now=now) for config in (in_force, new)]
        one = compared(held.series, *decisions)
        totals.add(one, (_flows(decisions[0]), _flows(decisions[1])))
        yield one


def compared(series: Series, now: Decision, then: Decision) -> Replayed:
    """What changes for a series between two decisions on it."""
    changes = (*_changed_ways(now.ways, then.ways), *_changed_unknown(now, then))
    because = tuple(_because(now.asked, then.asked))
    return Replayed(series, changes, because if changes else (), otherwise=bool(because) and not changes)


def _flows(decision: Decision) -> Counter[tuple[str, str]]:
    return Counter((path_in_words(path), name) for path, way in decision.ways.items() for name in way.send_to or ("",))


def _changed_ways(now: dict[Path, Way], then: dict[Path, Way]) -> Iterator[Change]:
    for path in dict.fromkeys((*now, *then)):
        old, new = now.get(path), then.get(path)
        if old is None and new is not None:
            yield Change(Kind.STARTS, path, new.send_to)
        elif new is None and old is not None:
            yield Change(Kind.ENDS, path, old.send_to)
        elif old is not None and new is not None:
            if gone := tuple(name for name in old.send_to if name not in new.send_to):
                yield Change(Kind.NO_LONGER_TO, path, gone)
            if more := tuple(name for name in new.send_to if name not in old.send_to):
                yield Change(Kind.ALSO_TO, path, more)
            if old.priority != new.priority:
                yield Change(Kind.PRIORITY, path, (old.priority, new.priority))


def _changed_unknown(now: Decision, then: Decision) -> Iterator[Change]:
    """Rules that cannot be asked matter only where they are not the same on both sides."""
    for path in dict.fromkeys((*now.unknown, *then.unknown)):
        sides = [tuple(map(_as_asked, one.unknown.get(path, ()))) for one in (now, then)]
        if sides[0] != sides[1]:
            rules = (*now.unknown.get(path, ()), *then.unknown.get(path, ()))
            yield Change(Kind.UNKNOWN, path, tuple(dict.fromkeys(f"rule {rule.name!r}" for rule in rules)))


def _as_asked(rule: Rule) -> tuple[Any, ...]:
    """All that a rule which follows others asks and does; its name is not part of it."""
    return rule.when, *work_of(rule), rule.send_to, rule.priority, rule.stop


def _because(now: Iterable[Asked], then: Iterable[Asked]) -> Iterator[Because]:
    """The rules that do not do the same in both."""
    sides = [{(one.before, one.rule.name): one for one in asked} for asked in (now, then)]
    for place in dict.fromkeys((*sides[0], *sides[1])):
        old, new = sides[0].get(place), sides[1].get(place)
        if (old and old.effect) != (new and new.effect):
            yield Because(place[1], place[0], old.verdict if old else None, new.verdict if new else None)
