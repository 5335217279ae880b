"""Instances that name their patient wherever the standard has room for it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT_UID = "1.2.826.0.1.3680043.99.4711"
BIRTH, STUDY_DAY = "19840117", "20200304"
WORDS = (b"zwingli", b"huldrych", b"pid-4711", b"zuerich", BIRTH.encode(), STUDY_DAY.encode(), ROOT_UID.encode())
"""What no byte of an export may hold, lower case."""
_LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT", "SV", "UV"])
_VALUES = {
    "AE": b"HULDRYCH",
    "AS": b"036Y",
    "CS": b"ZWINGLI HULDRYCH",
    "DA": STUDY_DAY.encode(),
    "DS": b"Zwingli",
    "DT": STUDY_DAY.encode() + b"111213",
    "IS": b"Zwingli",
    "LO": b"Huldrych Zwingli PID-4711",
    "LT": b"Huldrych Zwingli, Zuerich, " + BIRTH.encode(),
    "PN": b"Zwingli^Huldrych",
    "SH": b"PID-4711 Zwingli",
    "ST": b"Seen by Huldrych Zwingli in Zuerich",
    "TM": b"111213",
    "UC": b"Huldrych Zwingli",
    "UR": b"http://zuerich/zwingli",
    "UT": b"Huldrych Zwingli on " + STUDY_DAY.encode(),
}
_ESSENTIAL = {
    0x00080005: ("CS", b"ISO_IR 100"),
    0x00080016: ("UI", CTImageStorage.encode()),
    0x00080018: ("UI", f"{ROOT_UID}.3".encode()),
    0x00080060: ("CS", b"CT"),
    0x0020000D: ("UI", f"{ROOT_UID}.1".encode()),
    0x0020000E: ("UI", f"{ROOT_UID}.2".encode()),
    0x00100010: ("PN", b"Zwingli^Huldrych"),
    0x00100020: ("LO", b"PID-4711"),
    0x00100030: ("DA", BIRTH.encode()),
    0x00080080: ("LO", b"Zuerich"),
    0x7FE00008: ("OF", bytes(4)),
    0x7FE00009: ("OD", bytes(8)),
    0x7FE00010: ("OW", b"\1\2\3\4"),
}
DOCUMENT = 0x00420011
"""Encapsulated Document: an instance that has one is not exported at all."""


def public_attributes() -> dict[int, str]:
    """Tag -> VR of every attribute of the dictionary that a data set may hold, retired ones too."""
    return {
        tag: vr.split(" or ")[0]
        for tag, (vr, *_) in DicomDictionary.items()
        if tag >> 16 > 2 and tag >> 16 != 0xFFFE and vr != "NONE" and tag != DOCUMENT
    }


def named_value(tag: int, vr: str) -> bytes:
    """A value of the attribute that names the patient, as far as its representation has room."""
    if vr == "UI":
        return f"{ROOT_UID}.{tag}".encode()
    if vr[:1] == "O" or vr == "UN":
        return b"Huldrych Zwingli"
    return _VALUES.get(vr, b"\0" * 8)


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian."""
    value += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, len(value)) if vr in _LONG else struct.pack("<H", len(value))) + value


def item(elements: dict[int, bytes]) -> bytes:
    """One item of a sequence."""
    content = b"".join(elements[tag] for tag in sorted(elements))
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def naming_elements(attributes: Iterable[tuple[int, str]], inner: Callable[[int], bytes]) -> dict[int, bytes]:
    """Tag -> encoded element that names the patient; inner: what a sequence holds."""
    return {tag: element(tag, vr, inner(tag) if vr == "SQ" else named_value(tag, vr)) for tag, vr in attributes}


def private_elements() -> dict[int, bytes]:
    """Private blocks, overlays, curves, group lengths and elements of no dictionary, all with names in them."""
    made = {0x00090010: element(0x00090010, "LO", b"ZWINGLI 1.0"), 0x00091001: element(0x00091001, "LO", b"Zwingli")}
    made |= {0x00110010: element(0x00110010, "LO", b"GEMS_PARM_01"), 0x00431027: element(0x00431027, "SH", b"Zwingli")}
    made |= {0x00430010: element(0x00430010, "LO", b"GEMS_PARM_01"), 0x00111001: element(0x00111001, "UN", b"Zwingli ")}
    for group in (0x5000, 0x501E, 0x6000, 0x601E):
        for number in (0x0022, 0x0040, 0x1500, 0x2500, 0x3000, 0x4000):
            made[group << 16 | number] = element(group << 16 | number, "LO", b"Huldrych Zwingli")
    for unknown in (0x00080FFE, 0x0018FFF2, 0x00990002 + 0x00010000):
        made[unknown] = element(unknown, "LO", b"Huldrych Zwingli")
    return made


def write_naming_instance(path: Path) -> Path:
    """A file with the patient's words in every attribute of the dictionary, at the root and three levels deep."""
    attributes = public_attributes()
    leaves = [(tag, vr) for tag, vr in attributes.items() if vr != "SQ"]
    groups = [leaves[first : first + 12] for first in range(0, len(leaves), 12)]

    def a_few(tag: int) -> bytes:
        return item(naming_elements(groups[tag % len(groups)], lambda _: b""))

    all_nested = item(naming_elements(attributes.items(), a_few) | private_elements())

    def content(tag: int) -> bytes:
        return all_nested if keyword_for_tag(tag) == "SharedFunctionalGroupsSequence" else a_few(tag)

    elements = naming_elements(attributes.items(), content) | private_elements()
    elements |= {tag: element(tag, vr, value) for tag, (vr, value) in _ESSENTIAL.items()}
    return write_elements(path, elements)


def write_elements(path: Path, elements: dict[int, bytes]) -> Path:
    """A Part 10 file of these elements and what every instance needs."""
    needed = {tag: element(tag, vr, value) for tag, (vr, value) in _ESSENTIAL.items()}
    body = b"".join(content for _, content in sorted((needed | elements).items()))
    meta = b"".join(
        (
            element(0x00020002, "UI", CTImageStorage.encode()),
            element(0x00020003, "UI", f"{ROOT_UID}.3".encode()),
            element(0x00020010, "UI", ExplicitVRLittleEndian.encode()),
            element(0x00020016, "AE", b"ZWINGLI"),
            element(0x00020100, "UI", f"{ROOT_UID}.9".encode()),
            element(0x00020102, "OB", b"Huldrych Zwingli"),
        )
    )
    head = b"Zwingli Huldrych" * 8 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta)))
    path.write_bytes(head + meta + body)
    return path
