"""The headers a mask or a map is laid on: one per slice, with the stack's true places and distances."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import neutral_dataset, neutral_derived
from dicomnode.errors import OutputFault


def source_headers(derivation: Derivation) -> list[Dataset]:
    """Of the source images in slice order; of the derived images where the sources are frames of a multi-frame one.

    A mask of some frames of an enhanced instance could not be matched to its single frames by a reader that holds the
    derived series only; the derived images lie at the same places and stand for them.
    """
    if any(image.frame for image in derivation.images):
        return derived_headers(derivation)
    return _on_grid([neutral_dataset(image) for image in derivation.images], derivation)


def derived_headers(derivation: Derivation) -> list[Dataset]:
    """Of the derived images in slice order."""
    return _on_grid([neutral_derived(header) for header in derivation.derived], derivation)


def _on_grid(headers: Sequence[Dataset], derivation: Derivation) -> list[Dataset]:
    """The headers with what the slices share said alike, and the distance between slices as measured.

    SpacingBetweenSlices of the source is not trusted: readers place frames by it, and some senders write another.
    """
    geometry = derivation.source.geometry
    orientation = headers[0].ImageOrientationPatient
    for header in headers:
        if not header.get("FrameOfReferenceUID"):
            raise OutputFault("C4", "the source has no FrameOfReferenceUID; no mask or map can be laid on it")
        header.ImageOrientationPatient = orientation
        header.SliceThickness = header.get("SliceThickness") or f"{geometry.spacing_mm[0]:.10g}"
        if "SpacingBetweenSlices" in header:
            del header.SpacingBetweenSlices
        if geometry.is_even:  # said of a single slice too: highdicom 0.28.2 would write 1.0 there
            header.SpacingBetweenSlices = f"{geometry.spacing_mm[0]:.10g}"
    return list(headers)


def of_one_pixel(headers: Sequence[Dataset]) -> list[Dataset]:
    """The headers as of images of a single pixel.

    highdicom holds the pixels of an object several times at once. It is given one pixel a frame, to make everything
    but the pixels; those are written when the file is.
    """
    for header in headers:
        header.Rows = header.Columns = 1
    return list(headers)
