"""The tables name attributes that exist, at the places the standard gives them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword

from dicomnode.iod_tables import tables
from dicomnode.multiframe.attributes import (
    COPIED,
    CORRECTED_IMAGE,
    FRAME_TYPES,
    NEVER_FROM_ORIGINALS,
    OF_MULTI_FRAME,
    ORIGINALS,
    PET_UNITS,
)

ONLY_FOR_READING = {"DiffusionBValue", "DiffusionDirectionality", "RescaleType", "RescaleSlope", "RescaleIntercept"}
"""What the gates read though not every single-frame object has it."""


@pytest.fixture(scope="module")
def standard() -> dict[str, Any]:
    """highdicom's copy of the standard's module tables."""
    found = find_spec("highdicom")
    assert found is not None and found.origin is not None
    text = (Path(found.origin).parent / "_standard" / "module_attribute_map.json").read_text()
    tables: dict[str, Any] = json.loads(text)
    return tables


def test_every_keyword_is_in_the_dictionary() -> None:
    copied = [keyword for keywords in COPIED.values() for keyword in keywords]
    names = {*COPIED, *copied, *FRAME_TYPES, *NEVER_FROM_ORIGINALS, *OF_MULTI_FRAME, *ORIGINALS, *CORRECTED_IMAGE}
    assert [name for name in names if tag_for_keyword(name) is None] == []


def test_every_copied_attribute_stands_in_its_macro_of_some_enhanced_object(standard: dict[str, Any]) -> None:
    held = {
        (row["path"][-1], row["keyword"])
        for name in ("ct", "mr", "pet")
        for row in standard[f"enhanced-{name}-image-multi-frame-functional-groups"]
        if len(row["path"]) == 2
    }
    assert {(macro, keyword) for macro, keywords in COPIED.items() for keyword in keywords} <= held


def test_every_copied_attribute_is_one_of_a_single_frame_object() -> None:
    of_single = {
        keyword
        for modules in tables()["iods"].values()
        for module in modules
        for keyword in tables()["modules"][module]
    }
    copied = {keyword for keywords in COPIED.values() for keyword in keywords}
    assert copied - of_single <= ONLY_FOR_READING | {"DerivationDescription"}


def test_every_correction_flag_is_one_of_the_enhanced_pet(standard: dict[str, Any]) -> None:
    flags = {row["keyword"] for row in standard["enhanced-pet-corrections"] if not row["path"]}
    assert set(CORRECTED_IMAGE) <= flags


def test_units_that_can_be_used_come_before_counts() -> None:
    assert list(dict.fromkeys(PET_UNITS.values()))[:2] == ["BQML", "GML"]
