"""Where a series goes by a set of rules: what is done with it, where that is sent, and what each rule said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from dicomnode.config import Config
from dicomnode.route import made_by_us
from dicomnode.rules import Priority, Rule, Verdict, decides, match_rules, shared_attributes
from dicomnode.urgency import priorities
from dicomnode.wanted_job import new_job
from storage.catalog import Series
from storage.received import Held

ALWAYS_READ = frozenset({"SOPClassUID", "ImageType", "ManufacturerModelName"})
"""What tells images from what stands beside them, and what we made ourselves; the rest only where a rule asks."""
_NOT_OF_THE_WORK = frozenset({"name", "when", "run", "send_to", "priority", "stop", "from_peers", "after", "condition"})

Derived = Callable[[str], Sequence[Held]]
"""Key of a job -> the series that it derived and that are here; none when it was never done."""


@dataclass(frozen=True, slots=True)
class Step:
    """A pipeline and how its series is treated where that is not the usual: (key of rules.toml, value)."""

    pipeline: str
    treated: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.pipeline + "".join(f" ({key} = {value})" for key, value in self.treated)


Path = tuple[Step, ...]
"""Pipelines one after another, each on what the one before derived."""


def path_in_words(path: Path) -> str:
    """The pipelines in their order."""
    return ", then ".join(map(str, path))


@dataclass(frozen=True, slots=True)
class Way:
    """Work on a series and where its result goes; rules: those that ask for it."""

    path: Path
    send_to: tuple[str, ...]
    priority: Priority
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rule said of a series, or of what the pipelines of `before` derived of it."""

    before: Path
    rule: Rule
    verdict: Verdict

    @property
    def effect(self) -> tuple[Any, ...] | None:
        """What the rule does to this series; None: nothing."""
        if not self.verdict.met:
            return None
        return *work_of(self.rule), self.rule.send_to, self.rule.priority, self.rule.stop


@dataclass(slots=True)
class Decision:
    """All that a set of rules says of one series. unknown: the rules that could not be asked, as nothing of the
    series went through the pipelines before them yet."""

    ways: dict[Path, Way] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    unknown: dict[Path, tuple[Rule, ...]] = field(default_factory=dict)
    not_routed: str = ""


def work_of(rule: Rule) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a rule has done: its pipeline, and every key beside it that is not as usual."""
    treated = tuple(
        (one.name, str(value))
        for one in fields(rule)
        if one.name not in _NOT_OF_THE_WORK and (value := getattr(rule, one.name)) != one.default
    )
    return rule.run, treated


def keywords_of(rules: Iterable[Rule]) -> frozenset[str]:
    """Every attribute that has to be read to decide by these rules."""
    return ALWAYS_READ.union(*(rule.condition.keywords for rule in rules))


def decide(config: Config, held: Held, *, derived: Derived, keywords: frozenset[str], now: datetime) -> Decision:
    """What the rules of a config say of a series that was received, as `route` would when it is whole.

    keywords: those that are read, `keywords_of` the rules at least.
    """
    images, shared_headers = _images(held, keywords)
    shared = shared_attributes(shared_headers)
    decision = Decision()
    if made_by_us(shared):
        decision.not_routed = "made by this kind of node: no rule is asked"
        return decision
    chooser = _Chooser(config, derived, keywords, now, decision)
    rules = [rule for rule in config.rules if not rule.after]
    verdicts = match_rules(rules, shared, peer=held.series.peer)
    chooser.take(held.series, images, list(zip(rules, verdicts, strict=True)), before=())
    return decision


def decide_derived(config: Config, held: Held, *, made_by: Sequence[str], derived: Derived, now: datetime) -> Decision:
    """What the rules that follow those that asked for it (made_by) say of a series that we derived."""
    rules = [rule for rule in config.rules if rule.after and rule.after in made_by]
    keywords, decision = keywords_of(config.rules), Decision()
    chooser = _Chooser(config, derived, keywords, now, decision)
    chooser.follow(held, rules, before=(), urgency="low")
    return decision


def _images(held: Held, keywords: frozenset[str]) -> tuple[tuple[str, ...], list[Mapping[str, Any]]]:
    """The deciding instances' UIDs in order, and of their headers what rules ask for."""
    deciding = [uid for uid, header in held.headers.items() if decides(header)] or list(held.headers)
    headers = [{key: held.headers[uid][key] for key in keywords & held.headers[uid].keys()} for uid in deciding]
    return tuple(sorted(deciding)), list(headers)


class _Chooser:
    """Follows a series along the rules that it meets, and what was derived of it along those that come after."""

    def __init__(
        self, config: Config, derived: Derived, keywords: frozenset[str], now: datetime, decision: Decision
    ) -> None:
        self._config, self._derived, self._keywords, self._now = config, derived, keywords, now
        self._decision = decision

    def take(
        self,
        series: Series,
        source_uids: tuple[str, ...],
        judged: Sequence[tuple[Rule, Verdict]],
        *,
        before: Path,
        urgency: Priority = "low",
    ) -> None:
        """The verdicts on the series as ways, and on from there. urgency: the least that the ways have."""
        found: dict[Path, list[Rule]] = {}
        for rule, verdict in judged:
            self._decision.asked.append(Asked(before, rule, verdict))
            if verdict.met and rule.run:
                found.setdefault((*before, Step(*work_of(rule))), []).append(rule)
        for path, rules in found.items():
            way = self._joined(path, rules, urgency)
            following = [one for one in self._config.rules if one.after and one.after in way.rules]
            if not following:
                continue
            key = new_job(rules[0], series, source_uids, config=self._config, now=self._now).key
            images = [one for one in self._derived(key) if one.headers and decides(next(iter(one.headers.values())))]
            if not images:
                self._decision.unknown[path] = tuple(following)
            for one in images:
                self.follow(one, following, before=path, urgency=way.priority)

    def follow(self, derived: Held, rules: Sequence[Rule], *, before: Path, urgency: Priority) -> None:
        """What rules that follow others say of a derived series; it has no sender."""
        source_uids, headers = _images(derived, self._keywords)
        verdicts = match_rules(rules, shared_attributes(headers), peer="")
        judged = list(zip(rules, verdicts, strict=True))
        self.take(replace(derived.series, peer=""), source_uids, judged, before=before, urgency=urgency)

    def _joined(self, path: Path, rules: Sequence[Rule], urgency: Priority) -> Way:
        """The same work is one job: destinations join, and the most urgent of its rules decides."""
        known = self._decision.ways.get(path)
        names = (*(known.rules if known else ()), *(rule.name for rule in rules))
        send_to = (*(known.send_to if known else ()), *(name for rule in rules for name in rule.send_to))
        wishes = [rule.priority for rule in rules] + ([known.priority] if known else []) + [urgency]
        way = Way(
            path,
            tuple(dict.fromkeys(send_to)),
            min(wishes, key=priorities().index),
            tuple(dict.fromkeys(names)),
        )
        self._decision.ways[path] = way
        return way
