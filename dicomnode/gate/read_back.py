"""Finished files of one series read back as a receiver would; what has the bytes of the file before is decoded once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from struct import unpack_from
from typing import Any

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicomnode.attributes import attribute_at
from dicomnode.fingerprints import header_piece, needless_tags, sha256_of_pieces
from dicomnode.headers import UNDECODED, header_values
from dicomnode.verbatim import UNDEFINED_LENGTH, Element, elements_at, verbatim_elements

PREAMBLE, FILE_META = 132, 0x0002
CHARACTER_SET, PIXEL_DATA = 0x00080005, 0x7FE00010
EVERY = -1
"""Stands for all tags where a rule asks which there are."""
Encoding = str | MutableSequence[str]
LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)


class Watched(Dataset):
    """A data set that notes which of its elements it is asked for."""

    _asked: set[int] | None = None
    spans: Mapping[int, bytes] | None = None
    """The bytes of each element, head included; None where they are not known."""
    _texts: dict[str, tuple[str, ...]] | None = None

    def texts(self, keyword: str) -> tuple[str, ...]:
        """All values of an attribute as texts, as `texts_of` gives them of its value."""
        if self._asked is not None and (tag := tag_for_keyword(keyword)) is not None:
            self._asked.add(tag)
        if self._texts is None:
            self._texts = {}
        known = self._texts.get(keyword)
        if known is None:
            known = self._texts[keyword] = texts_of(self.get(keyword))
        return known

    def take_texts(self, before: Watched, new: Collection[int]) -> None:
        """What was read of another file's elements is not read again, but for the new ones."""
        known = before._texts or {}
        self._texts = {keyword: texts for keyword, texts in known.items() if tag_for_keyword(keyword) not in new}

    @contextmanager
    def noting(self, asked: set[int]) -> Iterator[None]:
        """Within, what is asked for is noted there."""
        before, self._asked = self._asked, asked
        try:
            yield
        finally:
            self._asked = before

    def _note(self, key: Any) -> None:
        if self._asked is not None:
            self._asked.add(EVERY if isinstance(key, slice) else int(Tag(key)))

    def __getattr__(self, name: str) -> Any:
        if self._asked is not None and (tag := tag_for_keyword(name)) is not None:
            self._asked.add(tag)
        return super().__getattr__(name)

    def __getitem__(self, key: Any) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, name: Any) -> bool:
        self._note(name)
        return super().__contains__(name)

    def get_item(self, key: Any, *, keep_deferred: bool = False) -> Any:
        """As pydicom gives it, and noted."""
        self._note(key)
        return super().get_item(key, keep_deferred=keep_deferred)

    def keys(self) -> AbstractSet[BaseTag]:
        """As pydicom gives them; asking for them is asking for all."""
        self._note(slice(None))
        return super().keys()

    def __iter__(self) -> Iterator[DataElement]:
        self._note(slice(None))
        return super().__iter__()

    def __len__(self) -> int:
        self._note(slice(None))
        return super().__len__()


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


def texts_of(value: Any) -> tuple[str, ...]:
    """All values of an attribute's value as texts; none when it is absent or empty."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return (str(value).strip(),)
    return tuple(str(single).strip() for single in value)


def spans_of(content: bytes) -> dict[int, bytes] | None:
    """The bytes of each element of a file, head included; of the pixels only the head, and they are the last.

    None where the file is not plainly laid out: every length said, tags rising, nothing private, nothing of unknown VR.
    """
    if content[PREAMBLE - 4 : PREAMBLE] != b"DICM":
        return None
    spans: dict[int, bytes] = {}
    at, last, size = PREAMBLE, -1, len(content)
    while at + 8 <= size:
        group, element, vr, length = unpack_from("<HH2sH", content, at)
        tag, value_at = group << 16 | element, at + 8
        if vr in LONG_VRS:
            if value_at + 4 > size:
                return None
            (length,) = unpack_from("<L", content, value_at)
            value_at += 4
        end = value_at + length
        if tag <= last or group & 1 or vr == b"UN" or length == UNDEFINED_LENGTH or end > size:
            return None
        spans[tag] = content[at : value_at if tag == PIXEL_DATA else end]
        at, last = end, tag
    return spans if at == size and last == PIXEL_DATA else None


def _read_whole(content: bytes, spans: Mapping[int, bytes] | None) -> ReadBack:
    dataset = dcmread(BytesIO(content))
    elements = verbatim_elements(dataset)  # before a text is read (K1)
    header = header_values(dataset)
    watched = _watched(dataset._dict, dataset.file_meta, dataset.original_character_set)
    watched.spans = spans
    return ReadBack(watched, elements, header, {tag: header_piece(tag, one) for tag, one in elements.items()})


def _read_beside(content: bytes, spans: Mapping[int, bytes], before: ReadBack) -> ReadBack | None:
    """The file, by what was read of the one before; None where it has to be read whole."""
    known = before.dataset.spans or {}
    if spans.get(CHARACTER_SET) != known.get(CHARACTER_SET):
        return None  # the same bytes would be other texts
    new = [tag for tag, span in spans.items() if known.get(tag) != span and tag != PIXEL_DATA]
    encoding = before.dataset.original_character_set
    meta = _read([tag for tag in new if tag >> 16 == FILE_META], spans, encoding)
    # the character set is read each time: it tells the catalogue's reader what the texts are
    wanted = {tag for tag in new if tag >> 16 != FILE_META} | {CHARACTER_SET}
    data = _read([tag for tag in spans if tag in wanted], spans, encoding)
    if meta is None or data is None:
        return None
    taken = elements_at(data, list(data._dict))
    pixels = RawDataElement(
        BaseTag(PIXEL_DATA),
        spans[PIXEL_DATA][4:6].decode("ascii"),
        unpack_from("<L", spans[PIXEL_DATA], 8)[0],
        content[len(content) - unpack_from("<L", spans[PIXEL_DATA], 8)[0] :],
        0,
        False,
        True,
    )
    dataset = _watched(
        _together(spans, before.dataset._dict, {**data._dict, pixels.tag: pixels}),
        FileMetaDataset(_together(spans, before.dataset.file_meta._dict, meta._dict)),
        encoding,
    )
    dataset.spans = spans
    dataset.take_texts(before.dataset, {*new, *(tag for tag in known if tag not in spans), PIXEL_DATA})
    return ReadBack(
        dataset,
        _together(spans, before.elements, taken),
        _header(spans, before.header, new, header_values(data)),
        _together(spans, before.pieces, {tag: header_piece(tag, one) for tag, one in taken.items()}),
    )


def _read(tags: Sequence[int], spans: Mapping[int, bytes], encoding: Encoding) -> Dataset | None:
    """These elements alone; None where pydicom finds others in their bytes."""
    found = read_dataset(BytesIO(b"".join(spans[tag] for tag in tags)), False, True, parent_encoding=encoding)
    return found if list(map(int, found.keys())) == list(tags) else None


def _together(spans: Mapping[int, bytes], known: Mapping[Any, Any], new: Mapping[Any, Any]) -> dict[Any, Any]:
    """Of each element of the file what is new, else what is known; nothing of those that it does not have."""
    return {tag: one for tag, one in (dict(known) | dict(new)).items() if tag in spans}


def _watched(whole: Any, file_meta: FileMetaDataset, encoding: Encoding) -> Watched:
    dataset = Watched(whole, parent_encoding=encoding)
    dataset.set_original_encoding(False, True, encoding)
    dataset.file_meta = file_meta
    return dataset


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
            values[keyword] = source[keyword]
        if keyword in source.get(UNDECODED, {}):
            undecoded[keyword] = source[UNDECODED][keyword]
    return values | ({UNDECODED: undecoded} if undecoded else {})
