"""Person names are compared without case, accents and empty components; other texts with their case."""

from __future__ import annotations

import pytest

from storage.name_keys import name_key, name_keys, text_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MÜLLER^Hans", "muller^hans"),
        ("Smith^John^^^", "smith^john"),
        ("Strauß", "STRAUSS"),
        ("Mu\u0308ller", "M\u00fcller"),
        ("Smith  Jones ^ A", "smith jones^a"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
    ],
)
def test_these_names_are_the_same(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("か", "が"), ("Smith^John", "Smith John"), ("Smith", "Smyth")])
def test_these_names_are_not(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


def test_every_component_group_has_its_key_in_its_place() -> None:
    assert name_keys("Yamada^Tarou=山田^太郎=やまだ^たろう") == ("yamada^tarou", "山田^太郎", "やまだ^たろう")
    assert name_keys("=山田") == ("", "山田")


def test_of_other_texts_case_counts_and_composition_does_not() -> None:
    assert text_key(" Ab ") == "Ab" != text_key("ab")
    assert text_key("e\u0301") == text_key("\u00e9")
