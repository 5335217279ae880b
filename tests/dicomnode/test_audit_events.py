"""Every event that the node records is told in the standard's words where it has them, and none is left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from dicomnode.audit_events import EVENTS, MEDIUM, QUERY, STUDY_DELETED, Code, Kind, Parties, kind_of
from dicomnode.uids import CODING_SCHEME
from storage.deliveries import DeliveryState
from storage.job_states import State
from tests.builders_audit import row

ROOT = Path(__file__).parents[2]
TELLERS = {"append", "happened", "_happened", "tell", "_tell", "_audit"}
"""Functions that tell the audit; the event is the first of their arguments that is a text."""
NOT_TOLD = {"delivery waiting"}
STATES = {
    "job {target}": [f"job {one}" for one in State],
    "delivery {state}": [f"delivery {one}" for one in DeliveryState],
}
RIGHTS = {"{right} refused": ["query refused", "retrieve refused"]}


def test_every_event_in_the_source_is_in_the_table() -> None:
    found = {event for path in sources() for event in events_of(path)}
    assert {"derived", "series closed", "association refused", "lane broken", "job refused"} <= found
    assert found - NOT_TOLD <= EVENTS.keys(), "told to the audit, and no message says it"


def sources() -> list[Path]:
    return [path for package in ("dicomnode", "storage") for path in (ROOT / package).rglob("*.py")]


def events_of(path: Path) -> Iterator[str]:
    """The events that a file tells to the audit, where they stand in its calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in TELLERS or (name == "append" and "audit" not in ast.unparse(node.func)):
            continue
        yield from next((words for words in map(list, map(words_of, node.args[:4])) if words), [])


def words_of(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from words_of(argument.body)
        yield from words_of(argument.orelse)
    elif isinstance(argument, ast.JoinedStr):
        pattern = ast.unparse(argument)[2:-1]
        assert pattern in STATES | RIGHTS, f"what events does {pattern} make? say so here"
        yield from (STATES | RIGHTS)[pattern]


def codes() -> list[Code]:
    return sorted({code for kind in EVENTS.values() for code in (kind.event, *kind.types)} | {MEDIUM})


@pytest.mark.parametrize("code", [one for one in codes() if one.scheme == "DCM"], ids=lambda one: one.value)
def test_a_code_of_the_standard_has_the_standards_meaning_and_group(code: Code) -> None:
    known = {
        value: (meaning, groups) for concept in concepts["DCM"].values() for value, (meaning, groups) in concept.items()
    }
    meaning, groups = known[code.value]
    assert code.meaning == meaning
    assert {400, 401, 403, 405} & set(groups)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_of_group_400_or_a_word_of_our_own(event: str) -> None:
    kind = EVENTS[event]
    assert kind.event.scheme in ("DCM", CODING_SCHEME)
    assert kind.action in "CRUDE" and kind.outcome in ("0", "4", "8")
    assert kind.event.scheme == "DCM" or kind.event.meaning == event


@pytest.mark.parametrize(
    ("event", "code", "action", "outcome"),
    [
        ("node started", "110100", "E", "0"),
        ("node stopped", "110100", "E", "0"),
        ("job sending", "110102", "E", "0"),
        ("job running", "110103", "R", "0"),
        ("derived", "110103", "C", "0"),
        ("series closed", "110104", "C", "0"),
        ("delivery done", "110104", "R", "0"),
        ("delivery rejected", "110104", "R", "8"),
        ("association refused", "110113", "E", "4"),
        ("store refused", "110113", "E", "4"),
        ("config reloaded", "110113", "E", "0"),
        ("audit exported", "110101", "R", "0"),
        ("removed", "110103", "D", "0"),
    ],
)
def test_what_the_standard_has_a_message_for_is_told_so(event: str, code: str, action: str, outcome: str) -> None:
    kind = kind_of(row(event).entry)
    assert (kind.event.value, kind.action, kind.outcome) == (code, action, outcome)


def test_the_last_series_of_a_study_that_goes_is_a_study_deleted() -> None:
    assert kind_of(row("removed", {"last_of_study": True}).entry).event == STUDY_DELETED
    assert kind_of(row("removed", {"last_of_study": False}).entry).event != STUDY_DELETED


def test_an_event_that_nobody_listed_is_told_under_our_own_code() -> None:
    kind = kind_of(row("Something NEW, happened").entry)
    assert kind == Kind(Code("something-new-happened", CODING_SCHEME, "Something NEW, happened"), "E", "0", Parties.US)
    assert QUERY.value == "110112"
