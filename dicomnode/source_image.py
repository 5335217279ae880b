"""One source image: its header, its elements byte for byte, and what is needed to read and to restore its pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from dicomnode.errors import SeriesUnusable
from dicomnode.verbatim import Element, verbatim_elements

UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,  # a RecursionError of a deeply nested sequence is one, and so is NotImplementedError
    EOFError,
    OverflowError,  # a whole number of what is not finite
    struct.error,
)
"""What pydicom and the decoders raise over content they cannot read; a fault of the disk is not among them."""

SINGLE_FRAME_CLASS_OF: Mapping[str, str] = {
    str(enhanced): str(single)
    for single, enhanced_classes in {
        CTImageStorage: (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage),
        MRImageStorage: (EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
        PositronEmissionTomographyImageStorage: (EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage),
    }.items()
    for enhanced in enhanced_classes
}
"""The enhanced classes that are read frame by frame (I10); Enhanced MR Color is not among them."""


@dataclass(frozen=True, slots=True, eq=False)
class FramePixels:
    """Where the pixels of a multi-frame instance lie in its file.

    offset: of the value of PixelData. length: of that value; -1 where it is encapsulated. frames: how many there are.
    extended_offsets: ExtendedOffsetTable and ExtendedOffsetTableLengths, where the instance has them.
    """

    transfer_syntax_uid: str
    offset: int
    length: int
    frames: int
    extended_offsets: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 (hex) of a file, of its header and of its pixels, as `fingerprints` gives the last two."""

    file_sha256: str
    header_sha256: str
    pixel_sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """A source image without its pixels.

    dataset: the header for reading values; elements: the same before any decoding, for copying.
    position_mm: along the stack normal. slope, intercept: stored value -> value of the volume.
    outside_values: what the voxels outside the field of view held, in the slice's raster order, or one number
        when all held the same; None when the slice has none. Same unit as the volume.
    lowest, highest: value within the field of view, of all the series' slices.
    frame: number of the frame, from 1, when the image is one frame of a multi-frame instance; 0 for a single-frame one.
        `dataset` and `elements` then hold the frame's functional groups as a single-frame image would.
    frame_pixels: where the frame's pixels are; None for a single-frame image.
    pixels_at: where in the file of a single-frame image the element of the pixels begins; -1 where it is not known.
    fingerprint: of the file as its pixels were read; None for a frame and where they were not read.
    """

    path: Path
    dataset: Dataset
    elements: dict[int, Element]
    position_mm: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0
    outside_values: NDArray[np.float32] | None = None
    lowest: float = 0.0
    highest: float = 0.0
    frame: int = 0
    frame_pixels: FramePixels | None = None
    pixels_at: int = -1
    fingerprint: Fingerprint | None = None
    _said: dict[str, tuple[DataElement, object, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    """What has been read of `dataset` as texts, with the element and the value that it was read of."""

    @property
    def sop_instance_uid(self) -> str:
        """The instance's UID."""
        return self.text("SOPInstanceUID")

    @property
    def transfer_syntax_uid(self) -> str:
        """How the pixels are encoded, as the File Meta Information says; empty when it does not."""
        if self.frame_pixels is not None:
            return self.frame_pixels.transfer_syntax_uid
        meta = getattr(self.dataset, "file_meta", None)
        return str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""

    @property
    def image_class_uid(self) -> str:
        """The single-frame SOP class that the image stands for: its own, or that of a frame of an enhanced instance.

        The instance's own class stays in `SOPClassUID`, for references to it.
        """
        own = self.text("SOPClassUID")
        return SINGLE_FRAME_CLASS_OF.get(own, own)

    def text(self, keyword: str) -> str:
        """The first value of an attribute as text, empty when it is absent or empty."""
        values = self.texts(keyword)
        return values[0] if values else ""

    def texts(self, keyword: str) -> tuple[str, ...]:
        """All values of an attribute as texts."""
        element = self.dataset._dict.get(tag_of(keyword))
        if element is None:
            return ()
        known = self._said.get(keyword)
        if known is not None and known[0] is element and known[1] is element.value:
            return known[2]
        with self._refusing(keyword):
            value = self.dataset.get(keyword)
        texts = _texts_of(value)
        decoded = self.dataset._dict.get(tag_of(keyword))
        if isinstance(decoded, DataElement):
            self._said[keyword] = decoded, decoded.value, texts
        return texts

    def items(self, keyword: str, *, of: Dataset | None = None) -> tuple[Dataset, ...]:
        """The items of a sequence (`of` an item), none when it is absent or empty; refused where it is no sequence."""
        with self._refusing(keyword):
            value = (self.dataset if of is None else of).get(keyword)
            items = tuple(value) if value else ()
        if not all(isinstance(item, Dataset) for item in items):
            raise self._unreadable(keyword, "not a sequence")
        return items

    def of_item(self, item: Dataset, keyword: str) -> str:
        """An attribute of a sequence's item as text, empty when it is absent or empty; its first value of several."""
        with self._refusing(keyword):
            value = item.get(keyword)
            is_single = value is None or isinstance(value, str) or not hasattr(value, "__iter__")
            first = value if is_single else next(iter(value), None)
        return "" if first is None else str(first).strip()

    def number(self, keyword: str) -> float | None:
        """The first value of an attribute as a number, None when it is absent, empty or not a finite number."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """All values of an attribute as numbers; empty when one of them is not a finite number."""
        try:
            found = tuple(float(text) for text in self.texts(keyword))
        except ValueError:
            return ()
        return found if all(np.isfinite(found)) else ()

    @contextmanager
    def _refusing(self, keyword: str) -> Iterator[None]:
        """What a value's content makes the reader raise becomes a refusal."""
        try:
            yield
        except UNREADABLE as fault:
            raise self._unreadable(keyword, type(fault).__name__) from fault

    def _unreadable(self, keyword: str, why: str) -> SeriesUnusable:
        return SeriesUnusable(
            "unreadable", f"{self.path.name}: {keyword} cannot be read ({why}); have the sender's header corrected"
        )

    def raw(self, keyword: str) -> bytes:
        """The bytes of a text attribute as received, without padding; empty when absent."""
        tag = tag_for_keyword(keyword)
        element = self.elements.get(tag) if tag is not None else None
        value = getattr(element, "value", None)
        return value.strip(b" \0") if isinstance(value, bytes) else str(value or "").encode("ascii", "replace")


def _texts_of(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (str(value).strip(),)
    return tuple(str(single).strip() for single in value)


@cache
def tag_of(keyword: str) -> BaseTag:
    """The tag of a keyword, which must be in the dictionary."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(f"not in the DICOM dictionary: {keyword}")
    return BaseTag(tag)


def read_source_image(path: Path) -> SourceImage:
    """The header of a file; the pixels stay on the disk."""
    header, pixels_at = read_header(path)
    return source_image_of(path, header, pixels_at)


def read_header(path: Path) -> tuple[FileDataset, int]:
    """The data set of a file before its pixels, nothing of it decoded, and where they begin: -1 in a deflated file."""
    with refusing_unreadable(path), path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True)
        is_deflated = header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        return header, -1 if is_deflated else file.tell()


def source_image_of(path: Path, dataset: Dataset, pixels_at: int = -1) -> SourceImage:
    """The source image of a header whose texts nobody has read yet; private elements and overlays leave `dataset`."""
    with refusing_unreadable(path):
        elements = verbatim_elements(dataset)
        for tag in [tag for tag in list(dataset.keys()) if _needless(tag)]:
            del dataset[tag]
    return SourceImage(path, dataset, elements, pixels_at=pixels_at)


@contextmanager
def refusing_unreadable(path: Path) -> Iterator[None]:
    """What a file's content makes the reader raise becomes a refusal; a fault of the disk stays one."""
    try:
        yield
    except (*UNREADABLE, OSError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:  # pydicom raises OSError of its own, without errno
            raise
        raise SeriesUnusable(
            "unreadable", f"{path.name} cannot be read as DICOM ({type(fault).__name__}); send the series again"
        ) from fault


def _needless(tag: BaseTag) -> bool:
    return tag.is_private or tag.group in (0x5000, 0x6000)
