"""A mistake is found at its line, and the nearest known word is offered."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config_faults import Location, TomlFile, did_you_mean, joined, key_in_words, line_of
from dicomnode.errors import ConfigFault

TEXT = """\
# comment = 1
top = 1
[node]
  port = 1   # here
"quoted key" = 2
text = '''
port = 3
[node.inside]
'''
dotted.key = 4
[[rules]]
name = "a"
[[rules]]
name = "b"
[peers."p.q"]
may = [
  "store",
]
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("top",), 2),
        (("node",), 3),
        (("node", "port"), 4),
        (("node", "quoted key"), 5),
        (("node", "missing"), 3),
        (("node", "inside"), 3),
        (("node", "dotted", "key"), 10),
        (("rules", 0, "name"), 12),
        (("rules", 1, "name"), 14),
        (("rules", 1, "when"), 13),
        (("peers", "p.q", "may", 0), 16),
        (("elsewhere",), None),
    ],
)
def test_a_key_is_found_at_its_line_or_at_its_tables(location: Location, line: int | None) -> None:
    assert line_of(TEXT, location) == line


def test_keys_are_counted_as_people_count() -> None:
    assert key_in_words(("rules", 0, "send_to", 1)) == "rules[1].send_to[2]"


def test_the_nearest_word_is_offered_or_else_the_few_there_are() -> None:
    assert did_you_mean("prot", ["port", "host"]) == "; did you mean port?"
    assert did_you_mean("xyz", ["port", "host"]) == "; there are port, host"
    assert did_you_mean("xyz", []) == ""


def test_a_fault_says_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(TEXT)
    fault = TomlFile(path).fault(("node", "port"), "is wrong")
    assert str(fault) == f"{path}:4: node.port: is wrong"
    assert (fault.key, fault.reason) == ("node.port", "is wrong")


def test_several_faults_are_one_with_a_line_each() -> None:
    fault = joined([ConfigFault("a.toml", "x", "first"), ConfigFault("b.toml", "y", "second")])
    assert str(fault).splitlines() == ["a.toml: x: first", "b.toml: y: second"]


def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("a = 1\nb = \n")
    with pytest.raises(ConfigFault, match=r"node\.toml:2: not TOML"):
        TomlFile(path)
