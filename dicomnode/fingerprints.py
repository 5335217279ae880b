"""Two hashes by which an instance is known again in any lossless encoding: of its header and of its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from struct import pack

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from dicomnode.codecs import DECODER_OF
from dicomnode.iods import tags
from dicomnode.verbatim import Element, content_of, verbatim_elements

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
OF_THE_ENCODING = tags(["LengthToEnd", "PlanarConfiguration"])
OF_THE_COLOURS = tags(["PhotometricInterpretation"])
"""A codec may store several samples in another colour space (YBR_RCT of JPEG 2000)."""


def header_sha256(dataset: Dataset) -> str:
    """SHA-256 (hex) of all public attributes but the pixels, and of the private ones that the node keeps.

    `dataset`: just read, no text of it decoded. Neither the transfer syntax, nor how lengths of sequences are
    written, nor padding changes it.
    """
    elements = verbatim_elements(dataset)
    needless = OF_THE_ENCODING | (OF_THE_COLOURS if (dataset.get("SamplesPerPixel") or 1) > 1 else frozenset())
    digest = hashlib.sha256()
    _feed(digest, {tag: element for tag, element in elements.items() if tag not in needless})
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, elements: Mapping[int, Element]) -> None:
    """Sorted elements, each with its tag and its length, so that no two headers give the same bytes."""
    digest.update(pack("<I", len(elements)))
    for tag in sorted(elements):
        element = elements[tag]
        if element.VR == "SQ":
            items = list(element.value or ())
            digest.update(pack("<IcI", tag, b"S", len(items)))
            for item in items:
                inside = {int(key): item.get_item(key) for key in list(item.keys())}
                _feed(digest, {key: found for key, found in inside.items() if found is not None})
        else:
            content = content_of(element)
            digest.update(pack("<IcI", tag, b"V", len(content)) + content)


def pixel_sha256(dataset: Dataset) -> str | None:
    """SHA-256 (hex) of an instance's pixels as native little endian ones; None where it has none.

    Lossless re-encoding does not change it. Several samples are taken colour by pixel.
    """
    keyword = next((name for name in PIXELS if name in dataset), None)
    if keyword is None:
        return None
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    is_native = not syntax.is_encapsulated and syntax.is_little_endian and not dataset.get("PlanarConfiguration")
    if keyword != "PixelData" or is_native:
        content = bytes(dataset[keyword].value)
        return hashlib.sha256(content[: _native_bytes(dataset, keyword)]).hexdigest()
    decoded, _ = get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=DECODER_OF.get(syntax, ""))
    if dataset.BitsAllocated == 1:
        return hashlib.sha256(np.packbits(decoded.ravel(), bitorder="little").tobytes()).hexdigest()
    return hashlib.sha256(decoded.astype(decoded.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _native_bytes(dataset: Dataset, keyword: str) -> int:
    """How many bytes the pixels have without the padding to an even length."""
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword, int(dataset.BitsAllocated))
    samples = int(dataset.get("SamplesPerPixel", 1)) * int(dataset.get("NumberOfFrames") or 1)
    return (int(dataset.Rows) * int(dataset.Columns) * samples * bits + 7) // 8
