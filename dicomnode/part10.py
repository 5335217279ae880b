"""The File Meta Information of a Part 10 file (PS3.10 7.1): what it names, and where its data set begins."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError

PREAMBLE = 128
FIRST_READ, LONGEST_META = 4096, 1 << 20
PIECE_BYTES = 4 << 20
_ELEMENT, _LONG = struct.Struct("<HH2sH"), struct.Struct("<I")
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs whose length is 16 bits (PS3.5 7.1.2)."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_GROUP_LENGTH, _SOP_CLASS_UID, _SOP_INSTANCE_UID, _TRANSFER_SYNTAX_UID = 0x0000, 0x0002, 0x0003, 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What a file says of its data set, and at which byte that begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_at: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """An encoded data set: what it is, its bytes' number, and the bytes, at least one piece of them."""

    meta: FileMeta
    length: int
    pieces: Iterator[memoryview]


@contextmanager
def open_data_set(path: Path) -> Iterator[DataSet]:
    """The data set of a file as it is stored; it is read while it is asked for, a few MiB at a time.

    Reading was as fast as mapping in trials, and a disk that fails is an OSError then and not the process's end.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(min(size, PIECE_BYTES))
        meta = meta_of(first)

        def pieces() -> Iterator[memoryview]:
            yield memoryview(first)[meta.data_set_at :]
            while more := file.read(PIECE_BYTES):
                yield memoryview(more)

        yield DataSet(meta, size - meta.data_set_at, pieces())


def data_set_of(content: bytes) -> DataSet:
    """The data set of a Part 10 file that is in memory."""
    meta = meta_of(content)
    view = memoryview(content)[meta.data_set_at :]
    return DataSet(meta, len(view), iter((view,)))


class ReadAhead:
    """Reads a file before its turn: while the peer is at work on the one before it."""

    def __init__(self) -> None:
        self._held: tuple[Path, DataSet] | None = None

    def read(self, path: Path) -> None:
        """Held until it is opened, where it is one piece; a fault shows itself when its turn has come."""
        self._held = None
        with contextlib.suppress(OSError, InvalidDicomError):
            if path.stat().st_size <= PIECE_BYTES:
                self._held = path, data_set_of(path.read_bytes())

    @contextmanager
    def open(self, path: Path) -> Iterator[DataSet]:
        """What is held of it, once; else as it is read now."""
        held, self._held = self._held, None
        if held is not None and held[0] == path:
            yield held[1]
        else:
            with open_data_set(path) as data_set:
                yield data_set


def read_meta(path: Path) -> FileMeta:
    """The file's. Raises InvalidDicomError when it is no Part 10 file, OSError when it cannot be read."""
    with path.open("rb", buffering=0) as file:
        head = file.read(FIRST_READ)
        try:
            return meta_of(head)
        except InvalidDicomError:
            if len(head) < FIRST_READ:
                raise
            return meta_of(head + file.read(LONGEST_META))  # long private information


def meta_of(content: bytes) -> FileMeta:
    """That of a file which begins so. Raises InvalidDicomError when it is none, or ends before its data set begins."""
    if content[PREAMBLE : PREAMBLE + 4] != b"DICM":
        raise InvalidDicomError("no Part 10 file: it does not begin with a preamble and DICM")
    values: dict[int, bytes] = {}
    at, ends_at = PREAMBLE + 4, len(content)
    while at < ends_at:
        number, begin, end = _element(content, at)
        if number is None:
            break
        if end > len(content):
            raise InvalidDicomError("a Part 10 file that ends inside its File Meta Information")
        values[number] = content[begin:end]
        if number == _GROUP_LENGTH and end - begin == _LONG.size:
            ends_at = end + _LONG.unpack_from(content, begin)[0]
        at = end
    syntax = _uid(values, _TRANSFER_SYNTAX_UID)
    if _GROUP_LENGTH not in values:
        if at == len(content):
            raise InvalidDicomError("a Part 10 file that ends inside its File Meta Information")
    elif at != ends_at or (content[at : at + 2] == b"\x02\0" and syntax != _DEFLATED):
        raise InvalidDicomError("a Part 10 file whose File Meta Information is not as long as it says")
    return FileMeta(_uid(values, _SOP_CLASS_UID), _uid(values, _SOP_INSTANCE_UID), syntax, at)


def _element(content: bytes, at: int) -> tuple[int | None, int, int]:
    """Number in group 0002, begin and end of the value of the element there; no number: another group begins."""
    if len(content) - at < _ELEMENT.size:
        raise InvalidDicomError("a Part 10 file that ends inside its File Meta Information")
    group, number, vr, length = _ELEMENT.unpack_from(content, at)
    if group != 0x0002:
        return None, at, at
    begin = at + _ELEMENT.size
    if vr not in _SHORT_VRS:
        if len(content) - begin < _LONG.size:
            raise InvalidDicomError("a Part 10 file that ends inside its File Meta Information")
        (length,) = _LONG.unpack_from(content, begin)
        begin += _LONG.size
    return number, begin, begin + length


def _uid(values: dict[int, bytes], number: int) -> str:
    try:
        uid = values.get(number, b"").rstrip(b"\0 ").decode("ascii")
    except UnicodeDecodeError:
        uid = ""
    if not uid:
        raise InvalidDicomError(f"a Part 10 file without a UID in (0002,{number:04x})")
    return uid
