"""Images by their UIDs among the files that are verified: a source's frame, a derived image, where either lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicomnode.errors import SeriesUnusable
from dicomnode.gate.rules import Finding, number, numbers, text
from dicomnode.multiframe.enhanced import source_images
from dicomnode.source_image import UNREADABLE, SourceImage
from dicomnode.verify.files import FoundFiles
from dicomnode.verify.tally import Tally

KEPT_FILES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies and how fine it is; None and empty where it does not say."""

    frame_of_reference_uid: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[float | None, float | None]

    def misses(self, other: Place) -> str:
        """What is not the same of the other, in a word; empty where both lie at one place."""
        if self.frame_of_reference_uid != other.frame_of_reference_uid:
            return "frame of reference"
        if self.size != other.size:
            return "matrix"
        for name, one, two, near in (
            ("position", self.position, other.position, 0.01),
            ("orientation", self.orientation, other.orientation, 0.02),
            ("spacing", self.spacing, other.spacing, 1e-3),
        ):
            if not one or len(one) != len(two) or not np.allclose(one, two, rtol=1e-4 * (name == "spacing"), atol=near):
                return name
        return ""


@dataclass(slots=True)
class Lookup:
    """The images among the found files; what cannot be read is a finding, once."""

    found: FoundFiles
    tally: Tally
    missing: dict[str, None] = field(default_factory=dict)
    _sources: dict[Path, list[SourceImage]] = field(default_factory=dict)

    def source(self, named: str) -> SourceImage | None:
        """The source image of that UID and frame, "UID frame" or "UID"; None, and noted, where it is not there."""
        uid, _, frame = named.partition(" ")
        there = self.found.instances.get(uid)
        if there is None:
            self.missing |= {uid: None} if uid else {}
            return None
        images = self.images_of(there.path)
        return next((image for image in images if not frame or str(image.frame) == frame), None)

    def images_of(self, path: Path) -> list[SourceImage]:
        """The images of a file; the last few multi-frame files are kept, as their frames are asked one by one."""
        if path not in self._sources:
            while len(self._sources) >= KEPT_FILES:
                self._sources.pop(next(iter(self._sources)))
            try:
                self._sources[path] = source_images(path)
            except SeriesUnusable as fault:
                self.tally.add(path.name, [Finding("READ", False, f"the source cannot be read: {fault}")])
                self._sources[path] = []
        return self._sources[path]

    def derived(self, uid: str, *, with_pixels: bool = False) -> FileDataset | None:
        """The derived image of that UID; None where it is not there, not ours or unreadable."""
        there = self.found.instances.get(uid)
        if there is None or not there.is_derived_image:
            return None
        try:
            return dcmread(there.path, stop_before_pixels=not with_pixels)
        except UNREADABLE:
            return None

    def place(self, named: str) -> Place | None:
        """Where the image "UID frame" lies, be it a source or a derived one; None where it is not there."""
        uid, _, _ = named.partition(" ")
        if uid not in self.found.instances:
            return None
        derived = self.derived(uid)
        if derived is not None:
            return Place(
                text(derived, "FrameOfReferenceUID"),
                numbers(derived, "ImagePositionPatient"),
                numbers(derived, "ImageOrientationPatient"),
                numbers(derived, "PixelSpacing"),
                (number(derived, "Rows"), number(derived, "Columns")),
            )
        image = self.source(named)
        if image is None:
            return None
        return Place(
            image.text("FrameOfReferenceUID"),
            image.numbers("ImagePositionPatient"),
            image.numbers("ImageOrientationPatient"),
            image.numbers("PixelSpacing"),
            (image.number("Rows"), image.number("Columns")),
        )
