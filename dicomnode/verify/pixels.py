"""What can be asked of a derived image's pixels without the pipeline: that they decode, their padding and range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicomnode.errors import SeriesUnusable
from dicomnode.gate.kind_rules import PIXEL_RULE
from dicomnode.gate.pixel_rules import (
    padding_findings,
    range_finding,
    restored_findings,
    stored_values,
    values_of,
)
from dicomnode.gate.rules import Finding, asked, number, text
from dicomnode.pixels import outside_of, real_values, stored_pixels
from dicomnode.source_image import UNREADABLE, SourceImage

Reach = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PixelAnswers:
    """What one image's pixels gave. reach, source_reach: least and greatest value in the field of view, in HU.

    not_asked: rules that could not be asked, each with the reason; is_sourced: whether the source was there.
    is_unchanged: whether the image shows its source's own values; None where that cannot be said.
    """

    findings: Sequence[Finding]
    reach: Reach | None = None
    source_reach: Reach | None = None
    not_asked: dict[str, str] = field(default_factory=dict)
    is_sourced: bool = True
    is_unchanged: bool | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A derived image minus its source, 0 where the source has padding. tolerance: what storing allows.

    is_lowest, is_highest: where the pixels have the last value they can have, and more may have been cut off.
    """

    change: NDArray[np.float64]
    tolerance: float
    is_lowest: NDArray[np.bool_]
    is_highest: NDArray[np.bool_]

    def is_said_by(self, expected: NDArray[np.float64] | float) -> bool:
        """Whether the change is the one that is expected."""
        off = expected - self.change
        wrong = ((off > self.tolerance) & ~self.is_highest) | ((off < -self.tolerance) & ~self.is_lowest)
        return not wrong.any()


def difference(dataset: FileDataset, source: SourceImage) -> Difference:
    """Derived minus source, in the source's unit; both of one modality.

    Raises SeriesUnusable or what pydicom raises for pixels that cannot be read.
    """
    return _difference(dataset, stored_values(dataset), *_source_values(source))


def _difference(
    dataset: FileDataset, stored: NDArray[Any], before: NDArray[np.float32], outside: NDArray[np.bool_] | None
) -> Difference:
    values = values_of(dataset, stored)
    if values.shape != before.shape:
        raise ValueError("the derived image is not on its source's grid")
    change = values - before
    slope = number(dataset, "RescaleSlope")
    step = 1.0 if slope is None else slope
    bits, offset = int(dataset.BitsStored), 2 ** (int(dataset.BitsStored) - 1) if dataset.PixelRepresentation else 0
    ends = stored == -offset, stored == 2**bits - 1 - offset
    is_lowest, is_highest = ends if step > 0 else ends[::-1]
    if outside is not None:
        change[outside] = 0.0
        is_lowest, is_highest = is_lowest & ~outside, is_highest & ~outside
    largest = max(float(np.abs(values).max()), float(np.abs(before).max()))
    return Difference(change, 0.5001 * abs(step) + 2e-6 * largest, is_lowest, is_highest)


def pixel_answers(dataset: FileDataset, source: SourceImage | None) -> PixelAnswers:
    """The image's pixels by themselves, and beside those of its source; an unreadable image is a finding."""
    modality = text(dataset, "Modality")
    rule = PIXEL_RULE.get(modality, "C1")
    try:
        stored = stored_values(dataset)
    except UNREADABLE as fault:
        return PixelAnswers([Finding(rule, False, f"the pixels cannot be read ({type(fault).__name__})")])
    findings = [Finding(rule, True, "")]
    if modality != "CT":
        return PixelAnswers(findings, is_unchanged=_is_unchanged(dataset, stored, source))
    values = values_of(dataset, stored)
    if source is None:
        declared = stored == number(dataset, "PixelPaddingValue") if "PixelPaddingValue" in dataset else None
        missing = {"T4": "the source image is not there"}
        return PixelAnswers(findings, _reach(values, declared), None, missing, is_sourced=False)
    if source.text("Modality") != "CT":
        return PixelAnswers([*findings, *padding_findings(dataset, stored, None)], _reach(values, None))
    try:
        source_values, outside = _source_values(source)
    except SeriesUnusable as fault:
        return PixelAnswers(findings, not_asked={"T4": f"the source's pixels cannot be read: {fault}"})
    if source_values.shape != values.shape:
        return PixelAnswers([*findings, Finding("C5", False, "the pixels are not on the source's grid")])
    held = None if outside is None else source_values[outside]
    findings += padding_findings(dataset, stored, outside)
    findings += restored_findings(values, held, outside, is_12_bit=number(dataset, "BitsStored") == 12)
    is_unchanged = _difference(dataset, stored, source_values, outside).is_said_by(0.0)
    return PixelAnswers(findings, _reach(values, outside), _reach(source_values, outside), is_unchanged=is_unchanged)


def _is_unchanged(dataset: FileDataset, stored: NDArray[Any], source: SourceImage | None) -> bool | None:
    if source is None:
        return None
    try:
        return _difference(dataset, stored, *_source_values(source)).is_said_by(0.0)
    except (SeriesUnusable, *UNREADABLE):
        return None


def _source_values(source: SourceImage) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    slope, intercept = source.number("RescaleSlope"), source.number("RescaleIntercept")
    image = replace(source, slope=1.0 if slope is None else slope, intercept=intercept or 0.0)
    header, stored = stored_pixels(image)
    values = real_values(header, stored, image)
    return values, outside_of(header, stored, values)


def _reach(values: NDArray[np.float64] | NDArray[np.float32], outside: NDArray[np.bool_] | None) -> Reach | None:
    inside = values if outside is None else values[~outside]
    return (float(inside.min()), float(inside.max())) if inside.size else None


def range_answers(answers: Sequence[tuple[str, PixelAnswers]]) -> Iterator[tuple[str, Finding | None]]:
    """HU that can be, or that the source series has somewhere (T5), image by image; None where it cannot be said."""
    known = [one.source_reach for _, one in answers if one.source_reach is not None]
    source_range = (min(low for low, _ in known), max(high for _, high in known)) if known else None
    for uid, one in answers:
        if one.reach is None:
            continue
        low, high = one.reach
        holds = range_finding(np.array(one.reach), source_range=source_range, outside=None).holds
        cannot_say = not holds and not one.is_sourced
        yield uid, None if cannot_say else asked("T5", holds, f"it holds values of {low:g} to {high:g} HU")
