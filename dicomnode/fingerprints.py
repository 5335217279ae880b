"""Two hashes by which an instance is known again in any lossless encoding: of its header and of its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from dicomnode.codecs import DECODER_OF
from dicomnode.iods import tags
from dicomnode.source_image import Fingerprint, SourceImage
from dicomnode.verbatim import Element, content_of, verbatim_elements

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
OF_THE_ENCODING = tags(["LengthToEnd", "PlanarConfiguration"])
OF_THE_COLOURS = tags(["PhotometricInterpretation"])
"""A codec may store several samples in another colour space (YBR_RCT of JPEG 2000)."""


def fingerprint(content: bytes, image: SourceImage, pixels: bytes | memoryview) -> Fingerprint:
    """Of a source image's file of one sample a pixel. pixels: as `pixels_to_hash` gives them.

    `image` must be as it was read: no text of its elements decoded.
    """
    pieces = {tag: header_piece(tag, one) for tag, one in image.elements.items() if tag not in OF_THE_ENCODING}
    return Fingerprint(
        hashlib.sha256(content).hexdigest(), sha256_of_pieces(pieces), hashlib.sha256(pixels).hexdigest()
    )


def pixels_to_hash(dataset: Dataset, stored: NDArray[Any]) -> bytes | memoryview:
    """What `pixel_sha256` hashes of a data set whose pixels decode to these values, one sample a pixel."""
    native = _native_pixels(dataset, "PixelData")
    return _little_endian(stored) if native is None else native


def header_sha256(dataset: Dataset) -> str:
    """SHA-256 (hex) of all public attributes but the pixels, and of the private ones that the node keeps.

    `dataset`: just read, no text of it decoded. Neither the transfer syntax, nor how lengths of sequences are
    written, nor padding changes it.
    """
    elements = verbatim_elements(dataset)
    needless = needless_tags(dataset)
    return sha256_of_pieces({tag: header_piece(tag, one) for tag, one in elements.items() if tag not in needless})


def needless_tags(dataset: Dataset) -> frozenset[int]:
    """What is said of the encoding alone, in a header with these Samples per Pixel."""
    return OF_THE_ENCODING | (OF_THE_COLOURS if (dataset.get("SamplesPerPixel") or 1) > 1 else frozenset())


def sha256_of_pieces(pieces: Mapping[int, bytes]) -> str:
    """SHA-256 (hex) of a header by the pieces of its elements."""
    return hashlib.sha256(_joined(pieces)).hexdigest()


def header_piece(tag: int, element: Element) -> bytes:
    """An element with its tag and its length, so that no two headers give the same bytes."""
    if element.VR != "SQ":
        content = content_of(element)
        return pack("<IcI", tag, b"V", len(content)) + content
    items: list[Dataset] = list(element.value or ())  # type: ignore[arg-type]
    return pack("<IcI", tag, b"S", len(items)) + b"".join(map(_item_piece, items))


def _item_piece(item: Dataset) -> bytes:
    inside = {int(key): item.get_item(key) for key in list(item.keys())}
    return _joined({key: header_piece(key, one) for key, one in inside.items() if one is not None})


def _joined(pieces: Mapping[int, bytes]) -> bytes:
    return pack("<I", len(pieces)) + b"".join(pieces[tag] for tag in sorted(pieces))


def pixel_sha256(dataset: Dataset) -> str | None:
    """SHA-256 (hex) of an instance's pixels as native little endian ones; None where it has none.

    Lossless re-encoding does not change it. Several samples are taken colour by pixel.
    """
    keyword = next((name for name in PIXELS if name in dataset), None)
    if keyword is None:
        return None
    native = _native_pixels(dataset, keyword)
    if native is not None:
        return hashlib.sha256(native).hexdigest()
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    decoded, _ = get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=DECODER_OF.get(syntax, ""))
    if dataset.BitsAllocated == 1:
        return hashlib.sha256(np.packbits(decoded.ravel(), bitorder="little").tobytes()).hexdigest()
    return hashlib.sha256(_little_endian(decoded)).hexdigest()


def _little_endian(stored: NDArray[Any]) -> bytes:
    return stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes()


def _native_pixels(dataset: Dataset, keyword: str) -> memoryview | None:
    """The bytes that are hashed as they are; None where they have to be decoded first."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    is_native = not syntax.is_encapsulated and syntax.is_little_endian and not dataset.get("PlanarConfiguration")
    if keyword == "PixelData" and not is_native:
        return None
    return memoryview(dataset[keyword].value)[: _native_bytes(dataset, keyword)]


def _native_bytes(dataset: Dataset, keyword: str) -> int:
    """How many bytes the pixels have without the padding to an even length."""
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword, int(dataset.BitsAllocated))
    samples = int(dataset.get("SamplesPerPixel", 1)) * int(dataset.get("NumberOfFrames") or 1)
    return (int(dataset.Rows) * int(dataset.Columns) * samples * bits + 7) // 8
