"""The four UIDs of a data set, found in its first bytes without decoding it."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicomnode.errors import DatasetUnfit

NEEDED: Mapping[int, str] = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}
_LAST = max(NEEDED)
PEEK_BYTES = 1 << 20
"""So much is inflated at most of a deflated data set."""
UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""VRs whose length has four bytes (PS3.5 7.1.2)."""
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def first_uids(first: memoryview, transfer_syntax_uid: str) -> dict[str, str] | None:
    """The UIDs when these first bytes hold all four beyond doubt, else None: then the whole data set decides.

    No sequence is decoded and nothing recurses. Bytes that are not exactly what their transfer syntax says are left
    to `peek_uids`, which is more patient.
    """
    syntax = UID(transfer_syntax_uid)
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            first = memoryview(_inflated(bytes(first)))
        values = _walk(first, order="<" if syntax.is_little_endian else ">", implicit=syntax.is_implicit_VR)
        uids = {keyword: values[tag].rstrip(b"\0 ").decode("ascii") for tag, keyword in NEEDED.items()}
    except (KeyError, ValueError, struct.error, zlib.error):
        return None
    return uids if all(_is_uid(uid) for uid in uids.values()) else None


def _walk(data: memoryview, *, order: str, implicit: bool) -> dict[int, bytes]:
    """The values of the needed tags; an error of struct or a ValueError when the bytes end or are out of order."""
    tag_of, long_of, short_of = struct.Struct(order + "HH"), struct.Struct(order + "I"), struct.Struct(order + "H")
    found: dict[int, bytes] = {}
    at, depth, latest = 0, 0, -1
    while True:
        group, element = tag_of.unpack_from(data, at)
        tag = group << 16 | element
        delimits = group == 0xFFFE
        if implicit or delimits:
            length, vr = long_of.unpack_from(data, at + 4)[0], b"SQ"
            at += 8
        else:
            vr = bytes(data[at + 4 : at + 6])
            if vr in _LONG_VRS:
                length = long_of.unpack_from(data, at + 8)[0]
                at += 12
            elif vr in _SHORT_VRS:
                length = short_of.unpack_from(data, at + 6)[0]
                at += 8
            else:
                raise ValueError("not an explicit VR")
        if depth == 0:
            if delimits or tag <= latest:
                raise ValueError("tags are not in ascending order")
            if tag > _LAST:
                return found
            latest = tag
            if tag in NEEDED and length != _UNDEFINED:
                if at + length > len(data):
                    raise ValueError("the value ends later")
                found[tag] = bytes(data[at : at + length])
        if delimits and tag != _ITEM:
            if length or tag not in (_ITEM_END, _SEQUENCE_END):
                raise ValueError("not a delimiter")
            depth -= 1
        elif length != _UNDEFINED:
            at += length
        elif vr == b"UN":
            raise ValueError("a sequence in another encoding (PS3.5 6.2.2)")
        else:
            depth += 1


def peek_uids(encoded: BinaryIO, transfer_syntax_uid: str) -> dict[str, str]:
    """The four UIDs of the data set that begins here, read with patience; raises DatasetUnfit without them."""
    syntax: Any = UID(transfer_syntax_uid)
    source = encoded
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            source = io.BytesIO(_inflated(encoded.read(2 * PEEK_BYTES)))
        head = read_dataset(
            source,
            is_implicit_VR=syntax.is_implicit_VR,
            is_little_endian=syntax.is_little_endian,
            stop_when=lambda tag, vr, length: tag > _LAST,
            specific_tags=list(NEEDED),
        )
        uids = {keyword: _uid(head, keyword) for keyword in NEEDED.values()}
    except DatasetUnfit:
        raise
    except (Exception, RecursionError) as fault:  # whatever hostile bytes make pydicom raise
        raise DatasetUnfit(f"the data set cannot be read: {type(fault).__name__}") from fault
    return uids


def _inflated(deflated: bytes) -> bytes:
    """PS3.5 A.5: raw deflate; only so much is inflated as the first groups can need."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, PEEK_BYTES)


def _uid(head: Dataset, keyword: str) -> str:
    value = str(head.get(keyword, ""))
    if not _is_uid(value):
        raise DatasetUnfit(f"{keyword} is absent or not a UID; the sender must be corrected")
    return value


def _is_uid(value: str) -> bool:
    return len(value) <= 64 and UID_FORM.fullmatch(value) is not None


def shown_uid(value: str) -> str:
    """A peer's word for log and audit: what is no UID may be anything, a name too, and is not repeated."""
    return value if _is_uid(value) else "(no UID)"
