"""Finished files of one series read back as a receiver would; what has the bytes of the file before is decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from struct import unpack_from
from typing import Any

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from dicomnode.attributes import attribute_at
from dicomnode.fingerprints import header_piece, needless_tags, sha256_of_pieces
from dicomnode.gate.watched import Encoding, Watched
from dicomnode.headers import UNDECODED, header_values
from dicomnode.verbatim import UNDEFINED_LENGTH, Element, elements_at, verbatim_elements

PREAMBLE, FILE_META = 132, 0x0002
TRANSFER_SYNTAX, CHARACTER_SET, PIXEL_REPRESENTATION, PIXEL_DATA = 0x00020010, 0x00080005, 0x00280103, 0x7FE00010
CONTEXT = (CHARACTER_SET, PIXEL_REPRESENTATION)
"""What other elements are read by: with another one, the same bytes say something else."""
PLAIN_SYNTAX = ExplicitVRLittleEndian.encode() + b"\0"
LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
PLAIN_VRS = frozenset(str(vr).encode() for vr in VR if len(vr) == 2) - {b"UN"}


@dataclass(frozen=True, slots=True, eq=False)
class ReadBack:
    """One file. dataset: with its pixels. elements: taken before a text of `dataset` was read (K1).

    header: as the catalogue keeps it. pieces: what `fingerprints` makes the header's hash of.
    """

    dataset: Watched
    elements: Mapping[int, Element]
    header: Mapping[str, Any]
    pieces: Mapping[int, bytes]

    def header_sha256(self) -> str:
        """As `fingerprints.header_sha256` gives it of the file."""
        needless = needless_tags(self.dataset)
        return sha256_of_pieces({tag: piece for tag, piece in self.pieces.items() if tag not in needless})


class Reader:
    """Reads the files of one series, one after another.

    The first is read whole. Of each further one the elements that have other bytes than those of the file before are
    read, and of the others what was read then is taken. A file that is not laid out as plainly as the node lays them
    out is read whole, however many came before.
    """

    def __init__(self) -> None:
        self._before: ReadBack | None = None

    def read(self, content: bytes) -> ReadBack:
        """The file's data set; raises what pydicom raises for what is no DICOM file."""
        spans = spans_of(content)
        read = None
        if spans is not None and self._before is not None:
            read = _read_beside(content, spans, self._before)
        if read is None:
            read = _read_whole(content, spans)
        self._before = None if spans is None else read
        return read


def spans_of(content: bytes) -> dict[int, bytes] | None:
    """The bytes of each element of a file, head included; of the pixels only the head, and they are the last.

    None where the file is not plainly laid out: in Explicit VR Little Endian, every length said, tags rising, nothing
    private, nothing of unknown VR.
    """
    if content[PREAMBLE - 4 : PREAMBLE] != b"DICM":
        return None
    spans: dict[int, bytes] = {}
    at, last, length, size = PREAMBLE, -1, 0, len(content)
    while at + 8 <= size:
        group, element, vr, length = unpack_from("<HH2sH", content, at)
        tag, head = group << 16 | element, 8
        if vr in LONG_VRS:
            if at + 12 > size:
                return None
            (length,) = unpack_from("<L", content, at + 8)
            head = 12
        end = at + head + length
        is_placed = tag > last and not group & 1 and (group == FILE_META or group >= 8)
        if not is_placed or vr not in PLAIN_VRS or length == UNDEFINED_LENGTH or end > size:
            return None
        spans[tag] = content[at : at + head if tag == PIXEL_DATA else end]
        at, last = end, tag
    has_pixels = at == size and last == PIXEL_DATA and spans[last][4:6] in (b"OB", b"OW") and length > 0
    return spans if has_pixels and spans.get(TRANSFER_SYNTAX, b"")[8:] == PLAIN_SYNTAX else None


def _read_whole(content: bytes, spans: Mapping[int, bytes] | None) -> ReadBack:
    dataset = dcmread(BytesIO(content))
    elements = verbatim_elements(dataset)  # before a text is read (K1)
    header = header_values(dataset)
    watched = Watched(
        dict(dataset._dict),
        dict(dataset.file_meta._dict),
        dataset.original_character_set,
        form=dataset.original_encoding,
    )
    watched.spans = spans
    return ReadBack(watched, elements, header, {tag: header_piece(tag, one) for tag, one in elements.items()})


def _read_beside(content: bytes, spans: Mapping[int, bytes], before: ReadBack) -> ReadBack | None:
    """The file, by what was read of the one before; None where it has to be read whole."""
    known = before.dataset.spans or {}
    if any(spans.get(tag) != known.get(tag) for tag in CONTEXT):
        return None
    new = [tag for tag, span in spans.items() if known.get(tag) != span and tag != PIXEL_DATA]
    encoding = before.dataset.original_character_set
    meta = _read([tag for tag in new if tag >> 16 == FILE_META], spans, encoding)
    # what others are read by is read each time
    wanted = {tag for tag in new if tag >> 16 != FILE_META} | {*CONTEXT}
    data = _read([tag for tag in spans if tag in wanted], spans, encoding)
    if meta is None or data is None:
        return None
    taken = elements_at(data, list(data._dict))
    header = header_values(data)
    held, held_meta = before.dataset.held
    dataset = Watched(
        _together(spans, held, {**data._dict, BaseTag(PIXEL_DATA): _pixels(content, spans)}),
        _together(spans, held_meta, meta._dict),
        encoding,
        form=(False, True),
    )
    dataset.spans = spans
    dataset.take_texts(before.dataset, {*new, *(tag for tag in known if tag not in spans), PIXEL_DATA})
    return ReadBack(
        dataset,
        _together(spans, before.elements, taken),
        _header(spans, before.header, new, header),
        _together(spans, before.pieces, {tag: header_piece(tag, one) for tag, one in taken.items()}),
    )


def _read(tags: Sequence[int], spans: Mapping[int, bytes], encoding: Encoding) -> Dataset | None:
    """These elements alone; None where pydicom finds others in their bytes."""
    found = read_dataset(BytesIO(b"".join(spans[tag] for tag in tags)), False, True, parent_encoding=encoding)
    return found if list(map(int, found.keys())) == list(tags) else None


def _pixels(content: bytes, spans: Mapping[int, bytes]) -> RawDataElement:
    head = spans[PIXEL_DATA]
    (length,) = unpack_from("<L", head, 8)
    return RawDataElement(
        BaseTag(PIXEL_DATA), head[4:6].decode("ascii"), length, content[len(content) - length :], 0, False, True
    )


def _together(spans: Mapping[int, bytes], known: Mapping[Any, Any], new: Mapping[Any, Any]) -> dict[Any, Any]:
    """Of each element of the file what is new, else what is known, in the file's order; nothing that it has not."""
    return {tag: one for tag, one in sorted({**known, **new}.items(), key=itemgetter(0)) if tag in spans}


def _header(
    spans: Mapping[int, bytes], known: Mapping[str, Any], new: Sequence[int], said: Mapping[str, Any]
) -> dict[str, Any]:
    """The catalogue's header: what is said anew, and what was said of the elements that have the same bytes."""
    named = {tag: attribute.keyword for tag in spans if (attribute := attribute_at(tag)) is not None}
    anew = {named[tag] for tag in new if tag in named}
    values, undecoded = {}, {}
    for keyword in named.values():
        source = said if keyword in anew else known
        if keyword in source:
            said_of = source[keyword]
            values[keyword] = said_of[:] if isinstance(said_of, list) else said_of
        if keyword in source.get(UNDECODED, {}):
            undecoded[keyword] = source[UNDECODED][keyword]
    return values | ({UNDECODED: undecoded} if undecoded else {})
