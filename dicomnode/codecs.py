"""Which decoder and encoder serve a transfer syntax: ones that a damaged stream cannot end the process through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import HTJ2K as HTJ2KLossy
from pydicom.uid import JPEG2000 as JPEG2000Lossy
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

DECODER_OF: dict[str, str] = {
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000Lossy: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2KLossy: "pylibjpeg",
}
"""pydicom would try GDCM first, whose decoders end the process at some damaged streams (3 of 100). Only it decodes
JPEG Lossless; a syntax that is absent here is left to pydicom's choice."""

ENCODER_OF: dict[str, str] = {JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg", RLELossless: "pydicom"}
"""GDCM's encoder ends the process at a colour picture in RLE."""


def decoded_frames(dataset: Dataset, *, all_bits: bool = False) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
    """Each frame's stored values, (rows, columns) or (rows, columns, samples), and what they are now said to be.

    all_bits: native words as they stand, also in the bits that no value uses.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    frames = get_decoder(syntax).iter_array(
        dataset,
        raw=True,
        decoding_plugin=DECODER_OF.get(syntax, ""),
        correct_unused_bits=syntax.is_encapsulated or not all_bits,
    )
    for frame, properties in frames:
        yield frame, dict(properties)
