"""Content items of reports and of acquisition contexts without words and names (PS3.15 E.3.4, by removal)."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableSequence

from pydicom.dataset import Dataset

SEQUENCES = frozenset({"ContentSequence", "AcquisitionContextSequence", "SpecimenPreparationSequence"})
NAMING = frozenset({"TEXT", "PNAME"})
_OF_THE_SUBJECT = re.compile(
    r"^(subject|mother|fetus)\b|^patient('s)? (name|id|age|sex|gender)\b|\bbirth|\bage$|^age\b", re.IGNORECASE
)
"""Names of items that say who somebody is (TID 1007): of a header the Basic Profile takes the same away."""


def without_words(items: MutableSequence[Dataset]) -> bool:
    """Takes every item away that is text, a name, or of the subject, with what is below; False where that cannot be.

    An item that points at another by its position (Referenced Content Item Identifier) would point at a wrong one.
    """
    if any("ReferencedContentItemIdentifier" in one for one in _items(items)):
        return False
    _take_away(items)
    return len(items) > 0


def dummy_content() -> Dataset:
    """One content item that says that the others were removed."""
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121106", "DCM", "Comment"
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", "REMOVED"
    item.ConceptNameCodeSequence = [name]
    return item


def _take_away(items: MutableSequence[Dataset]) -> None:
    items[:] = [item for item in items if item.get("ValueType") not in NAMING and not _of_the_subject(item)]
    for item in items:
        for element in [one for one in item if one.VR == "SQ"]:
            _take_away(element.value)
            if not element.value:
                del item[element.tag]


def _of_the_subject(item: Dataset) -> bool:
    names = item.get("ConceptNameCodeSequence") or ()
    return item.get("ValueType") != "CONTAINER" and any(
        _OF_THE_SUBJECT.search(str(name.get("CodeMeaning") or "").strip()) for name in names
    )


def _items(items: MutableSequence[Dataset]) -> Iterator[Dataset]:
    for item in items:
        yield item
        for element in item:
            if element.VR == "SQ":
                yield from _items(element.value)
