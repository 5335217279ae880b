"""One instance that the node has made, as a whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Described:
    """What the gate has read of a file: its catalogue header, its `header_sha256`, how many bytes of pixels end it."""

    header: Mapping[str, Any]
    header_sha256: str
    pixel_bytes: int


@dataclass(frozen=True, slots=True)
class DerivedInstance:
    """One derived instance.

    content: the whole Part 10 file. clipped_voxels: how many voxels the kind of pixels asked for could not hold (T1).
    described: where the gate has read the file.
    """

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    content: bytes
    clipped_voxels: int = 0
    described: Described | None = field(default=None, compare=False, repr=False)
