"""A log says where and of what kind a fault was, and quotes nothing, as text and as JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from dicomnode.logs import DiscreetFormatter, JsonFormatter

FORM = "%(levelname)s %(message)s"


def trace(formatter: logging.Formatter) -> str:
    try:
        try:
            int("Doe^John")
        except ValueError as fault:
            raise RuntimeError("while reading Doe^John") from fault
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, "here", 1, "job 1 failed", (), sys.exc_info())
        return formatter.format(record)
    raise AssertionError


def line(message: str, *arguments: object, **extra: object) -> dict[str, Any]:
    record = logging.LogRecord("dicomnode.send", logging.WARNING, "here", 1, message, arguments, None)
    vars(record).update(extra)
    text = JsonFormatter().format(record)
    assert "\n" not in text and text.isascii()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_trace_names_kind_and_place_of_every_cause() -> None:
    text = trace(DiscreetFormatter(FORM))
    assert text.startswith("ERROR job 1 failed")
    assert "RuntimeError" in text and "ValueError" in text and "test_logs.py" in text


@pytest.mark.parametrize("formatter", [DiscreetFormatter(FORM), JsonFormatter(FORM)], ids=["text", "json"])
def test_a_trace_repeats_no_words_of_the_fault(formatter: logging.Formatter) -> None:
    text = trace(formatter).replace("\\", "")
    ours = 'raise RuntimeError("while reading Doe^John")', 'int("Doe^John")'  # lines of this file, not of the fault
    for source in ours:
        text = text.replace(source, "")
    assert "Doe^John" not in text


def test_a_json_trace_is_one_line_with_kind_and_place() -> None:
    text = trace(JsonFormatter(FORM))
    assert "\n" not in text
    found = json.loads(text)
    assert "RuntimeError, at:" in found["trace"] and "because of" in found["trace"] and found["level"] == "error"


def test_a_line_says_when_how_bad_and_which_room_speaks() -> None:
    found = line("route: series %s is whole", "1.2.3")
    assert (found["level"], found["room"], found["message"]) == ("warning", "route", "route: series 1.2.3 is whole")
    assert found["time"].endswith("+00:00")
    assert line("no room is named here")["room"] == "send"


def test_what_a_call_gives_beside_the_words_is_a_field_and_changes_no_other() -> None:
    found = line("send: done", job=17, level="debug", peer="pacs", odd=object())
    assert (found["job"], found["peer"], found["level"], found["odd"]) == (17, "pacs", "warning", "object")


def test_no_value_breaks_a_line_in_two() -> None:
    assert line("receive: %s", 'a\nb\r"c\u2028')["message"] == 'receive: a\nb\r"c\u2028'


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_process_logs_in_the_format_asked_for_and_keeps_libraries_quiet(log_format: str) -> None:
    code = (
        "import logging, dicomnode.logs as logs\n"
        f"logs.log_to_stderr('info', {log_format!r})\n"
        "logging.getLogger('dicomnode.node').info('node: it runs')\n"
        "logging.getLogger('pydicom').error('Doe^John')\n"
        "logging.getLogger('dicomnode.node').debug('not asked for')\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.splitlines()
    assert len(said) == 1 and "node: it runs" in said[0]
    assert (said[0].startswith("{") and json.loads(said[0])["room"] == "node") == (log_format == "json")
