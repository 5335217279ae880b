"""CEL: a condition's terms compiled and run; mistakes in words, kinds and patterns are found when it is written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cel
from pydicom.datadict import keyword_dict, tag_for_keyword

from dicomnode.attributes import Attribute, Kind, attribute_named
from dicomnode.cel_terms import MACROS, Term, compared_sides, patterns_of, words_of
from dicomnode.errors import NodeFault

LONGEST_CONDITION = 4000
METHODS = frozenset({"contains", "endsWith", "matches", "size", "startsWith"}) | MACROS
FUNCTIONS = frozenset({"double", "int", "size", "string"})
SAMPLE_VALUES = 16
EVALUATION_FAULTS = (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError)


class ConditionFault(NodeFault):
    """A rule's condition cannot be used; it must be rewritten. `word` is what is wrong in it."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(f"{word}: {reason}" if word else reason)
        self.word, self.reason = word, reason


@dataclass(frozen=True, slots=True)
class CheckedTerm:
    """A term that can be evaluated with every honest value of its attributes; `shown` may enter the audit."""

    term: Term
    shown: str
    attributes: tuple[Attribute, ...]
    program: cel.Program


def executed(program: cel.Program, values: dict[str, Any]) -> Any:
    """What CEL gives; whatever it raises is one of EVALUATION_FAULTS."""
    try:
        return program.execute(values)
    except BaseException as fault:
        if type(fault).__name__ == "PanicException":  # Rust's panic is no Exception and would end the thread
            raise RuntimeError("CEL gave up") from None
        raise


def compiled(text: str) -> cel.Program:
    """The program of a condition; raises ConditionFault where CEL does not understand it."""
    if len(text) > LONGEST_CONDITION:
        raise ConditionFault("", f"is longer than {LONGEST_CONDITION} characters")
    try:
        return cel.compile(text)
    except ValueError as fault:
        if "has() macro" in str(fault):
            raise ConditionFault("has", "is not needed: a term whose attribute is absent is never met") from None
        lines = str(fault).split("ERROR: <input>:", 1)[-1].splitlines() or [""]
        raise ConditionFault("", f"is not a CEL expression: {lines[0]}") from None


def checked_term(term: Term, expression: str) -> CheckedTerm:
    """The term, when its words are DICOM keywords, its patterns can be used and its kinds fit; else ConditionFault."""
    if not term.tokens:
        raise ConditionFault("", "is empty")
    if any(token.kind == "sign" and token.text in "?{" for token in term.tokens):
        raise ConditionFault(term.text, "write it with &&, || and ! instead of ? : and { }")
    attributes = tuple({one.keyword: one for one in _attributes(term)}.values())
    for pattern in patterns_of(term):
        _check_pattern(pattern, term)
    # Literals compared with what tells of the patient would say what it is: they are not shown.
    shown = _without_literals(term, expression) if any(one.identifying for one in attributes) else term.text
    checked = CheckedTerm(term, re.sub(r"\s*\n\s*", " ", shown), attributes, compiled(term.text))
    for values in sample_values((checked,)):
        _check_kinds(checked, expression, values)
    return checked


def _without_literals(term: Term, expression: str) -> str:
    shown, at = [], term.tokens[0].begin
    for token in term.tokens:
        shown += [expression[at : token.begin], '"…"' if token.kind in ("text", "number") else token.text]
        at = token.end
    return "".join(shown)


def _attributes(term: Term) -> list[Attribute]:
    found = []
    for word in words_of(term):
        if word.role == "method" and word.name not in METHODS:
            raise ConditionFault(word.name, f"there is no such method; there are {', '.join(sorted(METHODS))}")
        if word.role == "function" and word.name not in FUNCTIONS:
            hint = f'; write it as SeriesDescription.{word.name}("...")' if word.name in METHODS else ""
            raise ConditionFault(
                word.name, f"there is no such function; there are {', '.join(sorted(FUNCTIONS))}{hint}"
            )
        if word.role == "part":
            raise ConditionFault(word.name, "attributes have no parts; sequences cannot be used in rules")
        if word.role == "bound" and tag_for_keyword(word.name) is not None:
            raise ConditionFault(word.name, "is a DICOM keyword; name the values otherwise")
        if word.role == "variable":
            found.append(_attribute(word.name))
    return found


def _attribute(word: str) -> Attribute:
    attribute = attribute_named(word)
    if attribute is not None:
        return attribute
    if tag_for_keyword(word) is not None:
        raise ConditionFault(word, "cannot be used in rules: it is a sequence, binary or not in the data set")
    near = difflib.get_close_matches(word, list(keyword_dict), n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}?" if near else "; texts stand in quotes"
    raise ConditionFault(word, f"is not a DICOM keyword{hint}")


def _check_pattern(pattern: str | None, term: Term) -> None:
    if pattern is None:
        raise ConditionFault(term.text, "the pattern of matches must be a text written in the rule")
    try:
        executed(cel.compile(f'"".matches({pattern})'), {})
    except EVALUATION_FAULTS as fault:
        why = [line for line in str(fault).splitlines() if line.startswith("error:") or "size limit" in line]
        said = why[0].removeprefix("error: ").split(". Check")[0] if why else "it cannot be compiled"
        raise ConditionFault(pattern, f"is not a regular expression that can be used: {said}") from None


def sample_values(terms: Sequence[CheckedTerm]) -> list[dict[str, Any]]:
    """Values of the kinds and numbers that the dictionary promises for each attribute."""
    samples = []
    for number in (1, 2):
        one_of = {Kind.TEXT: str(number), Kind.INTEGER: number, Kind.NUMBER: float(number)}
        samples.append(
            {
                one.keyword: [one_of[one.kind]] * (one.most_values or SAMPLE_VALUES)
                if one.is_list
                else one_of[one.kind]
                for term in terms
                for one in term.attributes
            }
        )
    return samples


def _check_kinds(checked: CheckedTerm, expression: str, values: dict[str, Any]) -> None:
    """A term that cannot be evaluated with any honest values, or is never true, is a mistake in the rule."""
    text = checked.term.text
    what = ", ".join(
        f"{one.keyword} is {'a list of ' if one.is_list else 'one '}{one.kind}" for one in checked.attributes
    )
    try:
        result = executed(checked.program, values)
    except EVALUATION_FAULTS as fault:
        why = (
            "asks for more values than the attribute can have"
            if isinstance(fault, IndexError)
            else ("compares or combines values of different kinds (CEL converts none: write 1.0 beside numbers)")
        )
        raise ConditionFault(text, f"{why}; {what}") from None
    if not isinstance(result, bool):
        raise ConditionFault(text, f"gives neither true nor false; compare it with something ({what})")
    sides = compared_sides(checked.term, expression)
    if sides is None:
        return
    left, operator, right = sides
    left_value, right_value = executed(cel.compile(left), values), executed(cel.compile(right), values)
    kinds = {_kind(one) for one in right_value} if operator == "in" else {_kind(right_value)}
    if kinds != {_kind(left_value)}:
        hint = '; ask "X" in it' if operator != "in" and "list" in kinds | {_kind(left_value)} else ""
        raise ConditionFault(
            text, f"compares {_kind(left_value)} with {' and '.join(sorted(kinds)) or 'nothing'}{hint}; {what}"
        )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "another kind"
