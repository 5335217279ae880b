"""Pure: attributes in, and for every rule whether it is met and why or why not, term by term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from pydicom.uid import UID

from dicomnode.conditions import Condition, Judgement, Outcome, TermVerdict

Priority = Literal["stat", "routine", "low"]

FOR_PROCESSING_CT = frozenset(f"1.2.840.10008.5.1.4.1.1.2.{last}" for last in (3, 4, 5))
"""Image classes of Supplement 252, newer than pydicom's dictionary."""
LOCALIZER = frozenset({"LOCALIZER", "SCOUT"})
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Rule:
    """Which series goes to which pipeline and from there where; `run` is empty for a rule that holds a series back."""

    name: str
    when: str
    run: str
    send_to: tuple[str, ...] = ()
    priority: Priority = "routine"
    stop: bool = False
    from_peers: tuple[str, ...] = ()
    """Names of the peers whose series it is for; empty: any."""
    mixed: Literal["refuse", "split"] = "refuse"
    uneven: Literal["refuse", "split"] = "refuse"
    after: str = ""
    """Name of the rule whose derived series it is for; empty: it is for what is received."""
    needs: tuple[str, ...] = ()
    """Names of the `[needs.NAME]` tables whose series the pipeline reads beside its source."""
    condition: Condition = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConditionFault where `when` cannot be used."""
        object.__setattr__(self, "condition", Condition(self.when))

    @property
    def holds(self) -> bool:
        """Whether it keeps series out of every later rule."""
        return not self.run


@dataclass(frozen=True, slots=True)
class SharedAttributes:
    """What all deciding instances of a series have in common."""

    values: Mapping[str, Any]
    differing: frozenset[str] = frozenset()
    """Keywords that some instances lack or have with other values."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one rule for one series; none of its words holds a value that identifies the patient."""

    rule: str
    met: bool
    held: bool
    """True when this rule is met and holds the series back: nothing is done with it."""
    reason: str
    terms: tuple[TermVerdict, ...]


def decides(header: Mapping[str, Any]) -> bool:
    """Whether an instance is an image that rules look at: no localizer, no screenshot, no report beside the images."""
    sop_class_uid = str(header.get("SOPClassUID", ""))
    if not sop_class_uid or LOCALIZER & {str(one).upper() for one in header.get("ImageType") or ()}:
        return False
    return _is_of_images(sop_class_uid)


@lru_cache(maxsize=1024)
def _is_of_images(sop_class_uid: str) -> bool:
    name = UID(sop_class_uid).name
    return sop_class_uid in FOR_PROCESSING_CT or ("Image Storage" in name and "Secondary Capture" not in name)


def deciding_headers(headers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The headers that decide where a series goes: those of its images, or all where it has none."""
    return [header for header in headers if decides(header)] or list(headers)


def shared_attributes(headers: Sequence[Mapping[str, Any]]) -> SharedAttributes:
    """What the deciding instances share; never one arbitrary file's word."""
    deciding = deciding_headers(headers)
    if not deciding:
        return SharedAttributes({})
    keywords = frozenset().union(*deciding)
    first = deciding[0]
    differing = frozenset(
        keyword
        for keyword in keywords
        if keyword not in first or any(other.get(keyword) != first[keyword] for other in deciding[1:])
    )
    return SharedAttributes({key: value for key, value in first.items() if key not in differing}, differing)


def match_rules(rules: Sequence[Rule], shared: SharedAttributes, *, peer: str) -> list[Verdict]:
    """A verdict for every rule, in their order; a met rule with `stop`, or one that holds, ends the list."""
    verdicts: list[Verdict] = []
    ended = ""
    for rule in rules:
        if ended:
            terms = tuple(TermVerdict(text, Outcome.NOT_REACHED, "") for text in rule.condition.terms)
            verdicts.append(Verdict(rule.name, False, False, ended, terms))
            continue
        verdict = judge_rule(rule, shared, peer=peer)
        verdicts.append(verdict)
        if verdict.held:
            ended = f'not reached: rule "{rule.name}" holds the series back'
        elif verdict.met and rule.stop:
            ended = f'not reached: rule "{rule.name}" stops the list'
    return verdicts


def judge_rule(rule: Rule, shared: SharedAttributes, *, peer: str) -> Verdict:
    """The verdict on one rule, whatever others say."""
    judgement = rule.condition.judge(shared.values, shared.differing)
    terms = judgement.terms
    is_for_peer = not rule.from_peers or peer in rule.from_peers
    if rule.from_peers:
        wanted = f"sent by {' or '.join(rule.from_peers)}"
        outcome = Outcome.MET if is_for_peer else Outcome.NOT_MET
        terms = (TermVerdict(wanted, outcome, f"sent by {peer or 'an unknown peer'}"), *terms)
    met = judgement.met is True and is_for_peer
    return Verdict(rule.name, met, met and rule.holds, _in_words(rule, judgement, met, is_for_peer, peer), terms)


def _in_words(rule: Rule, judgement: Judgement, met: bool, is_for_peer: bool, peer: str) -> str:
    if not is_for_peer:
        senders = " or ".join(rule.from_peers)
        return f"no match, because it is for series from {senders}, and this one came from {peer or 'an unknown peer'}"
    text = f"{'match' if met else 'no match'}, because {judgement.because}"
    if met and rule.holds:
        text = f"held back: {text}"
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
