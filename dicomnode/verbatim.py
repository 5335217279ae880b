"""Elements with the bytes they came with, and a Part 10 file made of elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicomnode.iods import PHILIPS_PET_CREATOR, PHILIPS_PET_ELEMENTS
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

Element = DataElement | RawDataElement

CHARACTER_SET_VRS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""The VRs whose characters Specific Character Set (PS3.5 6.1.2.3) decides on."""
TEXT_VRS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
PIXEL_GROUPS = frozenset({0x7FE0, 0xFFFC, *range(0x5000, 0x5020), *range(0x6000, 0x6020)})


def verbatim_elements(dataset: Dataset) -> dict[int, Element]:
    """The public elements before the pixels, ready for Explicit VR Little Endian, texts byte for byte as received.

    Must be called before a text of `dataset` is read: pydicom replaces the bytes of what it decodes (K1).
    """
    return {
        int(tag): _verbatim(dataset, tag)
        for tag in list(dataset.keys())
        if tag.element != 0 and not tag.is_private and tag.group not in PIXEL_GROUPS
    } | _philips_pet_elements(dataset)


def _philips_pet_elements(dataset: Dataset) -> dict[int, Element]:
    """The two private scale factors of Philips PET with their creator (P6)."""
    kept: dict[int, Element] = {}
    for slot in range(0x10, 0x100):
        creator = BaseTag(0x70530000 + slot)
        if creator not in dataset or _bytes_of(dataset, creator).strip(b" \0") != PHILIPS_PET_CREATOR.encode():
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


def encoded(elements: Iterable[Element]) -> dict[int, bytes]:
    """Each element in Explicit VR Little Endian; what is not raw holds ASCII only."""
    return {int(element.tag): _encoded(element) for element in elements}


def _encoded(element: Element) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, ["iso8859"])
    return buffer.getvalue()


def content_of(element: Element | None) -> bytes:
    """An element's bytes as Explicit VR Little Endian, a text's without padding, in whatever form it was received."""
    if element is None:
        return b""
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        content = element.value
    else:
        content = encoded([element])[int(element.tag)][12 if element.VR in EXPLICIT_VR_LENGTH_32 else 8 :]
    return content.strip(b" \0") if element.VR in TEXT_VRS or element.VR == "UN" else content


def part10_file(elements: Mapping[int, bytes], *, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """A whole DICOM file of encoded elements, Explicit VR Little Endian, with our own file meta group (U6)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    head = DicomBytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(head, meta)
    return head.getvalue() + b"".join(elements[tag] for tag in sorted(elements))
