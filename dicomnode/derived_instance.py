"""One instance that the node has made, as a whole file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DerivedInstance:
    """One derived instance.

    content: the whole Part 10 file. clipped_voxels: how many voxels the kind of pixels asked for could not hold (T1).
    """

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    content: bytes
    clipped_voxels: int = 0
