"""What a compressed frame says of its own size, to be held against the header that came with it."""

from __future__ import annotations

from struct import unpack_from

J2K_START, J2K_SIZE = b"\xff\x4f", b"\xff\x51"
JPEG_START = b"\xff\xd8"
JPEG_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Start of frame of every JPEG process, and of JPEG-LS (0xF7); the three left out are tables and a reserved code."""


def size_of(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K stream; None for what does not say, such as RLE."""
    if stream.startswith(J2K_START + J2K_SIZE):
        width, height, left, top = unpack_from(">4L", stream, 8)
        return height - top, width - left
    return _jpeg_size(stream) if stream.startswith(JPEG_START) else None


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, (length,) = stream[at + 1], unpack_from(">H", stream, at + 2)
        if marker == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        if marker in JPEG_FRAME_HEADERS:
            rows, columns = unpack_from(">HH", stream, at + 5)
            return rows, columns
        at += 2 + length
    return None
