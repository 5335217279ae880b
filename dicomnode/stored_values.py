"""Values of a derived slice as 16-bit pixels, with the attributes that lead back to the values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import OutputFault
from dicomnode.source_image import SourceImage

Values = NDArray[np.float32]
LARGEST = 32767


@dataclass(frozen=True, slots=True, eq=False)
class StoredSlice:
    """pixels: (rows, columns) int16 or uint16; rescale: the attributes that make values of them, by keyword."""

    pixels: NDArray[np.int16] | NDArray[np.uint16]
    rescale: dict[str, str]

    @property
    def is_signed(self) -> bool:
        """Whether the pixels are two's complement."""
        return bool(self.pixels.dtype == np.int16)


def decimal_string_at_least(value: float) -> str:
    """The smallest DS of ten digits that is not below a positive value."""
    rounded = Context(prec=10, rounding=ROUND_CEILING).create_decimal(float(value))
    plain = str(rounded)
    return plain if len(plain) <= 16 else f"{rounded:E}"


def stored_slice(values: Values, image: SourceImage, *, modality: str) -> StoredSlice:
    """A slice's values as the image object of `modality` keeps them."""
    if modality == "CT":
        return _ct_slice(values)
    return _pet_slice(values, image) if modality == "PT" else _mr_slice(values, image)


def _ct_slice(values: Values) -> StoredSlice:
    """HU rounded to whole numbers (T1): off by at most 0.5 HU."""
    pixels = np.clip(np.rint(values), -32768, LARGEST).astype(np.int16)
    return StoredSlice(pixels, {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "HU"})


def _pet_slice(values: Values, image: SourceImage) -> StoredSlice:
    """Signed 16 bits over the slice's own slope, intercept 0 (P3): off by at most half a slope."""
    peak = float(np.abs(values).max())
    slope = decimal_string_at_least(peak / LARGEST) if peak > 0 else f"{image.slope:.10g}"
    pixels = np.rint(values.astype(np.float64) / float(slope)).astype(np.int16)
    return StoredSlice(pixels, {"RescaleIntercept": "0", "RescaleSlope": slope})


def _mr_slice(values: Values, image: SourceImage) -> StoredSlice:
    """The source's stored scale and sign (M2); small undershoots of an unsigned image become 0."""
    kind = np.iinfo(np.int16) if image.dataset.PixelRepresentation == 1 else np.iinfo(np.uint16)
    stored = np.rint((values.astype(np.float64) - image.intercept) / image.slope)
    if stored.max() > kind.max or (kind.min < 0 and stored.min() < kind.min):
        raise OutputFault("M2", f"a value of slice {image.position_mm:.1f} mm does not fit the source's stored scale")
    stored = np.clip(stored, kind.min, kind.max)
    return StoredSlice(stored.astype(np.int16) if kind.min < 0 else stored.astype(np.uint16), {})
