"""Markdown tables of the statement, and what UIDs and attributes are called in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

NEWER: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.2.3": "CT Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.2.4": "Enhanced CT Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.2.5": "Legacy Converted Enhanced CT Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}
"""Names that pydicom's dictionary does not have yet."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is kept from ending it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def name_of(uid: str) -> str:
    """What the standard calls it. Raises LookupError for a UID without a name: the statement must not hide one."""
    name = NEWER.get(uid) or UID(uid).name
    if name == uid:
        raise LookupError(f"{uid} has no name in pydicom's dictionary; give it one in conformance/tables.py")
    return name


def tag_of(keyword: str) -> str:
    """(gggg,eeee) of an attribute; what the dictionary does not have has none."""
    tag = tag_for_keyword(keyword)
    return "" if tag is None else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def uid_rows(uids: Iterable[str]) -> list[tuple[str, str]]:
    """(name, UID) of each."""
    return [(name_of(uid), uid) for uid in uids]
