"""Values of a derived slice as 16-bit pixels, with the attributes that lead back to the values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import OutputFault
from dicomnode.source_image import SourceImage

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]
LARGEST = 32767
UNSIGNED_INTERCEPT, UNSIGNED_BITS = -1024, 12
SIGNED_16, UNSIGNED_12 = "signed-16", "unsigned-12"


@dataclass(frozen=True, slots=True, eq=False)
class StoredSlice:
    """pixels: (rows, columns) int16 or uint16; rescale: the attributes that make values of them, by keyword.

    bits: how many of the 16 are used. clipped: how many voxels within the field of view were cut to what they can hold.
    """

    pixels: NDArray[np.int16] | NDArray[np.uint16]
    rescale: dict[str, str]
    bits: int = 16
    clipped: int = 0

    @property
    def is_signed(self) -> bool:
        """Whether the pixels are two's complement."""
        return bool(self.pixels.dtype == np.int16)


def decimal_string_at_least(value: float) -> str:
    """The smallest DS of ten digits that is not below a positive value."""
    rounded = Context(prec=10, rounding=ROUND_CEILING).create_decimal(float(value))
    plain = str(rounded)
    return plain if len(plain) <= 16 else f"{rounded:E}"


def stored_slice(
    values: Values, image: SourceImage, *, modality: str, outside: Mask | None = None, ct_pixels: str = SIGNED_16
) -> StoredSlice:
    """A slice's values as the image object of `modality` keeps them; outside: where it holds padding."""
    if modality == "CT":
        return _ct_slice_of_12_bits(values, outside) if ct_pixels == UNSIGNED_12 else _ct_slice(values)
    return _pet_slice(values, image) if modality == "PT" else _mr_slice(values, image)


def padding_value(stored: StoredSlice, outside: Mask | None) -> int | None:
    """The one stored value of all that lies outside, when no voxel inside has it; else None (T4)."""
    if outside is None or not outside.any():
        return None
    value = int(stored.pixels[outside][0])
    is_padding: Mask = stored.pixels == value
    return value if np.array_equal(is_padding, outside) else None


def storable_padding(outside_values: Values) -> Values:
    """A CT's padding as 16 signed bits of HU hold it: senders' can lie beyond (stored -32768 with intercept -1024)."""
    return np.clip(outside_values, -LARGEST - 1, LARGEST)


def _ct_slice(values: Values) -> StoredSlice:
    """HU rounded to whole numbers (T1): off by at most 0.5 HU. What 16 bits cannot hold, the output gate finds."""
    rounded = np.rint(values)
    return StoredSlice(np.clip(rounded, -LARGEST - 1, LARGEST, out=rounded).astype(np.int16), _hounsfield(0))


def _ct_slice_of_12_bits(values: Values, outside: Mask | None) -> StoredSlice:
    """HU from -1024 to 3071 as old scanners wrote them, for receivers that know no other; the rest is cut (T1)."""
    highest = 2**UNSIGNED_BITS - 1
    stored = np.rint(values) - UNSIGNED_INTERCEPT
    beyond = (stored < 0) | (stored > highest)
    return StoredSlice(
        np.clip(stored, 0, highest).astype(np.uint16),
        _hounsfield(UNSIGNED_INTERCEPT),
        bits=UNSIGNED_BITS,
        clipped=int((beyond if outside is None else beyond & ~outside).sum()),
    )


def _hounsfield(intercept: int) -> dict[str, str]:
    return {"RescaleIntercept": str(intercept), "RescaleSlope": "1", "RescaleType": "HU"}


def _pet_slice(values: Values, image: SourceImage) -> StoredSlice:
    """Signed 16 bits over the slice's own slope, intercept 0 (P3): off by at most half a slope."""
    peak = float(np.abs(values).max())
    slope = decimal_string_at_least(peak / LARGEST) if peak > 0 else f"{abs(image.slope):.10g}"
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
