"""A CEL expression as a tree of !, && and || over terms, and the words its tokens name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DEEPEST = 40
COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})
MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
"""Methods whose first argument names each value in turn."""

_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_TOKEN = re.compile(
    r"""
    (?P<blank> [ \t\r\n\f]+ | //[^\n]* )
  | (?P<text> [bB]?[rR](?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n\r]*" | '[^'\n\r]*' )
            | [bB]?(?: \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3}
                     | "(?:\\.|[^"\\\n\r])*" | '(?:\\.|[^'\\\n\r])*' ) )
  | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
  | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]? )
  | (?P<sign> && | \|\| | [=!<>]= | . )
    """,
    re.VERBOSE | re.DOTALL,
)
"""CEL's own lexical rules (cel-spec, langdef "Syntax"); a raw text has no escapes."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token and where it stands."""

    kind: str
    text: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Term:
    """What is evaluated as a whole; `index` is its place among the terms."""

    index: int
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True when `of` is false."""

    of: Node


@dataclass(frozen=True, slots=True)
class Every:
    """True when all are."""

    of: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """True when one is."""

    of: tuple[Node, ...]


Node = Term | Not | Every | Either


@dataclass(frozen=True, slots=True)
class Word:
    """A name in a term and what it is there."""

    name: str
    role: str
    """variable, bound (by a macro such as exists), function, method or part (a selected field)."""


def terms_of(expression: str) -> tuple[Node, tuple[Term, ...]]:
    """The tree of an expression that CEL has parsed, and its terms from left to right.

    Raises ValueError when it is nested too deeply to be explained.
    """
    terms: list[Term] = []
    tree = _tree(expression, tokens_of(expression), terms, 0)
    return tree, tuple(terms)


def tokens_of(expression: str) -> tuple[Token, ...]:
    """The tokens without blanks and comments."""
    return tuple(
        Token(str(match.lastgroup), match.group(), match.start(), match.end())
        for match in _TOKEN.finditer(expression)
        if match.lastgroup != "blank"
    )


def _tree(expression: str, tokens: Sequence[Token], terms: list[Term], depth: int) -> Node:
    if depth > DEEPEST:
        raise ValueError(f"is nested deeper than {DEEPEST} levels")
    for sign, kind in (("||", Either), ("&&", Every)):
        parts = _split(tokens, sign)
        if len(parts) > 1:
            return kind(tuple(_tree(expression, part, terms, depth + 1) for part in parts))
    if tokens and _sign(tokens[0], "!") and not _operators(tokens[1:]):
        return Not(_tree(expression, tokens[1:], terms, depth + 1))
    if len(tokens) > 2 and _sign(tokens[0], "(") and _closing(tokens, 0) == len(tokens) - 1:
        return _tree(expression, tokens[1:-1], terms, depth + 1)
    text = expression[tokens[0].begin : tokens[-1].end] if tokens else ""
    terms.append(Term(len(terms), text, tuple(tokens)))
    return terms[-1]


def _sign(token: Token, sign: str) -> bool:
    return token.kind == "sign" and token.text == sign


def _outermost(tokens: Sequence[Token]) -> Iterator[int]:
    """Indices of the tokens that stand in no bracket."""
    depth = 0
    for index, token in enumerate(tokens):
        if token.kind == "sign" and token.text in _OPEN:
            depth += 1
        elif token.kind == "sign" and token.text in _CLOSE:
            depth -= 1
        elif depth == 0:
            yield index


def _closing(tokens: Sequence[Token], opening: int) -> int:
    """Index of the bracket that closes the one at `opening`."""
    depth = 0
    for index in range(opening, len(tokens)):
        if tokens[index].kind == "sign":
            depth += (tokens[index].text in _OPEN) - (tokens[index].text in _CLOSE)
            if depth == 0:
                return index
    return len(tokens)


def _split(tokens: Sequence[Token], sign: str) -> list[Sequence[Token]]:
    parts, begin = [], 0
    for index in _outermost(tokens):
        if _sign(tokens[index], sign):
            parts.append(tokens[begin:index])
            begin = index + 1
    return [*parts, tokens[begin:]]


def _operators(tokens: Sequence[Token]) -> list[int]:
    """Indices of the comparisons and arithmetic that stand in no bracket."""
    return [
        index
        for index in _outermost(tokens)
        if tokens[index].kind in ("sign", "word") and tokens[index].text in COMPARISONS | ARITHMETIC
    ]


def compared_sides(term: Term, expression: str) -> tuple[str, str, str] | None:
    """(left, operator, right) when the term is one comparison by ==, != or in; None otherwise."""
    places = [index for index in _operators(term.tokens) if term.tokens[index].text in COMPARISONS]
    if len(places) != 1 or term.tokens[places[0]].text not in ("==", "!=", "in"):
        return None
    left, right = term.tokens[: places[0]], term.tokens[places[0] + 1 :]
    if not left or not right:
        return None
    operator = term.tokens[places[0]].text
    return expression[left[0].begin : left[-1].end], operator, expression[right[0].begin : right[-1].end]


def words_of(term: Term) -> list[Word]:
    """The names in a term, in order, each with what it is."""
    tokens, found = term.tokens, []
    bound: list[tuple[str, int]] = []  # name, index of the bracket that ends its scope
    for index, token in enumerate(tokens):
        bound = [(name, end) for name, end in bound if end > index]
        if token.kind != "word" or token.text in ("in", "true", "false", "null"):
            continue
        selected = index > 0 and _sign(tokens[index - 1], ".")
        called = index + 1 < len(tokens) and _sign(tokens[index + 1], "(")
        if selected and called:
            found.append(Word(token.text, "method"))
            if token.text in MACROS and index + 3 < len(tokens) and _sign(tokens[index + 3], ","):
                bound.append((tokens[index + 2].text, _closing(tokens, index + 1)))
        elif called:
            found.append(Word(token.text, "function"))
        elif selected:
            found.append(Word(token.text, "part"))
        else:
            found.append(Word(token.text, "bound" if token.text in (name for name, _ in bound) else "variable"))
    return found


def patterns_of(term: Term) -> list[str | None]:
    """The pattern of every `matches` as it is written, None for one that is not a text written in the rule."""
    tokens, patterns = term.tokens, []
    for index, token in enumerate(tokens):
        if token.kind == "word" and token.text == "matches" and index + 1 < len(tokens):
            end = _closing(tokens, index + 1)
            written = end == index + 3 and tokens[index + 2].kind == "text"
            patterns.append(tokens[index + 2].text if written else None)
    return patterns
