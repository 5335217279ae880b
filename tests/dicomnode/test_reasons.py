"""The table of reasons is complete: no refusal without advice, no advice for a refusal that cannot happen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dicomnode.mixed import APART, APART_NEARLY, NEVER, NEVER_PET
from dicomnode.reasons import REASONS

ROOT = Path(__file__).parents[2]
RAISERS = frozenset({"SeriesUnusable", "SourceRefused", "unusable"})
ORDER = re.compile(r"^ (send|have|correct|load|resample|see) [a-z]")
TABLE_DRIVEN = frozenset({"mixed.py", "frame.py"})
"""The files that raise with a code from a table or an argument instead of a word."""


def raised() -> Iterator[tuple[Path, ast.expr]]:
    """The first argument of every refusal in the sources."""
    for path in sorted([*(ROOT / "dicomnode").rglob("*.py"), *(ROOT / "inference").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in RAISERS:
                    yield path, node.args[0]


def codes_in_use() -> set[str]:
    found = {argument.value for _, argument in raised() if isinstance(argument, ast.Constant)}
    tables = (NEVER, NEVER_PET, APART)
    return (
        {str(code) for code in found}
        | {code for table in tables for code, _ in table.values()}
        | set(APART_NEARLY.values())
    )


def test_every_code_that_is_raised_is_in_the_table_and_every_code_of_the_table_is_raised() -> None:
    assert codes_in_use() - set(REASONS) == set(), "these codes have no advice in dicomnode/reasons.py"
    assert set(REASONS) - codes_in_use() == set(), "these codes are raised nowhere"


def told(node: ast.expr) -> str:
    """The words of a message as the source has them; what is filled in is three dots."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(told(value) for value in values)
        case ast.BinOp(left=left, right=right):
            return told(left) + told(right)
        case _:
            return "..."


def messages() -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / "dicomnode").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and len(node.args) > 1:
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in RAISERS:
                    yield path, told(node.args[1])


def test_every_sentence_of_a_refusal_ends_with_what_to_do() -> None:
    """The last part, behind a semicolon, begins with an order; frame.py only puts its caller's sentence together."""
    found = [(path, text) for path, text in messages() if path.name != "frame.py"]
    assert len(found) > 50
    for path, text in found:
        assert ORDER.search(text.rpartition(";")[2]), f"{path.name}: {text}"


def test_a_code_is_a_word_of_the_source_unless_a_table_gives_it() -> None:
    for path, argument in raised():
        assert isinstance(argument, ast.Constant) or path.name in TABLE_DRIVEN, f"{path.name}: {ast.unparse(argument)}"


def test_a_code_is_lower_case_words_and_its_advice_a_sentence_that_says_what_to_do() -> None:
    for code, advice in REASONS.items():
        assert re.fullmatch("[a-z]+(-[a-z]+)*", code)
        assert advice.isascii() and advice.endswith(".") and advice[0].isupper()
        assert len(advice.split()) >= 4, code
