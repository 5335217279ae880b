"""Stored pixels of one source file as values, and which of them lie outside the field of view."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from dicomnode.code_stream import code_stream_of, fault_of
from dicomnode.codecs import DECODER_OF
from dicomnode.errors import SeriesUnusable
from dicomnode.source_image import UNREADABLE, FramePixels, SourceImage

Stored = NDArray[np.int_] | NDArray[np.uint16] | NDArray[np.int16]
AIR_HU = -1024.0
PIXEL_DATA = b"\xe0\x7f\x10\x00"
ROWS_AT_ONCE = 64
"""Of a slice, so that what is computed of them stays in the processor's cache."""


def stored_pixels(image: SourceImage, content: bytes | None = None) -> tuple[Dataset, Stored]:
    """The header with the stored values, (rows, columns), of one image; every loss of data is refused, never filled.

    content: of the image's file, where it was read already. Of a multi-frame file only the frame's own part is read.
    """
    place = image.frame_pixels
    try:
        dataset, stored = _single(image, content) if place is None else (image.dataset, _frame(image, place))
    except UNREADABLE as fault:
        raise _undecodable(image, fault) from fault
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise SeriesUnusable("undecodable", f"{_named(image)} decodes to {stored.shape}; send it uncompressed")
    return dataset, stored


def native_pixels(image: SourceImage, content: bytes) -> memoryview | None:
    """The bytes of a single-frame image's pixels where they lie plainly in its file; None where they do not.

    Plainly: native, little endian, and as many as the header wants.
    """
    at, syntax = image.pixels_at, UID(image.transfer_syntax_uid)
    if at < 0 or syntax.is_encapsulated or not syntax.is_little_endian:
        return None
    head = content[at : at + (8 if syntax.is_implicit_VR else 12)]
    if head[:4] != PIXEL_DATA or (not syntax.is_implicit_VR and head[4:8] != b"OW\0\0"):
        return None
    length, begin = int.from_bytes(head[-4:], "little"), at + len(head)
    dataset = image.dataset
    is_whole = length == dataset.Rows * dataset.Columns * 2 and begin + length <= len(content)
    return memoryview(content)[begin : begin + length] if is_whole else None


def _single(image: SourceImage, content: bytes | None) -> tuple[Dataset, Stored]:
    plain = None if content is None else native_pixels(image, content)
    if plain is not None:
        options = as_pixel_options(image.dataset, number_of_frames=1, pixel_keyword="PixelData", pixel_vr="OW")
        stored, _ = get_decoder(UID(image.transfer_syntax_uid)).as_array(bytes(plain), raw=True, **options)
        return image.dataset, stored
    dataset = dcmread(image.path if content is None else BytesIO(content))
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if "PixelData" not in dataset:
        raise SeriesUnusable("no-pixel-data", f"{_named(image)} has no PixelData; send it again")
    held, expected = len(dataset.PixelData or b""), dataset.Rows * dataset.Columns * 2
    if not syntax.is_encapsulated and held != expected:
        raise _wrong_length(image, held, expected)
    if syntax.is_encapsulated:
        _check_stream(image, next(generate_frames(dataset.PixelData, number_of_frames=1)), dataset)
    stored, _ = get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=DECODER_OF.get(syntax, ""))
    return dataset, stored


def _frame(image: SourceImage, place: FramePixels) -> Stored:
    dataset, syntax = image.dataset, UID(place.transfer_syntax_uid)
    expected = dataset.Rows * dataset.Columns * 2 * place.frames
    with image.path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not syntax.is_encapsulated and (place.length != expected or size < place.offset + expected):
            raise _wrong_length(image, min(place.length, size - place.offset), expected)
        if syntax.is_encapsulated:
            _check_stream(image, _stream(image, file, place), dataset)
        file.seek(place.offset)
        options = as_pixel_options(dataset, number_of_frames=place.frames, pixel_keyword="PixelData", pixel_vr="OW")
        options["decoding_plugin"] = DECODER_OF.get(syntax, "")
        if place.extended_offsets is not None:
            options["extended_offsets"] = place.extended_offsets
        stored, _ = get_decoder(syntax).as_array(file, index=image.frame - 1, raw=True, **options)
    return stored


def _stream(image: SourceImage, file: BinaryIO, place: FramePixels) -> bytes:
    """The compressed stream of the frame; refused when the file's table names another number of frames."""
    file.seek(place.offset)
    offsets = parse_basic_offsets(file)
    named = len(place.extended_offsets[0]) // 8 if place.extended_offsets is not None else len(offsets)
    if named not in (0, place.frames):
        raise _wrong_count(image, named, place.frames)
    file.seek(place.offset)
    return get_frame(file, image.frame - 1, extended_offsets=place.extended_offsets, number_of_frames=place.frames)


def _check_stream(image: SourceImage, stream: bytes, dataset: Dataset) -> None:
    """Decoders fill the header's matrix with the values of another one that has as many (PS3.5 8.2).

    They also take the sign from the header, and where the stream holds its sign bit elsewhere the values are shifted.
    """
    said = code_stream_of(stream)
    if said is None:
        return
    size, wanted = (said.rows, said.columns), (dataset.Rows, dataset.Columns)
    if size != wanted:
        raise SeriesUnusable(
            "pixel-data-size",
            f"{_named(image)} is {wanted} by its header and {size} by its compressed pixels; correct the sender",
        )
    if fault := fault_of(said, bits_stored=int(dataset.BitsStored), is_signed=dataset.PixelRepresentation == 1):
        raise SeriesUnusable(
            "pixel-data-depth", f"{_named(image)} {fault}; correct the sender, or send it uncompressed"
        )


def _wrong_count(image: SourceImage, named: int, frames: int) -> SeriesUnusable:
    return SeriesUnusable(
        "pixel-data-length", f"{_named(image)}: the file has {named} frames where its header wants {frames}; send again"
    )


def _named(image: SourceImage) -> str:
    return f"{f'frame {image.frame} of ' if image.frame else ''}instance {image.sop_instance_uid}"


def _wrong_length(image: SourceImage, held: int, expected: int) -> SeriesUnusable:
    return SeriesUnusable(
        "pixel-data-length",
        f"{_named(image)} has {held} bytes of PixelData where its header wants {expected}; send it again",
    )


def _undecodable(image: SourceImage, fault: BaseException) -> SeriesUnusable:
    return SeriesUnusable(
        "undecodable",
        f"the pixels of {_named(image)} cannot be decoded ({type(fault).__name__}); "
        "send the series uncompressed or in a lossless transfer syntax",
    )


def real_values(dataset: Dataset, stored: Stored, image: SourceImage) -> NDArray[np.float32]:
    """The values behind the Modality LUT, (rows, columns) float32."""
    if image.items("ModalityLUTSequence"):
        try:
            looked_up: NDArray[np.float32] = apply_modality_lut(stored, dataset).astype(np.float32)
        except UNREADABLE as fault:
            raise SeriesUnusable(
                "modality-lut",
                f"the Modality LUT of {_named(image)} cannot be applied ({type(fault).__name__}); "
                "send the image with RescaleSlope and RescaleIntercept instead",
            ) from fault
        return looked_up
    if image.slope == 1.0 and image.intercept == 0.0:
        return stored.astype(np.float32)
    scaled = np.empty(stored.shape, np.float32)
    for row in range(0, len(stored), ROWS_AT_ONCE):
        scaled[row : row + ROWS_AT_ONCE] = stored[row : row + ROWS_AT_ONCE] * np.float64(image.slope) + image.intercept
    return scaled


def outside_of(dataset: Dataset, stored: Stored, values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Where a slice holds padding, (rows, columns); None when it holds none.

    Padding is what PixelPaddingValue (to PixelPaddingRangeLimit) says, and in CT the constant below air that fills
    all four corners though no attribute names it. In CT only what reaches the border counts: inside the body a
    voxel can have the padding's value by chance, as the dark streaks of metal do.
    """
    padded = _declared_padding(dataset, stored)
    is_ct = dataset.get("Modality") == "CT"
    corner = values[0, 0]
    corners = values[[0, 0, -1, -1], [0, -1, 0, -1]]
    if is_ct and corner < AIR_HU and (corners == corner).all():
        undeclared = values == corner
        padded = undeclared if padded is None else padded | undeclared
    if padded is None or not padded.any():
        return None
    if is_ct:
        padded = reaching_border(padded)
    return padded if padded.any() else None


def _declared_padding(dataset: Dataset, stored: Stored) -> NDArray[np.bool_] | None:
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None or value == "":
        return None
    first = _as_stored(value, dataset)
    second = first if limit is None or limit == "" else _as_stored(limit, dataset)
    low, high = min(first, second), max(first, second)
    found: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return found


def _as_stored(value: int | bytes | Sequence[int], dataset: Dataset) -> int:
    """The padding's 16 bits read as the pixels are (senders write US for signed pixels and the other way round)."""
    if not isinstance(value, int | bytes):
        raise SeriesUnusable("padding-unclear", "PixelPaddingValue holds several values; correct the sender")
    bits = int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value) & 0xFFFF
    return bits - 0x10000 if dataset.PixelRepresentation == 1 and bits >= 0x8000 else bits


def reaching_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask (rows, columns) that touch the border, filled from it run by run along rows and columns."""
    rows, columns = _runs(mask), _runs(mask.T)
    reached = np.zeros_like(mask)
    reached[[0, -1]], reached[:, [0, -1]] = mask[[0, -1]], mask[:, [0, -1]]
    count = 0
    while (found := int(np.count_nonzero(reached))) > count:
        count = found
        reached = _filled(reached, rows)
        reached = _filled(reached.T, columns).T
    return reached


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The number of the run along the last axis that each voxel of a mask lies in, 0 outside the mask."""
    begins = mask.copy()
    begins[:, 1:] &= ~mask[:, :-1]
    numbers = np.cumsum(begins, dtype=np.int32).reshape(mask.shape)
    return np.where(mask, numbers, np.int32(0))


def _filled(reached: NDArray[np.bool_], runs: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Every run that is reached somewhere, reached as a whole."""
    is_reached = np.zeros(int(runs.max()) + 1, np.bool_)
    is_reached[runs[reached]] = True
    is_reached[0] = False
    filled: NDArray[np.bool_] = is_reached[runs]
    return filled
