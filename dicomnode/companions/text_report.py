"""The result as a page that a radiologist reads anywhere: Enhanced SR, TID 2000."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from highdicom.sr import (
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    EnhancedSR,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    NumContentItem,
    ObservationContext,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicomnode.companions import statements
from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import TEXT_REPORT, harmonise
from dicomnode.companions.image_references import evidence, instances_of
from dicomnode.companions.measurement_codes import COUNTS, CodedName, coded_name, number_of
from dicomnode.companions.observer import node_as_observer
from dicomnode.companions.shown_slices import shown_slices
from dicomnode.derived_instance import DerivedInstance
from dicomnode.uids import CODING_SCHEME

TITLE = Code("18748-4", "LN", "Diagnostic Imaging Report")
ENGLISH = Code("en", "RFC5646", "English")
SECTIONS = {
    "summary": Code("55112-7", "LN", "Summary"),
    "procedure": Code("55111-9", "LN", "Current Procedure Descriptions"),
    "findings": Code("59776-5", "LN", "Findings"),
    "recommendations": Code("18783-1", "LN", "Recommendations"),
    "images": Code("55113-5", "LN", "Key Images"),
}
"""Headings of CID 7001, in the order of the page."""
SUMMARY = Code("55112-7", "LN", "Summary")
PROCEDURE = Code("121065", "DCM", "Procedure Description")
FINDING = Code("121071", "DCM", "Finding")
RECOMMENDATION = Code("121075", "DCM", "Recommendation")
DERIVED_IMAGE = Code("derived_image", CODING_SCHEME, "derived image")
SOURCE_IMAGE = Code("260753009", "SCT", "Source")


def text_report(derivation: Derivation) -> DerivedInstance:
    """The page: how far to trust it, what was done, what was found, what to do, and the slices to look at."""
    trust = (statements.headline(derivation), statements.qualification(derivation))
    root = ContainerContentItem(name=TITLE, template_id="2000")
    root.ContentSequence = ContentSequence(
        [
            *LanguageOfContentItemAndDescendants(ENGLISH),
            *ObservationContext(observer_device_context=node_as_observer(derivation)),
            _section("summary", _texts(SUMMARY, trust)),
            _section("procedure", _texts(PROCEDURE, statements.what_was_done(derivation))),
            _section("findings", [*_texts(FINDING, statements.remarks(derivation)), *_numbers(derivation)]),
            _section(
                "recommendations",
                _texts(RECOMMENDATION, (statements.COMPARE, statements.intended_use(derivation))),
            ),
            _section("images", _images(derivation)),
        ]
    )
    made: Dataset = EnhancedSR(
        evidence=evidence(derivation),
        content=root,
        **derivation.placed(TEXT_REPORT),
        is_complete=True,
        is_final=True,
        is_verified=False,
    )
    return harmonise(made, derivation, role=TEXT_REPORT, description="report")


def _section(name: str, items: Sequence[ContentItem]) -> ContainerContentItem:
    section = ContainerContentItem(name=SECTIONS[name], relationship_type="CONTAINS")
    section.ContentSequence = ContentSequence(items)
    return section


def _texts(name: Code, texts: Iterable[str]) -> list[ContentItem]:
    return [TextContentItem(name=name, value=text, relationship_type="CONTAINS") for text in texts if text]


def _numbers(derivation: Derivation) -> list[ContentItem]:
    """Every measurement that has a number, and the count of unchanged slices."""
    measured: list[tuple[CodedName, float]] = [
        (coded_name(name), float(value))
        for name, value in sorted(derivation.outcome.measurements.items())
        if np.isfinite(value)
    ]
    measured.append((COUNTS["unchanged"], float(len(derivation.outcome.unchanged))))
    return [
        NumContentItem(name=name.concept, value=number_of(name, value), unit=name.unit, relationship_type="CONTAINS")
        for name, value in measured
    ]


def _images(derivation: Derivation) -> list[ContentItem]:
    """The derived images of the slices that changed most, each set beside its source."""
    slices = shown_slices(derivation)
    derived = [
        ImageContentItem(
            name=DERIVED_IMAGE,
            referenced_sop_class_uid=str(derivation.derived[k].SOPClassUID),
            referenced_sop_instance_uid=str(derivation.derived[k].SOPInstanceUID),
            relationship_type="CONTAINS",
        )
        for k in slices
    ]
    sources = [
        ImageContentItem(
            name=SOURCE_IMAGE,
            referenced_sop_class_uid=sop_class_uid,
            referenced_sop_instance_uid=sop_instance_uid,
            referenced_frame_numbers=list(frames) or None,
            relationship_type="CONTAINS",
        )
        for (sop_class_uid, sop_instance_uid), frames in instances_of(derivation.images[k] for k in slices).items()
    ]
    return [*derived, *sources]
