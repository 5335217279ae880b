"""Jobs and audit rows are answered whole, in JSON and in lines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from dicomnode.answers import details_in_lines, entry_as_json, plain
from storage.audit import Entry

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_a_row_of_the_audit_goes_into_json() -> None:
    entry = Entry(7, AT, "derived", "1.2", 3, "", {"instances": 4}, "0" * 64, "1" * 64)
    answer = json.loads(json.dumps(entry_as_json(entry)))
    assert answer == {
        "at": AT.isoformat(),
        "event": "derived",
        "series_instance_uid": "1.2",
        "job": 3,
        "peer": None,
        "details": {"instances": 4},
    }


def test_details_are_a_line_each_and_rules_are_told_in_words() -> None:
    rules = [{"rule": "a", "met": True, "reason": "match"}, {"rule": "b", "met": False, "reason": "no match"}]
    lines = details_in_lines({"rules": rules, "notes": ["x"], "empty": "", "instances": 4}).splitlines()
    assert lines == ["met: a - match", "not met: b - no match", 'notes: ["x"]', "instances: 4"]


def test_brackets_of_a_reason_are_shown_and_not_taken_for_markup() -> None:
    console = Console(file=StringIO(), width=80)
    console.print(plain("[red]x[/red] in [1, 2]"))
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().strip() == "[red]x[/red] in [1, 2]"
