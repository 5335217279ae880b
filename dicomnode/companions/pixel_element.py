"""The pixels of a large object, written behind its head part by part so that nothing is held twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from struct import pack

from dicomnode import iods
from dicomnode.errors import OutputFault

PIXELS = ("PixelData", "FloatPixelData")


@dataclass(frozen=True, slots=True)
class Pixels:
    """The last element of a file, in Explicit VR Little Endian.

    keyword: one of PIXELS; vr: of two letters, OB, OW or OF; length: bytes in all; parts: the bytes, taken one by one.
    """

    keyword: str
    vr: str
    length: int
    parts: Iterable[bytes]

    def behind(self, head: bytes) -> bytes:
        """The file of the head and this element, padded to even length."""
        (tag,) = iods.tags([self.keyword])
        padded = self.length + self.length % 2
        file = BytesIO()  # gives what was written to it without a copy
        file.write(head)
        file.write(pack("<HH2sHL", tag >> 16, tag & 0xFFFF, self.vr.encode(), 0, padded))
        written = sum(file.write(part) for part in self.parts)
        if written != self.length:
            raise OutputFault("G1", f"{self.keyword} has {written} bytes, not {self.length}")
        file.write(bytes(padded - written))
        return file.getvalue()
