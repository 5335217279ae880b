"""The identifiers of C-FIND, C-MOVE and C-GET: the keys that a request asks, and the bytes of an answer."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomnode.attributes import attribute_at
from dicomnode.character_sets import CHANGEABLE_VRS, REPLACEMENT, character_sets, decoded_text
from dicomnode.headers import SINGLE_TEXTS, UNDECODABLE, UNDEFINED_LENGTH

CHARACTER_SET, LEVEL, RETRIEVE_AE_TITLE, AVAILABILITY = 0x00080005, 0x00080052, 0x00080054, 0x00080056
UTF_8, LATIN_1 = "ISO_IR 192", "ISO_IR 100"
LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
"""VRs whose length is 32 bits in Explicit VR (PS3.5 7.1.2)."""
BINARY = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l", "UV": "<Q", "SV": "<q", "FL": "<f", "FD": "<d"}
LONGEST_SHORT = 0xFFFE


class IdentifierFault(ValueError):
    """An identifier that cannot be read or asks what cannot be answered. tag: the element that is at fault."""

    def __init__(self, reason: str, *, tag: int | None = None) -> None:
        super().__init__(reason)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Asked:
    """One key of a request. keyword: empty for what the dictionary does not know or no header keeps."""

    tag: int
    vr: str
    keyword: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Identifier:
    """A request's identifier: its level, its keys in the order of their tags, and the character sets of its texts."""

    level: str
    character_sets: tuple[str, ...]
    asked: tuple[Asked, ...]

    def values_of(self, keyword: str) -> tuple[Any, ...]:
        """The values of a key; none when it is absent or empty."""
        return next((tuple(one for one in key.values if one != "") for key in self.asked if key.keyword == keyword), ())


def read_identifier(encoded: bytes, *, implicit: bool) -> Identifier:
    """The identifier in Little Endian bytes. Raises IdentifierFault for whatever is wrong with them."""
    try:
        dataset = read_dataset(BytesIO(encoded), implicit, True)
        declared = dataset.get_item(CHARACTER_SET)
        terms = tuple(one for one in character_sets(None if declared is None else declared.value) if one)
        asked = [_asked(dataset, tag, terms) for tag in sorted(dataset.keys()) if tag & 0xFFFF and tag >> 16 > 0x0007]
    except IdentifierFault:
        raise
    except RecursionError as fault:
        raise IdentifierFault("its sequences are nested too deeply to be read") from fault
    except Exception as fault:  # hostile bytes make pydicom raise nearly anything; all of it means the same here
        raise IdentifierFault(f"it is not a readable data set ({type(fault).__name__})") from fault
    level = next((str(one.values[0]) for one in asked if one.tag == LEVEL and one.values), "")
    return Identifier(level, terms, tuple(one for one in asked if one.tag not in (LEVEL, CHARACTER_SET)))


def _asked(dataset: Dataset, tag: int, terms: Sequence[str]) -> Asked:
    raw = dataset.get_item(tag)
    given = "" if raw is None or raw.VR is None else str(raw.VR)
    attribute = attribute_at(tag)
    if attribute is None:
        known = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
        vr = given or known
        return Asked(tag, vr if len(vr) == 2 else "UN", "", ("",) if not isinstance(raw, RawDataElement) else ())
    value = raw.value if isinstance(raw, RawDataElement) else None
    if not value:
        return Asked(tag, attribute.vr, attribute.keyword, ())
    if isinstance(raw, RawDataElement) and raw.length not in (len(value), UNDEFINED_LENGTH):
        raise IdentifierFault(f"it ends inside {attribute.keyword}", tag=tag)
    try:
        return Asked(tag, attribute.vr, attribute.keyword, _values(bytes(value), attribute.vr, terms))
    except (*UNDECODABLE, struct.error) as fault:
        raise IdentifierFault(f"{attribute.keyword} cannot be decoded", tag=tag) from fault


def _values(value: bytes, vr: str, terms: Sequence[str]) -> tuple[Any, ...]:
    form = BINARY.get("US" if vr == "US or SS" else vr)
    if form is not None:
        return tuple(one for (one,) in struct.iter_unpack(form, value))
    text = decoded_text(value, terms)[0] if vr in CHANGEABLE_VRS else value.decode("ascii")
    if REPLACEMENT in text:
        raise ValueError("bytes that its character set does not hold")
    several = [text] if vr in SINGLE_TEXTS or vr == "UR" else text.split("\\")
    return tuple(one.strip(" \0") for one in several)


def encode_identifier(answers: Iterable[tuple[int, str, Any]], *, implicit: bool, wished: Sequence[str] = ()) -> bytes:
    """(tag, VR, value) as Little Endian bytes, in the order of their tags; None, "" and an empty list have no length.

    Texts are in the character set that the request named, where that is one and holds them all; else in UTF-8, which
    is then declared. ASCII declares nothing.
    """
    elements = sorted(answers)
    changeable = [one for tag, vr, value in elements if vr in CHANGEABLE_VRS for one in _as_texts(value)]
    declared, codec = _character_set(changeable, wished)
    encoded = b""
    if declared:
        encoded = _element(CHARACTER_SET, "CS", declared.encode("ascii"), implicit=implicit)
    for tag, vr, value in elements:
        known = ("SS" if _is_negative(value) else "US") if vr == "US or SS" else vr
        encoded += _element(tag, known, _content(value, known, codec), implicit=implicit)
    return encoded


def _is_negative(value: Any) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(one, int) and one < 0 for one in several)


def _character_set(texts: Sequence[str], wished: Sequence[str]) -> tuple[str, str]:
    """The term to declare and Python's codec for it."""
    if all(one.isascii() for one in texts):
        return "", "ascii"
    if len(wished) == 1 and not wished[0].startswith("ISO 2022") and wished[0] in python_encoding:
        codec = python_encoding[wished[0]]
        try:
            for one in texts:
                one.encode(codec)
        except (UnicodeError, LookupError):
            return UTF_8, "utf-8"
        return wished[0], codec
    return UTF_8, "utf-8"


def _as_texts(value: Any) -> list[str]:
    several = value if isinstance(value, list | tuple) else [value]
    return ["" if one is None else str(one) for one in several]


def _content(value: Any, vr: str, codec: str) -> bytes:
    several = value if isinstance(value, list | tuple) else [] if value in (None, "") else [value]
    if not any(one not in (None, "") for one in several):
        return b""
    try:
        if vr in BINARY:
            return b"".join(struct.pack(BINARY[vr], one) for one in several)
    except (struct.error, TypeError):  # a header that holds what its VR does not
        return b""
    texts = [_decimal(one) if vr == "DS" else _as_texts(one)[0] for one in several]
    joined = "\\".join(texts).encode(codec if vr in CHANGEABLE_VRS else "ascii", "replace")
    return joined + (b"" if len(joined) % 2 == 0 else b"\0" if vr == "UI" else b" ")


def _decimal(value: Any) -> str:
    """A number in at most 16 characters (PS3.5 6.2)."""
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return text if len(text) <= 16 else f"{float(value):.9e}"


def _element(tag: int, vr: str, content: bytes, *, implicit: bool) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    content += b" " * (len(content) % 2)
    if implicit:
        return head + struct.pack("<L", len(content)) + content
    if len(content) > LONGEST_SHORT and vr not in LONG_VRS:
        vr = "UN"  # PS3.5 6.2.2: the other VRs have lengths of 16 bits
    if vr in LONG_VRS:
        return head + vr.encode("ascii") + b"\0\0" + struct.pack("<L", len(content)) + content
    return head + vr.encode("ascii") + struct.pack("<H", len(content)) + content
