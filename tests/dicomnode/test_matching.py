"""The truth table of attribute matching (PS3.4 C.2.2.2)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.matching import LONGEST_KEY, Unmatchable, criterion, fits
from storage.name_keys import name_key

YES, NO = True, False


@pytest.mark.parametrize(
    ("vr", "asked", "held", "answers"),
    [
        # universal (C.2.2.2.3)
        ("LO", "", "anything", YES),
        ("LO", "", None, YES),
        ("LO", "*", None, YES),
        ("LO", "***", "x", YES),
        ("PN", "*", None, YES),
        ("PN", "*=*", "x", YES),
        ("UI", "", None, YES),
        ("DA", "", None, YES),
        # single value (C.2.2.2.1): case counts, but for names
        ("LO", "P1", "P1", YES),
        ("LO", "P1", "p1", NO),
        ("LO", "P1", "P12", NO),
        ("LO", "P1", None, NO),
        ("LO", " P1 ", "P1", YES),
        ("CS", "CT", "CT", YES),
        ("CS", "CT", ["CT", "PT"], YES),
        ("CS", "MR", ["CT", "PT"], NO),
        ("SH", "50%", "50%", YES),
        ("SH", "50%", "500", NO),
        ("SH", "A_1", "Ax1", NO),
        ("LO", "Müller", "Mu\u0308ller", YES),
        # wildcards (C.2.2.2.4), in these VRs only; % and _ are letters
        ("LO", "P*", "P1", YES),
        ("LO", "P*", "P", YES),
        ("LO", "P?", "P1", YES),
        ("LO", "P?", "P", NO),
        ("LO", "P?", "P12", NO),
        ("LO", "*1*", "P123", YES),
        ("LO", "p*", "P1", NO),
        ("LO", "P%", "P1", NO),
        ("LO", "P_*", "P1", NO),
        ("LO", "P_*", "P_1", YES),
        ("LO", "[a-z]*", "abc", NO),
        ("LO", "a.c", "abc", NO),
        ("LO", "P*", None, NO),
        ("CS", "C*", "CT", YES),
        ("AE", "PACS?", "PACS1", YES),
        ("LT", "*metal*", "a metal implant", YES),
        ("UC", "a*", "abc", YES),
        ("AS", "0*", "030Y", NO),
        ("UI", "1.2.*", "1.2.3", NO),
        ("UI", "1.2.?", "1.2.3", NO),
        # names: neither case nor accents nor empty components; any group, or group by group
        ("PN", "SMITH^JOHN", "Smith^John", YES),
        ("PN", "smith^john", "Smith^John^^^", YES),
        ("PN", "smith", "Smith^John", NO),
        ("PN", "smith*", "Smith^John", YES),
        ("PN", "smith^*", "Smith", YES),
        ("PN", "*^john", "Smith^John", YES),
        ("PN", "mueller*", "Müller^Hans", NO),
        ("PN", "muller*", "Müller^Hans", YES),
        ("PN", "MÜLLER^H?NS", "müller^hans", YES),
        ("PN", "山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", YES),
        ("PN", "yamada^*=山田^*", "Yamada^Tarou=山田^太郎", YES),
        ("PN", "=山田^太郎", "Yamada^Tarou=山田^太郎", YES),
        ("PN", "yamada^*=鈴木", "Yamada^Tarou=山田^太郎", NO),
        ("PN", "yamada=山田", "Yamada", NO),
        ("PN", "smith*", None, NO),
        # lists of UIDs (C.2.2.2.2)
        ("UI", ["1.2", "1.3"], "1.3", YES),
        ("UI", ["1.2", "1.3"], "1.4", NO),
        ("UI", "1.2", ["1.1", "1.2"], YES),
        ("CS", ["CT", "PT"], ["PT"], YES),
        # dates
        ("DA", "20240229", "20240229", YES),
        ("DA", "20240229", "2024.02.29", YES),
        ("DA", "20240229", "20240301", NO),
        ("DA", "20240101-20241231", "20240229", YES),
        ("DA", "20240101-20241231", "20240101", YES),
        ("DA", "20240101-20241231", "20241231", YES),
        ("DA", "20240101-20241231", "20250101", NO),
        ("DA", "20240101-", "20250101", YES),
        ("DA", "-20240101", "20231231", YES),
        ("DA", "-20240101", "20240102", NO),
        ("DA", "20241231-20240101", "20240229", NO),
        ("DA", "20240101-", None, NO),
        ("DA", "20240101-", "unknown", NO),
        # times, which may be short of their seconds
        ("TM", "101500", "101500", YES),
        ("TM", "1015", "101530.25", YES),
        ("TM", "10", "105959.999999", YES),
        ("TM", "10", "110000", NO),
        ("TM", "10:15:30", "101530", YES),
        ("TM", "1000-1100", "110059", YES),
        ("TM", "1000-1100", "110100", NO),
        ("TM", "-0800", "0759", YES),
        ("TM", "2200-", "2300", YES),
        # moments, with and without their offset from UTC
        ("DT", "20240229", "20240229101500", YES),
        ("DT", "202402", "20240229235959.9", YES),
        ("DT", "202402", "20240301", NO),
        ("DT", "20240229101500+0100", "20240229091500+0000", YES),
        ("DT", "20240229101500-0500", "20240229151500+0000", YES),
        ("DT", "20240229-20240301", "20240301120000", YES),
        ("DT", "20240229000000+0100-20240229235959+0100", "20240228233000+0000", YES),
        ("DT", "-20240229", "20230101", YES),
        # numbers, however they are written
        ("IS", "3", 3, YES),
        ("IS", "03", 3, YES),
        ("IS", "3", 4, NO),
        ("IS", "3", None, NO),
        ("DS", "3.0", [1.0, 3.0], YES),
        ("US", 512, 512, YES),
        ("US", 512, 256, NO),
    ],
)
def test_the_truth_table(vr: str, asked: Any, held: Any, answers: bool) -> None:
    values = asked if isinstance(asked, list) else [asked]
    assert criterion(vr, values).matches(held) is answers


@pytest.mark.parametrize(
    ("vr", "asked"),
    [
        ("DA", "2024-02-29"),
        ("DA", "yesterday"),
        ("DA", "-"),
        ("DA", "20240101-*"),
        ("TM", "25o0"),
        ("TM", "--"),
        ("DT", "202"),
        ("IS", "many"),
        ("IS", "*"),
        ("DS", "1e999x"),
        ("LO", "x" * (LONGEST_KEY + 1)),
        ("PN", "*" * (LONGEST_KEY + 1)),
    ],
)
def test_what_asks_nothing_that_could_be_matched_is_said_and_not_taken_for_anything(vr: str, asked: str) -> None:
    with pytest.raises(Unmatchable) as fault:
        criterion(vr, [asked])
    assert asked not in str(fault.value)


def test_too_many_values_are_refused() -> None:
    with pytest.raises(Unmatchable):
        criterion("UI", [f"1.{number}" for number in range(10_001)])


def test_two_quotation_marks_ask_for_no_value_only_where_that_is_negotiated() -> None:
    assert criterion("LO", ['""'], empty=True).matches(None) and not criterion("LO", ['""'], empty=True).matches("x")
    assert criterion("LO", ['""']).matches('""') and not criterion("LO", ['""']).matches(None)


def test_several_values_ask_for_all_of_them_only_where_that_is_negotiated() -> None:
    asked = ["CT", "PT"]
    assert criterion("CS", asked).matches(["CT"]) and not criterion("CS", asked, every=True).matches(["CT"])
    assert criterion("CS", asked, every=True).matches(["PT", "CT", "SR"])
    assert criterion("UI", ["1.2", "1.3"], every=True).matches("1.2")


def glob(pattern: str, text: str) -> bool:
    """The definition: a star is nothing, or a letter and a star."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return glob(pattern[1:], text) or bool(text and glob(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and glob(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=6), st.text("ab", max_size=8))
def test_patterns_fit_as_they_are_defined(pattern: str, text: str) -> None:
    assert fits(pattern, text) == glob(pattern, text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_value_makes_a_name_or_text_key_fail(asked: str, held: str) -> None:
    for vr in ("PN", "LO", "CS", "UI"):
        assert criterion(vr, [asked]).matches(held) in (True, False)
    if asked == held and name_key(asked) and "=" not in asked:
        assert criterion("PN", [asked]).matches(held)


def test_a_hostile_pattern_is_answered_in_no_time() -> None:
    begun = time.process_time()
    assert not fits("*a" * 500 + "b", "a" * 256)
    assert time.process_time() - begun < 5
