"""Mistakes in a condition are found when it is written, and name the word that is wrong."""

from __future__ import annotations

import pytest

from dicomnode.conditions import Condition
from dicomnode.expressions import EVALUATION_FAULTS, ConditionFault, compiled, executed


@pytest.mark.parametrize(
    ("text", "word", "reason"),
    [
        ('Modalty == "CT"', "Modalty", "did you mean Modality"),
        ('CT == "CT"', "CT", "texts stand in quotes"),
        ("foo(KVP)", "foo", "no such function"),
        ('SeriesDescription.lowerAscii() == "a"', "lowerAscii", "no such method"),
        ('matches(SeriesDescription, "a")', "matches", 'SeriesDescription.matches("...")'),
        ("has(KVP)", "has", "absent is never met"),
        ("timestamp(StudyDate) > timestamp(StudyDate)", "timestamp", "no such function"),
        ("optional.of(KVP) == 1", "optional", "not a DICOM keyword"),
        ("KVP.value == 1", "value", "no parts"),
        ('ReferencedImageSequence.size() > 0 || Modality == "CT"', "ReferencedImageSequence", "sequence"),
        ("PixelData == 1", "PixelData", "binary"),
        ('TransferSyntaxUID == "1.2"', "TransferSyntaxUID", "not in the data set"),
        ('ImageType.exists(KVP, KVP == "x")', "KVP", "is a DICOM keyword"),
        ('ImageType.exists(v, v == "a") && v == "b"', "v", "not a DICOM keyword"),
    ],
)
def test_a_word_that_is_unknown_is_refused_by_name(text: str, word: str, reason: str) -> None:
    with pytest.raises(ConditionFault) as caught:
        Condition(text)
    assert caught.value.word == word
    assert reason in caught.value.reason


@pytest.mark.parametrize("text", ["", "Modality ==", 'Modality == "CT" and KVP > 1', "(" * 500 + "true" + ")" * 500])
def test_what_is_not_cel_is_refused(text: str) -> None:
    with pytest.raises(ConditionFault, match="not a CEL expression"):
        Condition(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("KVP + 1.0", "neither true nor false"),
        ("KVP", "neither true nor false"),
        ("KVP - 1 > 99", "different kinds"),
        ('KVP == "120"', "compares number with text"),
        ("SeriesDescription == 1", "compares text with number"),
        ('ImageType == "AXIAL"', "compares list with text"),
        ('"CT" in Modality', "different kinds"),
        ("1 in ImageType", "compares number with text"),
        ("KVP in []", "compares number with nothing"),
        ('KVP in [100, "a"]', "compares number with"),
        ("PixelSpacing[2] > 1.0", "more values than the attribute can have"),
        ("SeriesDescription > 1", "different kinds"),
        ("!SeriesDescription", "neither true nor false"),
        ('KVP > 1 ? Modality == "CT" : true', "instead of"),
    ],
)
def test_a_type_mistake_is_refused_when_it_is_written(text: str, reason: str) -> None:
    with pytest.raises(ConditionFault, match=reason):
        Condition(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('SeriesDescription.matches("(")', "unclosed group"),
        ('SeriesDescription.matches("(?=a)")', "look-around"),
        ('SeriesDescription.matches("a{1000}{1000}")', "size limit"),
        ('ImageType.exists(v, v == "never" && v.matches("["))', "unclosed character class"),
        ("SeriesDescription.matches(StudyDescription)", "written in the rule"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConditionFault, match=reason):
        Condition(text)


@pytest.mark.parametrize("text", ["!" * 3000 + '("A" in ImageType)', "KVP > 1 && " * 1000 + "KVP > 1"])
def test_a_monstrous_condition_is_refused(text: str) -> None:
    with pytest.raises(ConditionFault):
        Condition(text)


def test_a_pattern_that_explodes_elsewhere_is_answered_in_linear_time() -> None:
    condition = Condition('ImageComments.matches("^(a+)+$")')
    assert condition.judge({"ImageComments": "a" * 5000 + "b"}, frozenset()).met is False


def test_whatever_cel_raises_is_a_named_fault() -> None:
    for text, values in (("1 / 0 == 1", {}), ("L[9] == 1", {"L": [1]}), ('int("x") == 1', {}), ("nothing", {})):
        with pytest.raises(EVALUATION_FAULTS):
            executed(compiled(text), values)
