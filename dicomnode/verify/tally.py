"""How often each rule was met, missed and not asked, and what that means for the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from dicomnode.gate.rules import Finding

WORSE = MET, NOT_ASKED, MISSED = ("met", "not asked", "missed")


class Verdict(StrEnum):
    """What a verification comes to."""

    OK = "OK"
    FAILED = "FAILED"
    INCOMPLETE = "INCOMPLETE"


EXIT_CODE = {Verdict.OK: 0, Verdict.FAILED: 1, Verdict.INCOMPLETE: 2}


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule: of how many subjects it was met, missed, not asked; the first that missed it and the sentence."""

    rule: str
    met: int
    missed: int
    not_asked: int
    first_subject: str = ""
    message: str = ""

    @property
    def state(self) -> str:
        """missed before not asked before met: the worst of all."""
        return MISSED if self.missed else NOT_ASKED if self.not_asked else MET


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying folders gave. series: the derived series by their UIDs, with the number of images of each.

    companions: how many of our objects stand beside them; missing: instances that were needed and are not there.
    """

    folders: tuple[str, ...]
    files: int
    series: tuple[tuple[str, int], ...]
    companions: int
    passports: int
    rules: tuple[RuleResult, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """FAILED when a rule is missed; INCOMPLETE when one could not be asked, or there is nothing to ask it of."""
        if any(rule.missed for rule in self.rules):
            return Verdict.FAILED
        if self.missing or not self.series or any(rule.not_asked for rule in self.rules):
            return Verdict.INCOMPLETE
        return Verdict.OK

    @property
    def exit_code(self) -> int:
        """0 all met, 1 something missed, 2 incomplete or no derived series found."""
        return EXIT_CODE[self.verdict]


@dataclass(slots=True)
class Tally:
    """Findings as they come in, by rule and subject; of several answers for one subject the worst counts."""

    _states: dict[str, dict[str, str]] = field(default_factory=dict)
    _first: dict[str, tuple[str, str]] = field(default_factory=dict)
    _why_not: dict[str, str] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def add(self, subject: str, findings: Iterable[Finding]) -> None:
        """What was found of one subject."""
        for finding in findings:
            self._put(finding.rule, subject, MET if finding.holds else MISSED)
            if not finding.holds:
                self._first.setdefault(finding.rule, (subject, finding.message))
            elif finding.message:
                self._said[finding.rule] = finding.message

    def not_asked(self, subject: str, rules: Iterable[str], why: str) -> None:
        """Rules that could not be asked of one subject."""
        for rule in rules:
            self._put(rule, subject, NOT_ASKED)
            self._why_not.setdefault(rule, why)

    def _put(self, rule: str, subject: str, state: str) -> None:
        states = self._states.setdefault(rule, {})
        states[subject] = max(states.get(subject, MET), state, key=WORSE.index)

    def results(self) -> tuple[RuleResult, ...]:
        """One result for each rule, in the order of the rules' ids."""
        made = []
        for rule in sorted(self._states, key=_order):
            count = Counter(self._states[rule].values())
            otherwise = self._why_not.get(rule) or self._said.get(rule, "")
            subject, message = self._first.get(rule, ("", otherwise))
            made.append(RuleResult(rule, count[MET], count[MISSED], count[NOT_ASKED], subject, message))
        return tuple(made)


def _order(rule: str) -> tuple[str, int]:
    letters = rule.rstrip("0123456789")
    return letters, int(rule[len(letters) :] or 0)
