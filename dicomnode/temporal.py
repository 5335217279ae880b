"""The time frames of a dynamic or gated PET: each a complete stack of the same slices, or the series is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicomnode.errors import SeriesUnusable
from dicomnode.source_image import SourceImage

SAME_POSITION_MM = 0.01
IDENTIFIERS = ("TemporalPositionIdentifier", "TemporalPositionIndex")
"""What tells the time frames apart where ImageIndex does not; the second is the name of the enhanced objects."""


def time_frames(images: Sequence[SourceImage]) -> list[tuple[SourceImage, ...]]:
    """The images of each time frame, the first frame first; all of them together when the series has only one.

    Raises SeriesUnusable where a frame is not complete or does not lie where the others lie.
    """
    if images[0].text("Modality") != "PT":
        return [tuple(images)]
    is_temporal = any(image.text("SeriesType") in ("DYNAMIC", "GATED") for image in images)
    counts_images = any(image.texts("ImageIndex") for image in images)
    for keyword in IDENTIFIERS:
        has_identifiers = len({image.text(keyword) for image in images}) > 1
        if has_identifiers and (all(image.frame for image in images) or not is_temporal or not counts_images):
            return _same_places(_frames_by_identifier(images, keyword))
    return _same_places(_frames_by_index(images)) if is_temporal else [tuple(images)]


def _frames_by_index(images: Sequence[SourceImage]) -> list[list[SourceImage]]:
    """PS3.3 C.8.9.4.1.9: ImageIndex counts the slices of the first frame, then those of the second, and so on."""
    for keyword in ("SeriesType", "NumberOfSlices", "NumberOfTimeSlices", "NumberOfRRIntervals", "NumberOfTimeSlots"):
        if len({image.texts(keyword) for image in images}) > 1:
            raise _incomplete(f"{keyword} varies within the series")
    slices = _count(images[0], "NumberOfSlices")
    if slices is None:
        raise _incomplete("NumberOfSlices is not given")
    by_index: dict[int, SourceImage] = {}
    for image in images:
        index = _count(image, "ImageIndex")
        if index is None:
            raise _incomplete(f"instance {image.sop_instance_uid} has no ImageIndex")
        if index in by_index:
            raise _incomplete(f"ImageIndex {index} is there twice")
        by_index[index] = image
    frames = (max(by_index) + slices - 1) // slices
    said = _frames_said(images[0])
    if said is not None and said != frames:
        raise _incomplete(f"the header counts {said} time frames, and {frames} are there")
    if len(by_index) != frames * slices:
        raise _incomplete(f"{frames * slices - len(by_index)} of {frames * slices} images are missing")
    return [[by_index[frame * slices + k] for k in range(1, slices + 1)] for frame in range(frames)]


def _frames_said(image: SourceImage) -> int | None:
    """How many time frames the header counts; None when it does not say."""
    if image.text("SeriesType") == "DYNAMIC":
        return _count(image, "NumberOfTimeSlices")
    slots = _count(image, "NumberOfTimeSlots")
    return slots * (_count(image, "NumberOfRRIntervals") or 1) if slots is not None else None


def _frames_by_identifier(images: Sequence[SourceImage], keyword: str) -> list[list[SourceImage]]:
    """The temporal positions that the images name, in their order."""
    frames: dict[int, list[SourceImage]] = {}
    for image in images:
        number = _count(image, keyword)
        if number is None:
            raise _incomplete(f"an image of instance {image.sop_instance_uid} has no temporal position")
        frames.setdefault(number, []).append(image)
    if sorted(frames) != list(range(1, len(frames) + 1)):
        raise _incomplete(f"{max(frames) - len(frames)} temporal positions are missing")
    is_counted = not images[0].frame and images[0].text("SeriesType") in ("DYNAMIC", "GATED")
    said = _frames_said(images[0]) if is_counted else None
    if said is not None and said != len(frames):
        raise _incomplete(f"the header counts {said} time frames, and {len(frames)} are there")
    return [frames[number] for number in sorted(frames)]


def _same_places(frames: list[list[SourceImage]]) -> list[tuple[SourceImage, ...]]:
    """The frames, each of as many slices in the same places."""
    places = [_places(frame) for frame in frames]
    for number, place in enumerate(places[1:], 2):
        if place.shape != places[0].shape:
            raise _incomplete(f"time frame {number} has {len(place)} slices, the first has {len(places[0])}")
        if np.abs(place - places[0]).max() > SAME_POSITION_MM:
            raise _incomplete(f"the slices of time frame {number} do not lie where those of the first lie")
    return [tuple(frame) for frame in frames]


def _places(frame: Sequence[SourceImage]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(slices, 3) mm, in the order along the normal."""
    corners = np.array([image.numbers("ImagePositionPatient") for image in frame], np.float64)
    orientation = frame[0].numbers("ImageOrientationPatient")
    along = corners @ np.cross(orientation[:3], orientation[3:])
    places: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = corners[np.argsort(along, kind="stable")]
    return places


def _count(image: SourceImage, keyword: str) -> int | None:
    """A whole number from 1; None when the attribute holds none."""
    number = image.number(keyword)
    return int(number) if number is not None and number >= 1 and number == int(number) else None


def _incomplete(what: str) -> SeriesUnusable:
    return SeriesUnusable(
        "temporal-incomplete", f"the PET is dynamic or gated, and {what}; send all its time frames again"
    )
