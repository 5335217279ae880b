"""What a compressed frame says of its own size, depth and sign, to be held against the header that came with it."""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

J2K_START = b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
JPEG_START = b"\xff\xd8"
JPEG_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Start of frame of every JPEG process, and of JPEG-LS (0xF7); the three left out are tables and a reserved code."""
J2K_SIGNED = 0x80


@dataclass(frozen=True, slots=True)
class CodeStream:
    """bits: of a sample. is_signed: None where the stream has no word for it, as JPEG and JPEG-LS have none."""

    rows: int
    columns: int
    bits: int
    is_signed: bool | None = None


def code_stream_of(stream: bytes) -> CodeStream | None:
    """What a JPEG, JPEG-LS, JPEG 2000 or HTJ2K stream says; None for what does not say, such as RLE."""
    if stream.startswith(JP2_SIGNATURE):  # a JP2 file in the place of its stream, which some senders write
        stream = stream[max(stream.find(J2K_START), 0) :]
    if stream.startswith(J2K_START) and len(stream) > 42:
        width, height, left, top = unpack_from(">4L", stream, 8)
        depth = stream[42]  # of the first component, PS3.5 and ISO 15444-1 A.5.1
        return CodeStream(height - top, width - left, (depth & ~J2K_SIGNED) + 1, bool(depth & J2K_SIGNED))
    return _jpeg(stream) if stream.startswith(JPEG_START) else None


def _jpeg(stream: bytes) -> CodeStream | None:
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, (length,) = stream[at + 1], unpack_from(">H", stream, at + 2)
        if marker == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        if marker in JPEG_FRAME_HEADERS:
            bits, rows, columns = unpack_from(">BHH", stream, at + 4)
            return CodeStream(rows, columns, bits)
        at += 2 + length
    return None


def fault_of(stream: CodeStream, *, bits_stored: int, is_signed: bool) -> str:
    """Why the stream's samples are not those of a header with 16 bits allocated, in words; empty when they are.

    Encoders write the bits stored (pydicom) or all that are allocated (DCMTK, GDCM); both give the values exactly. Of
    unsigned samples any depth does that stands for words of 16 bits: nothing has to be said of a sign bit's place.
    """
    if stream.is_signed is not None and stream.is_signed != is_signed:
        signs = {True: "signed", False: "unsigned"}
        return f"is {signs[is_signed]} by its header and {signs[stream.is_signed]} by its compressed pixels"
    is_exact = stream.bits in (bits_stored, 16)
    if not is_exact and (is_signed or not 8 < stream.bits < 16):
        return f"holds {bits_stored} bits by its header and {stream.bits} by its compressed pixels"
    return ""
