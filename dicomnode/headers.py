"""The routing header of one instance: its plain attributes as JSON values, read without its pixels."""

from __future__ import annotations

import errno
import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset, read_preamble
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicomnode.attributes import Attribute, Kind, attribute_at
from dicomnode.character_sets import CHANGEABLE_VRS, character_sets, decoded_text
from dicomnode.errors import HeaderUnreadable
from dicomnode.header_walk import CHARACTER_SET, PIXELS, plain_value, value_of, walk

LONGEST_TEXT = 256
MOST_VALUES = 256
HEADS = (1 << 16, 1 << 20)
"""So much of a file is read for its header, then so much, then pydicom reads what it wants."""
READ_BYTES = 65536
"""A value longer than this is passed over unread: nothing that a rule asks for is."""
INFLATED_BYTES = 64 << 20
UNDECODED = "undecoded"
"""Key of the bytes, in hex by keyword, of texts whose decoding is not certain (K5); no rule can ask for it."""
SINGLE_TEXTS = ("LT", "ST", "UT")
UID_FORM = re.compile(r"[0-9.]{1,64}")
LARGEST_INTEGER = 2**63 - 1
UNDEFINED_LENGTH = 0xFFFFFFFF

UNDECODABLE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
    BytesLengthException,
    struct.error,
)
"""What pydicom raises for a value that is not what its VR says."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the node knows of an instance before anything is done with its pixels."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str
    """Who sent it, from the File Meta Information that the receiver wrote; empty when it does not say."""
    values: dict[str, Any]
    """Keyword -> text, number or list of them, and what could not be decoded, as `header_values` gives them."""


def read_header(path: Path) -> Header:
    """The header of a Part 10 file; raises HeaderUnreadable for whatever is wrong with the file's content.

    OSError rises when the file is not there or the disk cannot read it: that says nothing about its content.
    """
    with path.open("rb") as file:
        for length in HEADS:
            file.seek(0)
            head = file.read(length)
            if (header := quick_header(head)) is not None:
                return header
            if len(head) < length:
                break
        file.seek(0)
        return _pydicom_header(file)


def quick_header(head: bytes) -> Header | None:
    """The header of a file that begins with these bytes, as `read_header` gives it, or None: then it has to decide.

    Nearly every file of a scanner is plain, and its elements are mostly those of the slice before.
    """
    try:
        walked = walk(head)
        if walked is None:
            return None
        values: dict[str, Any] = {}
        undecoded: dict[str, str] = {}
        for attribute, element in walked.elements:
            context = b"" if attribute.tag == CHARACTER_SET else walked.character_set
            if attribute.vr == "US or SS":
                context += walked.pixel_representation
            value, doubtful = _decoded(element, walked.is_implicit, context)
            if value is not None:
                values[attribute.keyword] = value[:] if isinstance(value, list) else value
            if doubtful:
                undecoded[attribute.keyword] = doubtful
        values |= {UNDECODED: undecoded} if undecoded else {}
        header = _header(walked.transfer_syntax_uid, walked.source_ae_title, values)
        named = walked.media_storage_sop_instance_uid
        return header if named in ("", header.sop_instance_uid) else None
    except Exception:  # nothing that the short way stumbles over may decide: the long way does
        return None


@lru_cache(maxsize=8192)
def _decoded(element: bytes, is_implicit: bool, context: bytes) -> tuple[Any, str]:
    """The value of an element and its bytes in hex where they are not certain; context: the elements it hangs on."""
    attribute = attribute_at(int.from_bytes(element[:2], "little") << 16 | int.from_bytes(element[2:4], "little"))
    if attribute is None:
        return None, ""
    vr, content = value_of(element, is_implicit=is_implicit)
    if vr in ("", attribute.vr) and (plain := plain_value(attribute, content)) is not None:
        return plain, ""
    values = header_values(read_dataset(BytesIO(context + element), is_implicit, True, defer_size=READ_BYTES))
    return values.get(attribute.keyword), values.get(UNDECODED, {}).get(attribute.keyword, "")


def _header(transfer_syntax_uid: str, source_ae_title: str, values: dict[str, Any]) -> Header:
    return Header(
        sop_class_uid=_uid(values.get("SOPClassUID"), "SOPClassUID"),
        sop_instance_uid=_uid(values.get("SOPInstanceUID"), "SOPInstanceUID"),
        series_instance_uid=_uid(values.get("SeriesInstanceUID"), "SeriesInstanceUID"),
        study_instance_uid=_uid(values.get("StudyInstanceUID"), "StudyInstanceUID"),
        transfer_syntax_uid=transfer_syntax_uid,
        source_ae_title=source_ae_title,
        values=values,
    )


def pydicom_header(path: Path) -> Header:
    """As `read_header`, by pydicom alone: the way that decides."""
    with path.open("rb") as file:
        return _pydicom_header(file)


def _pydicom_header(file: BinaryIO) -> Header:
    try:
        meta = _read_meta(file)
        transfer_syntax = UID(_uid(meta.get("TransferSyntaxUID"), "TransferSyntaxUID"))
        values = header_values(_read_before_pixels(file, transfer_syntax))
        title = str(meta.get("SourceApplicationEntityTitle", "") or "").strip()
        header = _header(str(transfer_syntax), title, values)
        if meta.get("MediaStorageSOPInstanceUID", header.sop_instance_uid) != header.sop_instance_uid:
            raise HeaderUnreadable("its File Meta Information and its data set name different SOP instances")
        return header
    except (HeaderUnreadable, MemoryError):  # too little memory says nothing about the file
        raise
    except RecursionError as fault:
        raise HeaderUnreadable("its sequences are nested too deeply to be read") from fault
    except OSError as fault:
        if fault.errno not in (None, errno.EINVAL):  # EINVAL: a seek to where a lying length points
            raise
        raise HeaderUnreadable(f"it is not a readable DICOM file ({type(fault).__name__})") from fault
    except Exception as fault:  # hostile bytes make pydicom raise nearly anything; all of it means the same here
        raise HeaderUnreadable(f"it is not a readable DICOM file ({type(fault).__name__})") from fault


def _uid(value: object, keyword: str) -> str:
    if not isinstance(value, str) or not UID_FORM.fullmatch(value):
        raise HeaderUnreadable(f"its {keyword} is absent or not a UID")
    return str(value)


def _read_meta(file: BinaryIO) -> Dataset:
    """The File Meta Information (PS3.10 7.1); the file then stands at the first element of the data set."""
    read_preamble(file, False)
    begin = file.tell()
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 0x0002)
    length = meta.get("FileMetaInformationGroupLength")
    if isinstance(length, int):
        file.seek(begin + 12 + length)
    return meta


def _read_before_pixels(file: BinaryIO, transfer_syntax: UID) -> Dataset:
    """The data set up to its pixels; long values are passed over. Raises HeaderUnreadable when it ends too early."""
    source: BinaryIO = file
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        # PS3.5 A.5: raw deflate. A small file can inflate to gigabytes; a header needs only the beginning.
        source = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), INFLATED_BYTES))
    stopped = False

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        nonlocal stopped
        stopped = stopped or tag in PIXELS
        return tag in PIXELS

    dataset = read_dataset(
        source,
        transfer_syntax.is_implicit_VR,
        transfer_syntax.is_little_endian,
        stop_when=at_pixels,
        defer_size=READ_BYTES,
    )
    if not stopped and _cut_off(dataset, source):
        raise HeaderUnreadable("it ends in the middle of its header")
    return dataset


def _cut_off(dataset: Dataset, source: BinaryIO) -> bool:
    """Whether the last element says that it is longer than what there is, or bytes are left over behind it."""
    size = source.seek(0, SEEK_END)
    tags = list(dataset.keys())
    last = dataset.get_item(tags[-1], keep_deferred=True) if tags else None
    if not isinstance(last, RawDataElement) or last.length == UNDEFINED_LENGTH:
        return False  # a sequence or value of undefined length at the end: pydicom has met its delimiter
    return last.value_tell + last.length != size


def header_values(dataset: Dataset) -> dict[str, Any]:
    """Keyword -> value of every attribute that a rule may ask for, in the data set's first level.

    Text is stripped; integers and numbers are such; what the dictionary lets have several values is a list. Left
    out: empty values, sequences, binary and private elements, what cannot be decoded, numbers that are not finite,
    lists of more than 256 values. Text of more than 256 characters is cut. Where a text's decoding is not certain,
    its bytes stand in hex under UNDECODED: the text may hold U+FFFD.
    """
    values: dict[str, Any] = {}
    undecoded: dict[str, str] = {}
    declared = dataset.get_item("SpecificCharacterSet")
    terms = character_sets(None if declared is None else declared.value)
    for tag in dataset.keys():  # noqa: SIM118 - iterating over a Dataset decodes every element, also the hostile ones
        attribute = attribute_at(tag)
        if attribute is None:
            continue
        try:
            content, doubtful = _content(dataset, attribute, terms)
            value = _value(content, attribute)
        except UNDECODABLE:
            continue
        if value is not None:
            values[attribute.keyword] = value
        if doubtful:
            undecoded[attribute.keyword] = doubtful[:LONGEST_TEXT].hex()
    return values | ({UNDECODED: undecoded} if undecoded else {})


def _content(dataset: Dataset, attribute: Attribute, terms: Sequence[str]) -> tuple[Any, bytes]:
    """The value of an element, None when it was passed over; and its bytes where their decoding is not certain."""
    raw = dataset.get_item(attribute.tag, keep_deferred=True)
    if not isinstance(raw, RawDataElement):
        return dataset[attribute.tag].value, b""
    if raw.value is None and raw.length:
        return None, b""  # too long to be asked for
    if attribute.vr not in CHANGEABLE_VRS or raw.VR not in (None, "UN", *CHANGEABLE_VRS):
        return dataset[attribute.tag].value, b""
    text, is_certain = decoded_text(raw.value or b"", terms)
    content = text if attribute.vr in SINGLE_TEXTS else text.split("\\")  # PS3.5 6.2: a backslash is text in these
    return content, b"" if is_certain else raw.value or b""


def _value(value: Any, attribute: Attribute) -> Any:
    several = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    if several == [None] or several == [""] or not several or len(several) > MOST_VALUES:
        return None
    if attribute.kind is Kind.TEXT:
        texts = [_text(one) for one in several]
        if not attribute.is_list:
            return "\\".join(texts)[:LONGEST_TEXT] or None
        return texts if any(texts) else None
    numbers = [_number(one, attribute.kind) for one in several]
    if attribute.is_list:
        return numbers
    return numbers[0] if len(numbers) == 1 else None


def _text(value: object) -> str:
    """Stripped of padding, without what SQL and JSON cannot hold."""
    text = ("" if value is None else str(value)).encode("utf-8", "replace").decode("utf-8")
    return text.replace("\0", "").strip()[:LONGEST_TEXT]


def _number(value: Any, kind: Kind) -> int | float:
    if kind is Kind.INTEGER:
        whole = int(value)
        if abs(whole) > LARGEST_INTEGER or whole != value:
            raise ValueError("not an integer a rule can compare")
        return whole
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
