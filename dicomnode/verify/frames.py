"""Masks and maps beside a derived series: their frames lie where the images lie, and say what the images show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ParametricMapStorage, SegmentationStorage

from dicomnode.codecs import DECODER_OF
from dicomnode.errors import SeriesUnusable
from dicomnode.gate.rules import Finding, asked, items, number, numbers, text
from dicomnode.gate.series_rules import first_source
from dicomnode.verify.lookup import Lookup, Place
from dicomnode.verify.pixels import difference

RULE_OF = {str(SegmentationStorage): "S1", "1.2.840.10008.5.1.4.1.1.66.7": "S1", str(ParametricMapStorage): "S3"}
CHANGE, UNCERTAINTY = "CHANGE", "UNCERTAINTY"
MISSING = "the images that its frames lie on are not there"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where it lies, and the images it names as "UID" or "UID frame"."""

    place: Place
    named: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrameAnswers:
    """What a mask or map gave. changed: the derived images whose change it says, frame by frame."""

    findings: Sequence[Finding]
    not_asked: str = ""
    changed: frozenset[str] = frozenset()


def frame_answers(dataset: FileDataset, lookup: Lookup) -> FrameAnswers:
    """A segmentation or parametric map, held against the images it names; `dataset` with its pixels."""
    rule = RULE_OF[text(dataset, "SOPClassUID")]
    frames = frames_of(dataset)
    findings = [asked(rule, frames, "it has no frames")]
    asked_of = 0
    for k, frame in enumerate(frames, 1):
        places = [place for place in map(lookup.place, frame.named) if place is not None]
        asked_of += bool(places)
        wrong = next(filter(None, (frame.place.misses(place) for place in places)), "")
        findings.append(asked(rule, not wrong, f"frame {k} does not lie on its image: another {wrong}"))
        findings.append(asked(rule, frame.named, f"frame {k} does not name the image it lies on"))
    try:
        stored = stored_frames(dataset)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as fault:
        unread = Finding(rule, False, f"its pixels cannot be read ({type(fault).__name__})")
        return FrameAnswers([*findings, unread])
    if len(stored) != len(frames):
        return FrameAnswers([*findings, Finding(rule, False, "it has not as many frames as places")])
    why = MISSING if asked_of < len(frames) else ""
    if rule == "S1":
        empty = [k for k, one in enumerate(stored, 1) if not one.any()]
        said = f"frame {empty[0]} of the mask is empty" if empty else ""
        return FrameAnswers([*findings, asked(rule, not empty, said)], why)
    of_map, unsettled, changed = _map_findings(dataset, frames, stored, lookup)
    return FrameAnswers([*findings, *of_map], why or unsettled, changed)


def frames_of(dataset: Dataset) -> list[Frame]:
    """The frames by their functional groups; what all share stands for each."""
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    size = number(dataset, "Rows"), number(dataset, "Columns")
    found = []
    for group in items(dataset, "PerFrameFunctionalGroupsSequence"):
        position, orientation, spacing = (
            numbers(_macro(group, shared, macro), keyword)
            for macro, keyword in (
                ("PlanePositionSequence", "ImagePositionPatient"),
                ("PlaneOrientationSequence", "ImageOrientationPatient"),
                ("PixelMeasuresSequence", "PixelSpacing"),
            )
        )
        place = Place(text(dataset, "FrameOfReferenceUID"), position, orientation, spacing, size)
        named = [
            " ".join(filter(None, (text(one, "ReferencedSOPInstanceUID"), text(one, "ReferencedFrameNumber"))))
            for derivation in items(group, "DerivationImageSequence") or items(shared, "DerivationImageSequence")
            for one in items(derivation, "SourceImageSequence")
        ]
        found.append(Frame(place, tuple(named)))
    return found


def _macro(group: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return next(iter(items(group, keyword) or items(shared, keyword)), Dataset())


def stored_frames(dataset: FileDataset) -> NDArray[Any]:
    """(frames, voxels) of the stored values; raises ValueError when their length is wrong."""
    voxels = int(dataset.Rows) * int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames") or 1)
    if "FloatPixelData" in dataset:
        return np.frombuffer(dataset.FloatPixelData, "<f4", count * voxels).reshape(count, voxels)
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated or not syntax.is_little_endian:
        decoded, _ = get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=DECODER_OF.get(syntax, ""))
        return decoded.reshape(count, voxels)
    if int(dataset.BitsAllocated) == 1:
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little", count=count * voxels)
        return bits.reshape(count, voxels)
    kind = f"<u{int(dataset.BitsAllocated) // 8}"
    return np.frombuffer(dataset.PixelData, kind, count * voxels).reshape(count, voxels)


def _map_findings(
    dataset: Dataset, frames: Sequence[Frame], stored: NDArray[Any], lookup: Lookup
) -> tuple[list[Finding], str, frozenset[str]]:
    """A change map is derived minus source; an uncertainty is a standard deviation (S3)."""
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    mapping = _macro(Dataset(), shared, "RealWorldValueMappingSequence")
    label = text(mapping, "LUTLabel")
    is_plain = (number(mapping, "RealWorldValueSlope"), number(mapping, "RealWorldValueIntercept")) == (1.0, 0.0)
    findings = [
        asked("S3", label in (CHANGE, UNCERTAINTY), "it is neither a change map nor an uncertainty map"),
        asked("S3", is_plain, "its real world values are not its stored ones"),
        asked("S3", np.isfinite(stored).all(), "it holds values that are not finite"),
    ]
    if label != CHANGE:
        findings.append(asked("S3", (stored >= 0).all(), "a standard deviation is below zero"))
        return findings, "", frozenset()
    changed: list[str] = []
    unsettled = ""
    for k, (frame, values) in enumerate(zip(frames, stored, strict=True), 1):
        derived = next(filter(None, (_derived(one, lookup) for one in frame.named)), None)
        source = None if derived is None else lookup.source(first_source(derived))
        if derived is None or source is None:
            unsettled = MISSING
            continue
        changed.append(text(derived, "SOPInstanceUID"))
        try:
            found = difference(derived, source)
        except (SeriesUnusable, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
            unsettled = "the pixels of its images cannot be read"
            continue
        is_so = found.is_said_by(values.reshape(found.change.shape).astype(np.float64))
        findings.append(asked("S3", is_so, f"frame {k} of the change map is not derived minus source"))
    return findings, unsettled, frozenset(changed)


def _derived(named: str, lookup: Lookup) -> FileDataset | None:
    return lookup.derived(named.partition(" ")[0], with_pixels=True)
