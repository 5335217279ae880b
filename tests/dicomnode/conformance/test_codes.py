"""Every code that a derived object holds is among the statement's: asked of objects that were made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset

from dicomnode.companions.companions import COMPANIONS, derive_companions
from dicomnode.conformance.codes import code_sections
from tests.builders_companions import phantom_derivation, read


def test_the_purposes_and_the_pipelines_own_codes_are_told() -> None:
    text = code_sections()
    for code in ("109101 | DCM", "121322 | DCM", "MAR | 99DCMNODE", "SYNTHETIC | 99DCMNODE", "113000 | DCM"):
        assert f"| {code} |" in text


def test_segments_and_maps_hold_no_code_that_is_not_told(tmp_path: Path) -> None:
    text = code_sections()
    for companion in derive_companions(COMPANIONS[:3], phantom_derivation(tmp_path)):
        for instance in companion.instances:
            for value, scheme in set(codes_in(read(instance))):
                assert f"| {value} | {scheme} |" in text, companion.name


def codes_in(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """The codes of segments and of value maps."""
    for keyword in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        for segment in dataset.get("SegmentSequence", []):
            for item in segment.get(keyword, []):
                yield str(item.CodeValue), str(item.CodingSchemeDesignator)
    for groups in dataset.get("SharedFunctionalGroupsSequence", []):
        for mapping in groups.get("RealWorldValueMappingSequence", []):
            for item in mapping.MeasurementUnitsCodeSequence:
                yield str(item.CodeValue), str(item.CodingSchemeDesignator)
