"""A log says where and of what kind a fault was, and quotes nothing."""

from __future__ import annotations

import logging
import sys

from dicomnode.logs import DiscreetFormatter


def trace() -> str:
    try:
        try:
            int("Doe^John")
        except ValueError as fault:
            raise RuntimeError("while reading Doe^John") from fault
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, "here", 1, "job 1 failed", (), sys.exc_info())
        return DiscreetFormatter("%(levelname)s %(message)s").format(record)


def test_a_trace_names_kind_and_place_of_every_cause() -> None:
    text = trace()
    assert text.startswith("ERROR job 1 failed")
    assert "RuntimeError" in text and "ValueError" in text and "test_logs.py" in text


def test_a_trace_repeats_no_words_of_the_fault() -> None:
    assert "while reading Doe^John" not in trace().replace('raise RuntimeError("while reading Doe^John")', "")
