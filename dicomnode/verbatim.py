"""Elements with the bytes they came with, and a Part 10 file made of elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import pack
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicomnode.iods import PHILIPS_PET_CREATOR, PHILIPS_PET_ELEMENTS
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

Element = DataElement | RawDataElement

CHARACTER_SET_VRS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""The VRs whose characters Specific Character Set (PS3.5 6.1.2.3) decides on."""
TEXT_VRS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
UNDEFINED_LENGTH, LONGEST_SHORT = 0xFFFFFFFF, 0xFFFF
PIXEL_GROUPS = frozenset({0x7FE0, 0xFFFC, *range(0x5000, 0x5020), *range(0x6000, 0x6020)})


def verbatim_elements(dataset: Dataset) -> dict[int, Element]:
    """The public elements before the pixels, ready for Explicit VR Little Endian, texts byte for byte as received.

    Must be called before a text of `dataset` is read: pydicom replaces the bytes of what it decodes (K1).
    """
    return elements_at(dataset, list(dataset.keys())) | _philips_pet_elements(dataset)


def elements_at(dataset: Dataset, tags: Iterable[BaseTag]) -> dict[int, Element]:
    """As `verbatim_elements`, of these tags alone and without private ones."""
    return {
        int(tag): _verbatim(dataset, tag)
        for tag in tags
        if tag.element != 0 and not tag.is_private and tag.group not in PIXEL_GROUPS
    }


def _philips_pet_elements(dataset: Dataset) -> dict[int, Element]:
    """The two private scale factors of Philips PET with their creator (P6)."""
    kept: dict[int, Element] = {}
    for creator in sorted(tag for tag in dataset.keys() if tag >> 8 == 0x705300 and tag & 0xFF >= 0x10):  # noqa: SIM118
        slot = creator & 0xFF
        if _bytes_of(dataset, creator).strip(b" \0") != PHILIPS_PET_CREATOR.encode():
            continue
        for tag in [creator, *(BaseTag(0x70530000 + (slot << 8) + low) for low in PHILIPS_PET_ELEMENTS)]:
            if tag in dataset:
                kept[int(tag)] = raw_element(tag, "LO" if tag == creator else "DS", _bytes_of(dataset, tag))
    return kept


def _bytes_of(dataset: Dataset, tag: BaseTag) -> bytes:
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        return element.value or b""
    return b"" if element is None or element.value is None else str(element.value).encode("latin-1", "replace")


def _verbatim(dataset: Dataset, tag: BaseTag) -> Element:
    element = dataset.get_item(tag)
    assert element is not None
    vr = _vr_of(dataset, tag, element)
    if vr == "SQ":
        items = dataset[tag].value or ()
        return DataElement(tag, "SQ", DicomSequence([_verbatim_item(item) for item in items]))
    if isinstance(element, DataElement):
        return element
    if vr not in TEXT_VRS and not element.is_little_endian:
        return dataset[tag]
    return raw_element(tag, vr, element.value or b"")


def _verbatim_item(item: Dataset) -> Dataset:
    kept = Dataset()
    for tag in list(item.keys()):
        if tag.element != 0 and not tag.is_private:
            kept[tag] = _verbatim(item, tag)
    kept.set_original_encoding(False, True, kept._character_set)
    return kept


def _vr_of(dataset: Dataset, tag: BaseTag, element: Element) -> str:
    """The dictionary's VR where the bytes allow it: senders write texts under a wrong text VR, or everything as UN."""
    said = str(element.VR or "UN")
    known = dictionary_VR(tag) if dictionary_has_tag(tag) else said
    if " or " in known:
        choices = known.split(" or ")
        if said in choices:
            return said
        return "SS" if choices[:2] == ["US", "SS"] and dataset.get("PixelRepresentation") == 1 else choices[0]
    if said in ("UN", known) or (said in TEXT_VRS and known in TEXT_VRS):
        return known
    return said if element.VR else known


def raw_element(tag: int, vr: str, value: bytes) -> RawDataElement:
    """An element of bytes that nobody decodes, of even length."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)


def holds_more_than_ascii(elements: Iterable[Element]) -> bool:
    """Whether a text, also one inside a sequence, has bytes whose characters only a character set tells."""
    for element in elements:
        if element.VR == "SQ":
            items: list[Dataset] = list(element.value or [])  # type: ignore[arg-type]
            if any(holds_more_than_ascii(_elements_of(item)) for item in items):
                return True
        elif element.VR in CHARACTER_SET_VRS:
            value = element.value if isinstance(element.value, bytes) else str(element.value or "").encode()
            if not value.isascii() or b"\x1b" in value:
                return True
    return False


def _elements_of(item: Dataset) -> list[Element]:
    return [element for tag in list(item.keys()) if (element := item.get_item(tag)) is not None]


def made_element(tag: int, value: Any) -> RawDataElement:
    """An element of a value that we have made, ASCII only, ready to be written."""
    if dictionary_VR(tag) == "SQ":
        return _made_anew(tag, value) if value else _made(tag, ())
    return _made(tag, tuple(value) if isinstance(value, list) else value)


@lru_cache(maxsize=4096, typed=True)
def _made(tag: int, value: Any) -> RawDataElement:
    """Once for each value: most are those of every image of the series."""
    return _made_anew(tag, list(value) if isinstance(value, tuple) else value)


def _made_anew(tag: int, value: Any) -> RawDataElement:
    vr = dictionary_VR(tag)
    return raw_element(tag, vr, content_of_any(DataElement(tag, vr, value)))


def items_element(tag: int, items: Iterable[Iterable[Element]]) -> RawDataElement:
    """A sequence of items, each of elements."""
    content = b"".join(encoded_item(item) for item in items)
    return raw_element(tag, "SQ", content)


def encoded_item(elements: Iterable[Element]) -> bytes:
    """One item with its length said (PS3.5 7.5.1)."""
    of_tag = encoded(elements)
    content = b"".join(of_tag[tag] for tag in sorted(of_tag))
    return pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def encoded(elements: Iterable[Element]) -> dict[int, bytes]:
    """Each element in Explicit VR Little Endian; what is not raw holds ASCII only."""
    return {int(element.tag): _encoded(element) for element in elements}


def _encoded(element: Element) -> bytes:
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and element.VR is not None:
        plain = _encoded_plainly(element.tag, element.VR, element.value, element.length)
        if plain:
            return plain
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, ["iso8859"])
    return buffer.getvalue()


def _encoded_plainly(tag: int, vr: str, value: bytes, said_length: int) -> bytes:
    """Head and bytes (PS3.5 7.1.2); nothing for what pydicom has its own ways with: undefined or too great a length."""
    if len(vr) != 2 or said_length == UNDEFINED_LENGTH:
        return b""
    if vr in EXPLICIT_VR_LENGTH_32:
        return pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, len(value)) + value
    if len(value) > LONGEST_SHORT:
        return b""
    return pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(value)) + value


def content_of(element: Element | None) -> bytes:
    """An element's bytes as Explicit VR Little Endian, a text's without padding, in whatever form it was received."""
    if element is None:
        return b""
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        content = element.value
    else:
        content = content_of_any(element)
    return content.strip(b" \0") if element.VR in TEXT_VRS or element.VR == "UN" else content


def content_of_any(element: Element) -> bytes:
    """An element's bytes as Explicit VR Little Endian, padding and all."""
    return _encoded(element)[12 if element.VR in EXPLICIT_VR_LENGTH_32 else 8 :]


def part10_file(elements: Mapping[int, bytes], *, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """A whole DICOM file of encoded elements, Explicit VR Little Endian, with our own file meta group (U6)."""
    meta = [
        made_element(0x00020001, b"\x00\x01"),
        raw_element(0x00020002, "UI", sop_class_uid.encode("ascii")),
        raw_element(0x00020003, "UI", sop_instance_uid.encode("ascii")),
        made_element(0x00020010, str(ExplicitVRLittleEndian)),
        made_element(0x00020012, IMPLEMENTATION_CLASS_UID),
        made_element(0x00020013, IMPLEMENTATION_VERSION_NAME),
    ]
    group = b"".join(map(_encoded, meta))
    head = bytes(128) + b"DICM" + _encoded(raw_element(0x00020000, "UL", pack("<L", len(group)))) + group
    return b"".join([head, *(elements[tag] for tag in sorted(elements))])
