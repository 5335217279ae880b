"""A condition is judged with three values and explained term by term, and never raises."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.conditions import Condition, Outcome

CT = {"Modality": "CT", "KVP": 120.0, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "SeriesNumber": 3}


def met(text: str, values: dict[str, Any] = CT, differing: frozenset[str] = frozenset()) -> bool | None:
    return Condition(text).judge(values, differing).met


@pytest.mark.parametrize(
    "text",
    [
        "KVP > 100",
        "KVP == 120",
        "KVP in [100, 120]",
        "KVP >= 119.5 && KVP <= 120.5",
        "SeriesNumber == 3.0",
        "SeriesNumber < 3.5",
        '"ORIGINAL" in ImageType',
        'ImageType[2] == "AXIAL"',
        "ImageType.size() == 3",
        'ImageType.exists(v, v.startsWith("AX"))',
        '!("DERIVED" in ImageType)',
        'Modality in ["CT", "PT"]',
        'Modality != "MR"',
    ],
)
def test_conditions_mean_what_they_say(text: str) -> None:
    assert met(text) is True


def test_whole_numbers_and_decimals_compare_freely() -> None:
    assert met("KVP == 120", {"KVP": 120}) is True
    assert met("KVP == 120.0", {"KVP": 120}) is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Modality == "CT" || SeriesDescription == "x"', True),
        ('SeriesDescription == "x" || Modality == "CT"', True),
        ('Modality == "MR" || SeriesDescription == "x"', None),
        ('Modality == "MR" && SeriesDescription == "x"', False),
        ('SeriesDescription == "x" && Modality == "MR"', False),
        ('Modality == "CT" && SeriesDescription == "x"', None),
        ('!(SeriesDescription == "x")', None),
        ('!(SeriesDescription == "x" && Modality == "MR")', True),
    ],
)
def test_an_absent_attribute_is_unknown_and_neither_true_nor_false(text: str, expected: bool | None) -> None:
    assert met(text) is expected


def test_the_reason_of_an_absent_attribute_is_that_it_is_absent() -> None:
    judgement = Condition('Modality == "CT" && SeriesDescription.contains("x")').judge(CT, frozenset())
    assert judgement.because == "SeriesDescription is absent"
    assert [term.outcome for term in judgement.terms] == [Outcome.MET, Outcome.ABSENT]


def test_an_attribute_that_differs_is_said_to_differ() -> None:
    judgement = Condition("KVP > 100").judge({}, frozenset({"KVP"}))
    assert judgement.met is None
    assert judgement.because == "KVP differs between instances"


def test_reasons_name_the_terms_that_decide_and_their_values() -> None:
    condition = Condition('Modality == "MR" && KVP > 100')
    assert condition.judge(CT, frozenset()).because == 'Modality == "MR" is not met (Modality is "CT")'
    both = Condition('Modality == "MR" || "DERIVED" in ImageType').judge(CT, frozenset()).because
    assert both == (
        'Modality == "MR" is not met (Modality is "CT"); '
        r'"DERIVED" in ImageType is not met (ImageType is "ORIGINAL\PRIMARY\AXIAL")'
    )


def test_long_values_appear_shortened() -> None:
    judgement = Condition('SeriesDescription.contains("x")').judge({"SeriesDescription": "y" * 200}, frozenset())
    assert "y" * 39 + "…" in judgement.because
    assert "y" * 40 not in judgement.because


@pytest.mark.parametrize(
    "text",
    [
        'PatientName.contains("MUELLER") || PatientID == "4711"',
        'PatientBirthDate == "19600101" && PatientName.matches("(?i)mueller")',
        '!(PatientID in ["4711"]) || PatientWeight > 61.5',
    ],
)
def test_no_value_that_tells_of_the_patient_is_in_any_word(text: str) -> None:
    values = {"PatientName": "MUELLER^HANS", "PatientID": "4711", "PatientBirthDate": "19600101", "PatientWeight": 61.5}
    judgement = Condition(text).judge(values, frozenset())
    said = judgement.because + "".join(term.text + term.detail for term in judgement.terms)
    for secret in ("MUELLER", "mueller", "HANS", "4711", "1960", "61.5"):
        assert secret not in said


def test_a_term_that_cannot_be_answered_is_unknown_with_its_reason() -> None:
    judgement = Condition('ImageType[3] == "MOSAIC" || Modality == "MR"').judge(CT, frozenset())
    assert judgement.met is None
    assert judgement.terms[0].outcome is Outcome.ERROR
    assert "fewer values" in judgement.because


def test_values_of_the_wrong_kind_from_a_bad_file_raise_nothing() -> None:
    condition = Condition('KVP > 100 && "A" in ImageType && SeriesDescription.matches("x")')
    for bad in ("text", [1], {"a": 1}, None, float("nan"), 10**30, "\ud83d"):
        values = {"KVP": bad, "ImageType": bad, "SeriesDescription": bad}
        assert condition.judge(values, frozenset()).met is not True


LEAVES = ('Modality == "CT"', "KVP > 100", '"ORIGINAL" in ImageType')
expressions = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda parts: f"({parts[0]}) {parts[1]} {parts[2]}"),
        inner.map(lambda text: f"!({text})"),
    ),
    max_leaves=8,
)


@given(expressions, st.booleans(), st.booleans(), st.booleans())
def test_with_everything_known_it_is_ordinary_logic(text: str, first: bool, second: bool, third: bool) -> None:
    values = {
        "Modality": "CT" if first else "MR",
        "KVP": 120.0 if second else 80.0,
        "ImageType": ["ORIGINAL" if third else "DERIVED"],
    }
    plain = text
    for leaf, value in zip(LEAVES, (first, second, third), strict=True):
        plain = plain.replace(leaf, str(value))
    plain = plain.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
    assert met(text, values) is eval(plain)


@given(expressions, st.sets(st.sampled_from(["Modality", "KVP", "ImageType"])))
def test_what_is_unknown_never_changes_an_answer_once_it_is_known(text: str, absent: set[str]) -> None:
    partly = met(text, {key: value for key, value in CT.items() if key not in absent})
    assert partly is None or partly is met(text)


def test_a_condition_survives_pickling() -> None:
    condition = pickle.loads(pickle.dumps(Condition("KVP > 100")))
    assert condition.judge(CT, frozenset()).met is True
    assert condition.keywords == {"KVP"}
