"""The condition of a rule: CEL over DICOM keywords with three-valued logic, judged and explained term by term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dicomnode.attributes import Attribute, Kind
from dicomnode.cel_terms import Either, Node, Not, Term, terms_of
from dicomnode.expressions import (
    EVALUATION_FAULTS,
    CheckedTerm,
    ConditionFault,
    checked_term,
    compiled,
    executed,
    sample_values,
)

SHOWN_CHARACTERS = 40


class Outcome(StrEnum):
    """What became of one term."""

    MET = "met"
    NOT_MET = "not met"
    ABSENT = "absent"
    DIFFERS = "differs"
    ERROR = "error"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class TermVerdict:
    """One term of a condition and what became of it; values that identify the patient are in none of its words."""

    text: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a condition says of a series: met is None when it cannot be known."""

    met: bool | None
    terms: tuple[TermVerdict, ...]
    because: str


class Condition:
    """A condition that has passed every check; evaluating it never raises."""

    def __init__(self, text: str) -> None:
        """Raises ConditionFault naming the word that is wrong."""
        self.text = text
        whole = compiled(text)
        try:
            self._tree, terms = terms_of(text)
        except ValueError as fault:
            raise ConditionFault("", str(fault)) from fault
        self._terms = tuple(checked_term(term, text) for term in terms)
        self.keywords = frozenset(one.keyword for term in self._terms for one in term.attributes)
        for values in sample_values(self._terms):
            # The tree was made from tokens: it has to mean what CEL makes of the whole.
            if whole.execute(values) is not self._value(self._tree, self._outcomes(values, frozenset())):
                raise ConditionFault("", "cannot be taken apart into terms; write it with &&, ||, ! and parentheses")

    def __reduce__(self) -> tuple[type[Condition], tuple[str]]:
        return Condition, (self.text,)

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms as they may be shown."""
        return tuple(term.shown for term in self._terms)

    def judge(self, values: Mapping[str, Any], differing: frozenset[str]) -> Judgement:
        """What the condition says of these values; `differing` are attributes that a series has no one value of."""
        verdicts = self._outcomes(values, differing)
        met = self._value(self._tree, verdicts)
        reasons = dict.fromkeys(_reason(verdicts[index]) for index in self._deciding(self._tree, verdicts))
        return Judgement(met, verdicts, "; ".join(reasons))

    def _outcomes(self, values: Mapping[str, Any], differing: frozenset[str]) -> tuple[TermVerdict, ...]:
        return tuple(_judge_term(term, values, differing) for term in self._terms)

    def _value(self, node: Node, verdicts: tuple[TermVerdict, ...]) -> bool | None:
        """Kleene's three values: unknown && false is false, unknown || true is true."""
        if isinstance(node, Term):
            return {Outcome.MET: True, Outcome.NOT_MET: False}.get(verdicts[node.index].outcome)
        if isinstance(node, Not):
            value = self._value(node.of, verdicts)
            return None if value is None else not value
        values = [self._value(one, verdicts) for one in node.of]
        ending = isinstance(node, Either)
        if ending in values:
            return ending
        return None if None in values else not ending

    def _deciding(self, node: Node, verdicts: tuple[TermVerdict, ...]) -> list[int]:
        """Indices of the terms that make the node what it is."""
        if isinstance(node, Term):
            return [node.index]
        if isinstance(node, Not):
            return self._deciding(node.of, verdicts)
        value = self._value(node, verdicts)
        alike = [one for one in node.of if self._value(one, verdicts) is value]
        if isinstance(node, Either) and value is not True:
            alike = list(node.of)
        return [index for one in alike for index in self._deciding(one, verdicts)]


def _reason(verdict: TermVerdict) -> str:
    if verdict.outcome in (Outcome.ABSENT, Outcome.DIFFERS):
        return verdict.detail
    if verdict.outcome is Outcome.ERROR:
        return f"{verdict.text} cannot be asked: {verdict.detail}"
    return f"{verdict.text} is {verdict.outcome}" + (f" ({verdict.detail})" if verdict.detail else "")


def _judge_term(term: CheckedTerm, values: Mapping[str, Any], differing: frozenset[str]) -> TermVerdict:
    unlike = [one.keyword for one in term.attributes if one.keyword in differing]
    absent = [one.keyword for one in term.attributes if one.keyword not in values and one.keyword not in differing]
    if absent:
        return TermVerdict(term.shown, Outcome.ABSENT, ", ".join(f"{keyword} is absent" for keyword in absent))
    if unlike:
        detail = ", ".join(f"{keyword} differs between instances" for keyword in unlike)
        return TermVerdict(term.shown, Outcome.DIFFERS, detail)
    try:
        met = executed(term.program, {one.keyword: values[one.keyword] for one in term.attributes})
    except EVALUATION_FAULTS as fault:
        return TermVerdict(term.shown, Outcome.ERROR, _why_not_evaluated(fault))
    if not isinstance(met, bool):
        return TermVerdict(term.shown, Outcome.ERROR, "it gives neither true nor false")
    detail = ", ".join(_shown_value(one, values[one.keyword]) for one in term.attributes)
    return TermVerdict(term.shown, Outcome.MET if met else Outcome.NOT_MET, detail)


def _why_not_evaluated(fault: Exception) -> str:
    """In words of ours: the library's own can repeat a value."""
    if isinstance(fault, IndexError):
        return "there are fewer values than it asks for"
    if isinstance(fault, ArithmeticError):
        return "the arithmetic has no result"
    return "a value is not of the kind it needs"


def _shown_value(attribute: Attribute, value: Any) -> str:
    if attribute.identifying:
        return f"the value of {attribute.keyword} is not shown"
    text = "\\".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return f'{attribute.keyword} is "{text}"' if attribute.kind is Kind.TEXT else f"{attribute.keyword} is {text}"
