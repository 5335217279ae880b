"""The stacks that the files of one series make, planned from their headers: what runs together and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicomnode.acquisition import unit_of
from dicomnode.errors import SeriesUnusable
from dicomnode.input_gate import Allowed as Allowed
from dicomnode.input_gate import fit_images
from dicomnode.mixed import Kind, finer_kinds, kinds_apart, one_kind, refuse_contradictions, words_apart
from dicomnode.multiframe.enhanced import source_images
from dicomnode.source_image import SourceImage
from dicomnode.stack import UNEVEN, even_parts, regular_stack, shares_position, stack_in_place
from dicomnode.temporal import time_frames
from inference.volume import Geometry, Unit


@dataclass(frozen=True, slots=True, eq=False)
class StackPlan:
    """One stack to be loaded and run.

    images: headers in slice order, slice 0 first along the stack normal. group: stacks of the same group become one
    derived series (the time frames of a dynamic or gated PET). frame: number of the time frame from 1, 0 when there
    are none. apart: ASCII words that say what sets the group apart from the series' other groups, e.g. "EchoTime 80";
    empty when it is the only one. left_out: sentences for the audit: what of the series is in no stack, and what is
    unusual about this one.
    """

    images: tuple[SourceImage, ...]
    unit: Unit
    geometry: Geometry
    group: int = 0
    frame: int = 0
    apart: str = ""
    left_out: tuple[str, ...] = ()


def planned_stacks(files: Sequence[Path], *, allowed: Allowed) -> tuple[StackPlan, ...]:
    """The stacks of a series in the order in which they should run; only headers are read.

    Every image is in exactly one stack or named in `left_out`. Raises SeriesUnusable, with a stable reason code, for
    what cannot be run whole and is not allowed to be split.
    """
    instances = [image for path in files for image in source_images(path)]
    images, left_out = fit_images(instances, allowed=allowed)
    images = sorted(images, key=_in_order)
    refuse_contradictions(images)
    kinds = _kinds(images, allowed)
    groups = [(kind, part) for kind in kinds for part in _parts(kind, allowed)]
    plans = []
    for group, ((_, part), apart) in enumerate(zip(groups, _distinct(groups), strict=True)):
        numbers = range(1, len(part) + 1) if len(part) > 1 else [0]
        plans += [
            replace(plan, group=group, frame=frame, apart=apart, left_out=(*left_out, *plan.left_out))
            for frame, plan in zip(numbers, part, strict=True)
        ]
    return tuple(plans)


def _in_order(image: SourceImage) -> tuple[float, str, int]:
    number = image.number("InstanceNumber")
    return (np.inf if number is None else number), image.sop_instance_uid, image.frame


def _kinds(images: Sequence[SourceImage], allowed: Allowed) -> list[Kind]:
    if not allowed.split_mixed:
        return [one_kind(images)]
    return [part for kind in kinds_apart(images) for part in finer_kinds(kind, _is_clean) if part.images]


def _is_clean(images: Sequence[SourceImage]) -> bool:
    """Whether no two images of one time frame share a position."""
    try:
        frames = time_frames(images)
    except SeriesUnusable:
        return False
    return not any(shares_position(_corners(frame), _orientation(frame)) for frame in frames)


def _parts(kind: Kind, allowed: Allowed) -> list[list[StackPlan]]:
    """The stacks of one kind: part by part, and in each part its time frames."""
    times = time_frames(kind.images)
    frames = [_stacks_of_frame(frame, allowed) for frame in times]
    if len({len(stacks) for stacks in frames}) > 1:
        raise SeriesUnusable(
            "temporal-incomplete", "the time frames of the PET part in different ways; send all its images again"
        )
    short = _slices_short(kind.images) if len(times) == 1 else ()
    return [[replace(plan, left_out=(*short, *plan.left_out)) for plan in part] for part in zip(*frames, strict=True)]


def _slices_short(images: Sequence[SourceImage]) -> tuple[str, ...]:
    """A sentence where a PET counts another number of slices than are there: its end slices may be missing (I6).

    It is a sentence for the audit and no refusal. A gap inside the series shows by itself and is refused; slices
    missing at an end leave a sound shorter stack, whose values are right. NumberOfSlices (Type 1) would prove them
    missing if it were always right, but scanners write the slices of one bed position there, or count what they later
    cut off, and a series with such a header would never run. The series is whole by evidence only when the count
    agrees (see gather); else it was quiet for as long as the rule waits.
    """
    counted = images[0].number("NumberOfSlices")
    if images[0].text("Modality") != "PT" or counted is None or counted == len(images):
        return ()
    said = "\\".join(images[0].texts("NumberOfSlices"))
    return (f"NumberOfSlices counts {said} slices and {len(images)} are there: see whether the ends are complete",)


def _stacks_of_frame(images: Sequence[SourceImage], allowed: Allowed) -> list[StackPlan]:
    if not allowed.split_uneven:
        return [_plan(images, allowed)]
    try:
        return [_plan(images, allowed)]
    except SeriesUnusable as fault:
        if fault.reason_code not in UNEVEN:
            raise
        told = str(fault).partition(";")[0]
    parts = even_parts(_corners(images), _orientation(images))
    plans = [_plan([images[index] for index in part], allowed) for part in parts]
    note = f"{told}: the series was split into {len(parts)} evenly spaced parts"
    return [replace(plan, left_out=(note, *plan.left_out)) for plan in plans]


def _plan(images: Sequence[SourceImage], allowed: Allowed) -> StackPlan:
    first = images[0]
    spacing = first.numbers("PixelSpacing")
    stack = (stack_in_place if allowed.slicewise else regular_stack)(
        _corners(images),
        _orientation(images),
        pixel_spacing_mm=(spacing[0], spacing[1]),
        slice_thickness_mm=first.number("SliceThickness"),
    )
    ordered = tuple(
        replace(images[index], position_mm=position)
        for index, position in zip(stack.order, stack.positions_mm, strict=True)
    )
    units = {unit_of(image) for image in ordered}
    if len(units) != 1:
        raise SeriesUnusable("mixed-units", "the series holds values of several units; send each as its own series")
    geometry = Geometry(stack.affine, first.text("FrameOfReferenceUID"), stack.corners_mm)
    return StackPlan(ordered, units.pop(), geometry, left_out=(*stack.notes, *_varying(ordered)))


def _varying(images: Sequence[SourceImage]) -> tuple[str, ...]:
    """Sentences on what varies from slice to slice and is allowed to (I9); a PET's slope always does."""
    keywords = ["RescaleIntercept", "BitsStored", "PixelRepresentation"]
    if images[0].text("Modality") != "PT":
        keywords.append("RescaleSlope")
    varying = [
        keyword for keyword in keywords if len({image.numbers(keyword) or image.texts(keyword) for image in images}) > 1
    ]
    notes = [f"{keyword} varies between slices: each was converted by its own" for keyword in varying]
    thicknesses = {image.number("SliceThickness") for image in images}
    if len(thicknesses) > 1:
        known = sorted(thickness for thickness in thicknesses if thickness is not None)
        said = " and ".join(dict.fromkeys(f"{thickness:.4g} mm" for thickness in (known[:1] + known[-1:])))
        absent = "" if None not in thicknesses else ", and absent in some"
        notes.append(f"SliceThickness varies between slices ({said}{absent}): the distance between them was used")
    return tuple(notes)


def _corners(images: Sequence[SourceImage]) -> NDArray[np.float64]:
    return np.array([image.numbers("ImagePositionPatient") for image in images], np.float64)


def _orientation(images: Sequence[SourceImage]) -> tuple[float, ...]:
    return images[0].numbers("ImageOrientationPatient")


def _distinct(groups: Sequence[tuple[Kind, list[StackPlan]]]) -> list[str]:
    """For each group the words that set it apart: its kind, and its place when the kind was split into parts."""
    kinds = list(dict.fromkeys(kind for kind, _ in groups))
    of_kind = dict(zip(kinds, words_apart(kinds), strict=True))
    counts = Counter(kind for kind, _ in groups)
    words = [
        ", ".join(filter(None, [of_kind[kind], _place(part[0]) if counts[kind] > 1 else ""])) for kind, part in groups
    ]
    several = Counter(words)
    if len(groups) == 1 or max(several.values()) == 1:
        return words if len(groups) > 1 else [""]
    return [f"{word}, stack {number}" for number, word in enumerate(words, 1)]


def _place(plan: StackPlan) -> str:
    low, high = plan.images[0].position_mm, plan.images[-1].position_mm
    return f"slices from {low:.6g} to {high:.6g} mm" if len(plan.images) > 1 else f"slice at {low:.6g} mm"
