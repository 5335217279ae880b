"""The elements before the pixels, found by walking over plain bytes; what is not plain in every way is left alone."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    HTJ2K,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from dicomnode.attributes import Attribute, Kind, attribute_at

PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
CHARACTER_SET, PIXEL_REPRESENTATION = 0x00080005, 0x00280103
LONGEST_VALUE = 4096
DEEPEST = 16
"""Items within items: far below what makes pydicom's recursion fail."""
_SYNTAXES = frozenset(
    map(
        str,
        (
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            *RLETransferSyntaxes,
            *JPEGTransferSyntaxes,
            *JPEGLSTransferSyntaxes,
            *JPEG2000TransferSyntaxes,
            *(HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K),
        ),
    )
)
"""Little endian and not deflated."""
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""VRs whose length has four bytes (PS3.5 7.1.2)."""
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_META_HEAD = b"\x02\x00\x00\x00UL\x04\x00"
_TRANSFER_SYNTAX, _INSTANCE, _SOURCE_AE = 0x00020010, 0x00020003, 0x00020016
_META_VRS = {_TRANSFER_SYNTAX: b"UI", _INSTANCE: b"UI", _SOURCE_AE: b"AE"}
_UID = re.compile(rb"[0-9.]{1,64}\0?")
_TITLE = re.compile(rb"[A-Za-z0-9 ._-]{1,16}")
_TEXT = re.compile(rb"[A-Za-z0-9 ^._/:+,()=-]{1,256}\0?")
"""Letters that every character set of PS3.3 C.12.1.1.2 has in the same place, and that separate nothing."""
_INTEGER = re.compile(rb" *[+-]?[0-9]{1,9} *")
_NUMBER = re.compile(rb" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})? *")
_LONGEST_NUMBER, _MOST_NUMBERS = 16, 64


@dataclass(frozen=True, slots=True)
class Walked:
    """The first level of a data set, up to its pixels."""

    transfer_syntax_uid: str
    media_storage_sop_instance_uid: str
    """From the File Meta Information; empty when it does not say."""
    source_ae_title: str
    is_implicit: bool
    elements: list[tuple[Attribute, bytes]]
    """What a rule may ask for and has a value: the attribute, and the whole element with its tag and length."""
    character_set: bytes
    """The element Specific Character Set; empty when it is absent or has no value."""
    pixel_representation: bytes
    """The element Pixel Representation; likewise."""


class _NotPlain(ValueError):
    """Something that pydicom has to judge."""


def walk(head: bytes) -> Walked | None:
    """What a Part 10 file that begins so holds before its pixels, or None: then pydicom decides what it is.

    None for bytes that end before the pixels, that are not exactly what their transfer syntax says, or whose
    encoding is a rare one. Nothing is decoded.
    """
    try:
        meta, begin = _meta(head)
        transfer_syntax_uid = _matching(_UID, meta.get(_TRANSFER_SYNTAX, b"")).rstrip("\0")
        if transfer_syntax_uid not in _SYNTAXES:
            return None
        is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        elements, character_set, pixel_representation = _first_level(head, begin, is_implicit)
        named, title = meta.get(_INSTANCE), meta.get(_SOURCE_AE)
        return Walked(
            transfer_syntax_uid,
            "" if named is None else _matching(_UID, named).rstrip("\0"),
            "" if not title else _matching(_TITLE, title).strip(),
            is_implicit,
            elements,
            character_set,
            pixel_representation,
        )
    except (_NotPlain, struct.error):
        return None


def plain_value(attribute: Attribute, value: bytes) -> Any:
    """The value of bytes that can mean only one thing, or None when they are not so plain."""
    found: Any = None
    if attribute.kind is Kind.TEXT:
        if _TEXT.fullmatch(value) and (text := value.rstrip(b"\0").decode("ascii").strip()):
            found = [text] if attribute.is_list else text
    elif attribute.vr == "DS":
        numbers = value.split(b"\\")
        if len(numbers) <= _MOST_NUMBERS and all(
            len(one) <= _LONGEST_NUMBER and _NUMBER.fullmatch(one) for one in numbers
        ):
            if attribute.is_list:
                found = [float(one) for one in numbers]
            elif len(numbers) == 1:
                found = float(value)
    elif attribute.vr == "IS":
        if _INTEGER.fullmatch(value):
            found = [int(value)] if attribute.is_list else int(value)
    elif attribute.vr == "US" and len(value) == 2:
        number = int.from_bytes(value, "little")
        found = [number] if attribute.is_list else number
    return found


def value_of(element: bytes, *, is_implicit: bool) -> tuple[str, bytes]:
    """VR, empty where the element does not say it, and value bytes of a whole element."""
    if is_implicit:
        return "", element[8:]
    vr = element[4:6]
    return vr.decode("ascii"), element[12 if vr in _LONG_VRS else 8 :]


def _matching(form: re.Pattern[bytes], value: bytes) -> str:
    if not form.fullmatch(value):
        raise _NotPlain
    return value.decode("ascii")


def _meta(head: bytes) -> tuple[dict[int, bytes], int]:
    """The values of the File Meta Information (PS3.10 7.1), and where the data set begins."""
    if head[128:132] != b"DICM" or head[132:140] != _META_HEAD:
        raise _NotPlain
    at = 144
    end = at + _LENGTH.unpack_from(head, 140)[0]
    meta: dict[int, bytes] = {}
    latest = 0x00020000
    while at < end:
        tag, vr, value_at, length = _explicit(head, at)
        if tag >> 16 != 2 or tag <= latest or vr == b"SQ" or length == _UNDEFINED or vr != _META_VRS.get(tag, vr):
            raise _NotPlain
        latest, at = tag, value_at + length
        meta[tag] = head[value_at:at]
    if at != end or end + 8 > len(head) or head[end : end + 2] == b"\x02\x00":
        raise _NotPlain
    return meta, end


def _explicit(head: bytes, at: int) -> tuple[int, bytes, int, int]:
    """Tag, VR, where the value begins and its length."""
    group, element, vr, length = _EXPLICIT.unpack_from(head, at)
    if vr in _SHORT_VRS:
        return group << 16 | element, vr, at + 8, length
    if vr not in _LONG_VRS:
        raise _NotPlain
    return group << 16 | element, vr, at + 12, _LENGTH.unpack_from(head, at + 8)[0]


def _implicit(head: bytes, at: int) -> tuple[int, bytes, int, int]:
    """As `_explicit`; of the VR only whether it is a sequence, and that only where the length is undefined."""
    group, element, length = _IMPLICIT.unpack_from(head, at)
    tag = group << 16 | element
    return tag, b"SQ" if length == _UNDEFINED and _is_sequence(head, tag, at + 8) else b"", at + 8, length


def _is_sequence(head: bytes, tag: int, value_at: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return head[value_at : value_at + 4] == b"\xfe\xff\x00\xe0"


def _first_level(head: bytes, at: int, is_implicit: bool) -> tuple[list[tuple[Attribute, bytes]], bytes, bytes]:
    """The elements, the one of Specific Character Set and the one of Pixel Representation."""
    read = _implicit if is_implicit else _explicit
    if is_implicit and head[at + 4 : at + 6].isalpha():  # it looks as if VRs were there all the same
        raise _NotPlain
    elements: list[tuple[Attribute, bytes]] = []
    particular = {CHARACTER_SET: b"", PIXEL_REPRESENTATION: b""}
    latest = -1
    while True:
        tag, vr, value_at, length = read(head, at)
        if tag <= latest or tag >> 16 == 0xFFFE or value_at > len(head):
            raise _NotPlain
        if tag in PIXELS:
            return elements, particular[CHARACTER_SET], particular[PIXEL_REPRESENTATION]
        latest, attribute = tag, attribute_at(tag)
        if length == _UNDEFINED:
            if vr != b"SQ" or attribute is not None:
                raise _NotPlain
            character_set = value_of(particular[CHARACTER_SET], is_implicit=is_implicit)[1]
            at = _past_items(head, value_at, read, character_set, 1)
            continue
        end = value_at + length
        if end > len(head):
            raise _NotPlain
        if attribute is not None and (vr == b"SQ" or (tag == PIXEL_REPRESENTATION and not length)):
            raise _NotPlain
        if attribute is not None and length:
            if length > LONGEST_VALUE:
                raise _NotPlain
            element = head[at:end]
            elements.append((attribute, element))
            if tag in particular:
                particular[tag] = element
        at = end


def _past_items(head: bytes, at: int, read: Any, character_set: bytes, depth: int) -> int:
    """Where a sequence of undefined length ends; pydicom reads into such, so what is in it must be plain as well."""
    if depth > DEEPEST:
        raise _NotPlain
    while True:
        group, element, length = _IMPLICIT.unpack_from(head, at)
        tag = group << 16 | element
        at += 8
        if tag == _SEQUENCE_END and not length:
            return at
        if tag != _ITEM:
            raise _NotPlain
        at = _past_elements(head, at, read, character_set, depth, None if length == _UNDEFINED else at + length)


def _past_elements(head: bytes, at: int, read: Any, character_set: bytes, depth: int, end: int | None) -> int:
    """Where an item ends that ends there, or with its delimiter."""
    while at != end:
        if end is None and head[at : at + 8] == b"\xfe\xff\x0d\xe0\0\0\0\0":
            return at + 8
        tag, vr, value_at, length = read(head, at)
        if tag >> 16 == 0xFFFE or (end is not None and at > end):
            raise _NotPlain
        if length == _UNDEFINED:
            if vr != b"SQ" or tag == CHARACTER_SET:
                raise _NotPlain
            at = _past_items(head, value_at, read, character_set, depth + 1)
            continue
        at = value_at + length
        if tag == CHARACTER_SET and (vr not in (b"CS", b"") or head[value_at:at] != character_set):
            raise _NotPlain
    return at
