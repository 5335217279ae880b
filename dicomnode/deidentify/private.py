"""Private elements that are known to hold physics and nothing else (PS3.15 Table E.3.10-1, the rows of CT, MR, PET)."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicomnode.deidentify.identity import UNREADABLE

SAFE: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "Philips PET Private Group": {0x7053: (0x00, 0x09)},
    "Philips MR Imaging DD 001": {0x2005: (0x0D, 0x0E)},
    "Philips Imaging DD 001": {0x2001: (0x03, 0x04)},
    "SIEMENS MR HEADER": {0x0019: (0x0C, 0x0D, 0x0E, 0x27)},
    "ELSCINT1": {0x00E1: (0x21,), 0x01E1: (0x26, 0x50), 0x01F1: (0x01, 0x07, 0x26, 0x27)},
    "GEMS_ACQU_01": {0x0019: (0x23, 0x24, 0x27, 0x9E)},
    "GEMS_SERS_01": {0x0025: (0x07,)},
    "GEMS_PARM_01": {0x0043: (0x27, 0x39, 0x6F)},
    "GEMS_HELIOS_01": {0x0045: (0x01, 0x02)},
}
"""Private creator -> group -> the last two digits of the elements."""


def safe_elements(dataset: Dataset) -> frozenset[BaseTag]:
    """The tags of safe private elements that are there, and of the private creators they need, at this level."""
    found: set[BaseTag] = set()
    for tag in list(dataset.keys()):
        if not tag.is_private or not 0x10 <= tag.element <= 0xFF:
            continue
        try:
            creator = str(dataset[tag].value).strip(" \0")
        except UNREADABLE:
            continue
        block = tag.element << 8
        safe = {Tag(tag.group, block | last) for last in SAFE.get(creator, {}).get(tag.group, ())}
        if there := {one for one in safe if one in dataset and dataset.get_item(one).VR != "SQ"}:
            found |= there | {tag}
    return frozenset(found)
