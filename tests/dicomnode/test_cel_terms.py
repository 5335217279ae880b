"""An expression is split into the terms an admin would point at, whatever stands inside its texts."""

from __future__ import annotations

import pytest

from dicomnode.cel_terms import Either, Every, Not, Term, compared_sides, patterns_of, terms_of, words_of


def texts(expression: str) -> list[str]:
    return [term.text for term in terms_of(expression)[1]]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('A == "x" && B > 1', ['A == "x"', "B > 1"]),
        ('A == "x && y" || B', ['A == "x && y"', "B"]),
        (r"""A.matches(r'\') && B == "\" && c" """, [r"A.matches(r'\')", r'B == "\" && c"']),
        ('A == """x " && y""" && B', ['A == """x " && y"""', "B"]),
        ("A == '''it's || so''' || B", ["A == '''it's || so'''", "B"]),
        ("A // && not this\n && B", ["A", "B"]),
        ("!(A || B) && C", ["A", "B", "C"]),
        ('L.exists(v, v == "a" && v != "b") && C', ['L.exists(v, v == "a" && v != "b")', "C"]),
        ("(A || B) == C", ["(A || B) == C"]),
        ("((A))", ["A"]),
    ],
)
def test_terms_are_split_where_the_logic_is_and_nowhere_else(expression: str, expected: list[str]) -> None:
    assert texts(expression) == expected


def test_and_binds_closer_than_or_and_not_closest() -> None:
    tree, _ = terms_of("A || B && !C")
    assert isinstance(tree, Either)
    assert isinstance(tree.of[0], Term)
    assert isinstance(tree.of[1], Every)
    assert isinstance(tree.of[1].of[1], Not)


def test_a_not_before_a_comparison_belongs_to_its_left_side_only() -> None:
    tree, terms = terms_of("!A == B")
    assert tree is terms[0]


@pytest.mark.parametrize("expression", ["!" * 100 + "A", "(" * 100 + "A" + ")" * 100])
def test_deep_nesting_is_refused_before_it_exhausts_the_stack(expression: str) -> None:
    with pytest.raises(ValueError, match="deeper"):
        terms_of(expression)


def test_words_are_told_apart_by_what_they_are() -> None:
    (term,) = terms_of("L.exists(v, v == A) == size(B.c)")[1]
    assert [(word.name, word.role) for word in words_of(term)] == [
        ("L", "variable"),
        ("exists", "method"),
        ("v", "bound"),
        ("v", "bound"),
        ("A", "variable"),
        ("size", "function"),
        ("B", "variable"),
        ("c", "part"),
    ]


def test_a_bound_name_ends_with_its_macro() -> None:
    (term,) = terms_of("L.exists(v, v) == v")[1]
    assert [word.role for word in words_of(term) if word.name == "v"] == ["bound", "bound", "variable"]


@pytest.mark.parametrize(
    ("expression", "sides"),
    [
        ('A == "x"', ("A", "==", '"x"')),
        ('"x" in A', ('"x"', "in", "A")),
        ("A + 1 != B", ("A + 1", "!=", "B")),
        ("A > 1", None),
        ("L.exists(v, v == 1)", None),
        ("A == B == C", None),
    ],
)
def test_the_sides_of_a_comparison_are_found(expression: str, sides: tuple[str, str, str] | None) -> None:
    (term,) = terms_of(expression)[1]
    assert compared_sides(term, expression) == sides


def test_patterns_are_found_wherever_they_stand() -> None:
    (term,) = terms_of("""L.exists(v, v.matches("a(b") || v.matches(v))""")[1]
    assert patterns_of(term) == ['"a(b"', None]
