"""The coded terminology that the node writes, each code where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import ModuleType

from pydicom.sr.coding import Code

from dicomnode import iods, provenance
from dicomnode.conformance.tables import table
from dicomnode.uids import CODING_SCHEME
from inference.pipeline import build_pipeline, pipeline_names


def code_sections() -> str:
    """Every code of a public scheme and every one of ours."""
    rows = [*_of_history(), *_of_pipelines(), *_of_companions()]
    words = (
        f"{CODING_SCHEME} is the node's own coding scheme; every object that uses it says so in "
        "CodingSchemeIdentificationSequence. A pipeline's measurements and masks without a public code get codes of "
        "it by their names.\n"
    )
    purposes = ", ".join(f"{value} {scheme}" for value, scheme in sorted(iods.EQUIPMENT_PURPOSES))
    return (
        words
        + "\n"
        + table(("code", "scheme", "meaning", "where"), list(dict.fromkeys(rows)))
        + f"\n`equipment_purpose` may be any of: {purposes}.\n"
    )


def _of_history() -> Iterator[tuple[str, str, str, str]]:
    equipment, purpose = "ContributingEquipmentSequence", "PurposeOfReferenceCodeSequence"
    for code in (provenance.ACQUISITION_EQUIPMENT, provenance.PROCESSING_EQUIPMENT, provenance.SYNTHESIZING_EQUIPMENT):
        yield *code, equipment
    yield *provenance.SOURCE_IMAGE, f"SourceImageSequence > {purpose}"
    yield *provenance.SOURCE_SERIES, f"RelatedSeriesSequence > {purpose}"


def _of_pipelines() -> Iterator[tuple[str, str, str, str]]:
    for name in pipeline_names():
        card = build_pipeline(name, {}).card
        yield card.token, CODING_SCHEME, card.label, "DerivationCodeSequence"


def _of_companions() -> Iterator[tuple[str, str, str, str]]:
    from dicomnode.companions import key_image, measurement_codes, parametric_map, report, segmentation, text_report

    modules: dict[ModuleType, str] = {
        segmentation: "Segmentation",
        parametric_map: "Parametric Map",
        report: "measurement report",
        text_report: "text report",
        key_image: "Key Object Selection",
        measurement_codes: "measurements",
    }
    for module, where in modules.items():
        for code in _codes_in(list(vars(module).values())):
            yield code.value, code.scheme_designator, code.meaning, where


def _codes_in(values: list[object]) -> Iterator[Code]:
    """The codes among a module's constants, also within tables and records of them."""
    for value in values:
        if isinstance(value, Code):
            yield value
        elif isinstance(value, dict):
            yield from _codes_in(list(value.values()))
        elif is_dataclass(value) and not isinstance(value, type):
            yield from _codes_in([getattr(value, one.name) for one in fields(value)])
