"""A fault's words name what the administrator must look at."""

from __future__ import annotations

from dicomnode.errors import ConfigFault, NodeFault, OutputFault, SeriesUnusable


def test_a_config_fault_names_file_key_and_reason() -> None:
    fault = ConfigFault("node.toml", "node.port", "expected a number")
    assert str(fault) == "node.toml: node.port: expected a number"
    assert str(ConfigFault("node.toml", "", "not TOML")) == "node.toml: not TOML"
    assert isinstance(fault, NodeFault)


def test_refusals_carry_a_stable_code_beside_their_words() -> None:
    assert SeriesUnusable("no-positions", "words").reason_code == "no-positions"
    assert str(OutputFault("T5", "values out of range")) == "T5: values out of range"
