"""Measurements as codes and units."""

import ast
from pathlib import Path

import pytest

import inference.pipelines
from dicomnode.companions.measurement_codes import COUNTS, coded_name, number_of


@pytest.mark.parametrize(
    ("name", "words", "unit"),
    [
        ("metal_volume_ml", "metal volume", "ml"),
        ("streak_before_hu", "streak before", "[hnsf'U]"),
        ("largest_shift_mm", "largest shift", "mm"),
        ("removed_percent", "removed", "%"),
        ("gain_db", "gain", "dB"),
        ("activity_bq_per_ml", "activity", "Bq/ml"),
        ("slices_changed", "slices changed", "{slices}"),
        ("relative_noise", "relative noise", "1"),
        ("removed_rms_hu", "removed rms", "[hnsf'U]"),
    ],
)
def test_the_end_of_a_name_says_the_unit_and_the_rest_is_the_meaning(name: str, words: str, unit: str) -> None:
    coded = coded_name(name)
    assert (coded.concept.value, coded.concept.scheme_designator, coded.concept.meaning) == (name, "99DCMNODE", words)
    assert (coded.unit.value, coded.unit.scheme_designator) == (unit, "UCUM")


def test_every_measurement_of_every_pipeline_has_a_code_that_a_report_can_hold() -> None:
    names = set()
    for path in Path(inference.pipelines.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict) and node.keys:
                keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                names |= {
                    key for key in keys if isinstance(key, str) and key.endswith(("_hu", "_ml", "noise", "ratio"))
                }
    assert {"metal_volume_ml", "noise_hu", "lungs_ml", "relative_noise"} <= names
    for name in names:
        coded = coded_name(name)
        assert 0 < len(coded.concept.meaning) <= 64 and 0 < len(coded.unit.value) <= 16


def test_two_names_that_differ_in_their_unit_only_stay_two_codes() -> None:
    assert coded_name("shift_mm").concept != coded_name("shift_hu").concept


def test_counts_are_whole_and_other_numbers_keep_six_digits() -> None:
    assert repr(number_of(COUNTS["slices"], 3.0)) == "3"
    assert repr(number_of(coded_name("metal_volume_ml"), 3.0)) == "3.0"
    assert number_of(coded_name("streak_before_hu"), 17.305241266886394) == 17.3052
    assert number_of(coded_name("slices_changed"), 2.5) == 2.5
