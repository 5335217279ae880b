"""Only known words, short numbers and kernels stay in a description."""

import pytest

from dicomnode.deidentify.descriptors import cleaned


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("CT Thorax Dr. Zwingli 3.0 B30f", "CT Thorax 3.0 B30f"),
        ("Abdomen 5mm venous, call 0442551111", "Abdomen 5mm venous"),
        ("Huldrych Zwingli *17.01.1984", ""),
        ("PET WB AC - Zuerich", "PET WB AC"),
        ("T1_SAG_FS", "T1 SAG FS"),
        ("Follow up 12/05/84 knee", "Follow up knee"),
        ("born 3 Mar 84", "Mar"),
        ("17.01 1984", ""),
        ("CT 123-45-678", "CT"),
        ("call 044 255 11 11, 5mm", "5mm"),
        ("", ""),
    ],
)
def test_what_is_not_known_goes(text: str, left: str) -> None:
    assert cleaned(text, most=64) == left


def test_the_result_is_never_too_long_and_ends_with_a_word() -> None:
    assert cleaned("thorax " * 40, most=16) == "thorax thorax"
