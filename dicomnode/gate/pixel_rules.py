"""What must hold of a derived image's pixels: their length, range and padding, and that they give the values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from dicomnode.codecs import DECODER_OF
from dicomnode.gate.kind_rules import PIXEL_RULE
from dicomnode.gate.rules import Finding, asked, number, text

LOWEST_HU, HIGHEST_HU = -1100.0, 30000.0
LOWEST_OF_12_BITS, HIGHEST_OF_12_BITS = -1024.0, 3071.0
LOWEST_OF_16_BITS, HIGHEST_OF_16_BITS = -32768.0, 32767.0
ROWS_AT_ONCE = 64
"""Of a slice, so that what is computed of them stays in the processor's cache."""
Stored = NDArray[Any]


def stored_values(dataset: Dataset) -> Stored:
    """The stored values of an image of one frame, (rows, columns); raises ValueError when their length is wrong."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    shape = int(dataset.Rows), int(dataset.Columns)
    if syntax.is_encapsulated or not syntax.is_little_endian:
        decoded, _ = get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=DECODER_OF.get(syntax, ""))
        if decoded.shape != shape:
            raise ValueError("the pixels do not decode to rows and columns")
        return decoded
    content = dataset.PixelData
    if len(content) != shape[0] * shape[1] * 2:
        raise ValueError("PixelData has another length than rows and columns want")
    return np.frombuffer(content, "<i2" if dataset.PixelRepresentation else "<u2").reshape(shape)


def length_findings(dataset: Dataset) -> Iterator[Finding]:
    """The file as we write it: not compressed, as many bytes as its rows and columns want."""
    rule = PIXEL_RULE.get(text(dataset, "Modality"), "C1")
    syntax, content = UID(dataset.file_meta.TransferSyntaxUID), dataset.get("PixelData")
    yield asked(rule, not syntax.is_encapsulated and syntax.is_little_endian, "the pixels are not native little endian")
    expected = (number(dataset, "Rows") or 0) * (number(dataset, "Columns") or 0) * 2
    held = len(content) if isinstance(content, bytes) else 0
    yield asked(rule, expected and held == expected, "PixelData has another length than rows and columns want")


def values_of(dataset: Dataset, stored: Stored, *, slope: float = 1.0, intercept: float = 0.0) -> NDArray[np.float64]:
    """The values behind the pixels: by the image's own rescale, or by the one given where it has none (MR)."""
    own, offset = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    return stored * np.float64(slope if own is None else own) + (intercept if offset is None else offset)


def range_finding(
    values: NDArray[Any], *, source_range: tuple[float, float] | None, outside: NDArray[np.bool_] | None
) -> Finding:
    """Whether every value in the field of view is finite and a HU that can be (T5)."""
    low, high = source_range or (LOWEST_HU, HIGHEST_HU)
    low, high = min(LOWEST_HU, low), max(HIGHEST_HU, high)
    if values.size and values.min() >= low and values.max() <= high:
        return Finding("T5", True, "")
    wrong = ~((values >= low) & (values <= high))
    count = int((wrong if outside is None else wrong & ~outside).sum())
    return asked("T5", not count, f"{count} voxels of the result lie outside {LOWEST_HU:g}..{HIGHEST_HU:g} HU")


def padding_findings(dataset: Dataset, stored: Stored, outside: NDArray[np.bool_] | None) -> Iterator[Finding]:
    """A padding value is one that pixels can have, and no voxel inside the field of view has it (C25, T4).

    outside: where the source has padding; None where it has none.
    """
    if "PixelPaddingValue" not in dataset:
        return
    first = number(dataset, "PixelPaddingValue")
    limit = number(dataset, "PixelPaddingRangeLimit") if "PixelPaddingRangeLimit" in dataset else first
    kind, bits = int(dataset.PixelRepresentation), int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind else (0, 2**bits - 1)
    if first is None or limit is None or not (low <= first <= high and low <= limit <= high):
        yield Finding("C25", False, "PixelPaddingValue is none that a pixel can have")
        return
    said = dataset["PixelPaddingValue"].VR
    yield asked("C25", said == ("SS" if kind else "US"), "PixelPaddingValue is not of the pixels' kind")
    padded = (stored >= min(first, limit)) & (stored <= max(first, limit))
    count = int((padded if outside is None else padded & ~outside).sum())
    yield asked("T4", not count, f"{count} voxels inside the field of view have the padding's value")


def restored_findings(
    values: NDArray[Any], held: NDArray[np.float32] | None, outside: NDArray[np.bool_] | None, *, is_12_bit: bool
) -> Iterator[Finding]:
    """Outside the field of view lies what the source held there (T4), cut to what the image's pixels can hold."""
    if outside is None or held is None:
        return
    count = int(outside.sum())
    if held.size not in (1, count):
        yield Finding("T4", False, f"{count} voxels lie outside the field of view, the source has {held.size} there")
        return
    expected, found = held.astype(np.float64), values[outside]
    low, high = (LOWEST_OF_12_BITS, HIGHEST_OF_12_BITS) if is_12_bit else (LOWEST_OF_16_BITS, HIGHEST_OF_16_BITS)
    expected, found = (np.clip(one, low, high) for one in (expected, found))
    off = np.abs(found - expected)
    lost = bool(off.size) and not float(off.max()) <= 0.5001 + 1e-6 * float(np.abs(expected).max())
    yield asked("T4", not lost, "outside the field of view the values are not the source's")


def precision_findings(
    dataset: Dataset, stored: Stored, values: NDArray[np.float32], *, slope: float, intercept: float
) -> Iterator[Finding]:
    """The stored pixels give the values: to half a HU, half a slope, half a stored step (T1, P3, M2).

    slope, intercept: the source's, by which an MR without rescale is read.
    """
    modality = text(dataset, "Modality")
    rule = PIXEL_RULE[modality]
    if modality != "MR":
        slope, intercept = number(dataset, "RescaleSlope") or 0.0, number(dataset, "RescaleIntercept") or 0.0
    is_12_bit = modality == "CT" and number(dataset, "BitsStored") == 12
    is_cut_at_0 = modality == "MR" and not dataset.PixelRepresentation
    worst = [0.0]
    for row in range(0, len(values), ROWS_AT_ONCE):
        exact, held = values[row : row + ROWS_AT_ONCE].astype(np.float64), stored[row : row + ROWS_AT_ONCE]
        if is_12_bit:  # what an old receiver cannot hold is cut by wish
            exact = np.clip(exact, LOWEST_OF_12_BITS, HIGHEST_OF_12_BITS)
        off = np.abs(held * slope + intercept - exact)
        if is_cut_at_0:
            off = off[(held > 0) | ((exact - intercept) / slope >= 0)]
        worst += [float(off.max())] if off.size else []
    allowed = abs(slope) * 0.5001 + 1e-6 * float(np.abs(values).max())
    yield asked(rule, np.max(worst) <= allowed, "the stored pixels do not give the values")


def all_finite(values: NDArray[Any]) -> bool:
    """Whether every value is a finite number, asked without a truth value for each."""
    return not values.size or bool(np.isfinite(values.min()) and np.isfinite(values.max()))
