"""Failure reasons are said in the standard's words."""

from __future__ import annotations

import pydicom.datadict

from storage.references import FAILURES, failure_in_words


def test_every_failure_reason_is_said_in_words_and_a_strange_one_as_a_number() -> None:
    assert failure_in_words(0x0112) == "0x0112 no such object instance"
    assert failure_in_words(0xC123) == "0xC123 a reason the standard does not know"
    assert all(reason < 1 << 16 for reason in FAILURES) and pydicom.datadict.dictionary_VR("FailureReason") == "US"
