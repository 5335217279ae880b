"""What must hold of a derived series as a whole."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.gate.rules import Finding, asked, items, number, numbers, text, texts
from dicomnode.source_image import SourceImage

SAME_POSITION_MM = 0.01
LARGEST_IS = 2**31 - 1
ONE_VALUE: Mapping[str, str] = {
    "C1": "SOPClassUID Modality",
    "C2": "StudyInstanceUID PatientID PatientName PatientBirthDate PatientSex StudyDate StudyTime StudyID "
    "AccessionNumber",
    "C4": "FrameOfReferenceUID PositionReferenceIndicator",
    "C5": "Rows Columns PixelSpacing ImageOrientationPatient",
    "C7": "SeriesNumber",
    "C8": "SeriesDescription",
    "C9": "Manufacturer ManufacturerModelName SoftwareVersions DeviceSerialNumber DeviceUID StationName "
    "InstitutionName",
    "C16": "SeriesDate SeriesTime",
    "C17": "ContentDate ContentTime InstanceCreationDate InstanceCreationTime",
    "C19": "TimezoneOffsetFromUTC",
    "C22": "ContentQualification",
    "C23": "SyntheticData",
    "C29": "BodyPartExamined Laterality PatientPosition ProtocolName",
    "P1": "SeriesDate SeriesTime",
    "P2": "Units SeriesType CountsSource DecayCorrection",
    "P4": "NumberOfSlices NumberOfTimeSlices NumberOfTimeSlots NumberOfRRIntervals",
    "M3": "EchoNumbers EchoTime DiffusionBValue TemporalPositionIdentifier",
}
"""Attributes that all instances of a derived series share."""


def series_findings(datasets: Sequence[Dataset]) -> Iterator[tuple[Finding, str]]:
    """What the instances of a derived series say together, each finding with the instance that it is about.

    datasets: headers of all instances of the series.
    """
    first = datasets[0]
    of_kind = {"CT": "CT", "PT": "CP", "MR": "CM"}.get(text(first, "Modality"), "C")
    for rule, keywords in ONE_VALUE.items():
        if rule[0] not in of_kind or (rule == "C16" and "P" in of_kind):
            continue
        for keyword in keywords.split():
            expected = texts(first, keyword)
            other = next((one for one in datasets if texts(one, keyword) != expected), None)
            yield asked(rule, other is None, f"{keyword} is not the same in the whole series"), _uid(other or first)
    yield from _once("C3", [(text(one, "SOPInstanceUID"), one) for one in datasets], "two instances have one UID")
    counted = [(text(one, "InstanceNumber"), one) for one in datasets]
    yield from _once("C6", counted, "two instances have one InstanceNumber")
    sources = [(first_source(one), one) for one in datasets]
    yield from _once("C13", sources, "two instances were made of one source image")
    of_series = {text(item, "SeriesInstanceUID") for one in datasets for item in items(one, "ReferencedSeriesSequence")}
    yield asked("C15", len(of_series) <= 1, "the instances were made of several series"), _uid(first)
    yield from _places(datasets)
    if text(first, "Modality") == "PT":
        indices = [(text(one, "ImageIndex"), one) for one in datasets]
        yield from _once("P4", indices, "two instances have one ImageIndex")
        if text(first, "SeriesType") in ("STATIC", "WHOLE BODY"):
            is_counted = number(first, "NumberOfSlices") == len(datasets)
            yield asked("P4", is_counted, "NumberOfSlices is not the number of images"), _uid(first)


def _uid(dataset: Dataset) -> str:
    return text(dataset, "SOPInstanceUID")


def _once(rule: str, named: Sequence[tuple[str, Dataset]], fault: str) -> Iterator[tuple[Finding, str]]:
    count = Counter(name for name, _ in named)
    twice = next((dataset for name, dataset in named if count[name] > 1), None)
    yield asked(rule, twice is None, fault), _uid(twice or named[0][1])


def first_source(dataset: Dataset) -> str:
    """Instance and frame of the first source image, the one whose place the derived image has."""
    item = next(iter(items(dataset, "SourceImageSequence")), Dataset())
    frame = text(item, "ReferencedFrameNumber")
    return " ".join(word for word in (text(item, "ReferencedSOPInstanceUID"), frame) if word)


def _places(datasets: Sequence[Dataset]) -> Iterator[tuple[Finding, str]]:
    """No two slices of one moment lie at one place (C5)."""
    orientation = numbers(datasets[0], "ImageOrientationPatient")
    placed = [(numbers(one, "ImagePositionPatient"), one) for one in datasets]
    whole = len(orientation) == 6 and all(len(position) == 3 for position, _ in placed)
    is_one_moment = text(datasets[0], "SeriesType") not in ("DYNAMIC", "GATED")
    if not whole or not is_one_moment or len(datasets) < 2:
        return
    normal = np.cross(orientation[:3], orientation[3:])
    along = sorted(((float(np.dot(position, normal)), one) for position, one in placed), key=lambda pair: pair[0])
    near = next((b for (x, _), (y, b) in itertools.pairwise(along) if y - x < SAME_POSITION_MM), None)
    yield asked("C5", near is None, "two slices lie at the same place"), _uid(near or datasets[0])


def numbering_findings(pairs: Sequence[tuple[Dataset, SourceImage]]) -> Iterator[tuple[Finding, str]]:
    """Instance and series numbers follow from those of the sources (C6, C7); asked when every source is there."""
    first, source = pairs[0]
    wanted = [image.number("InstanceNumber") for _, image in pairs]
    made = [number(dataset, "InstanceNumber") for dataset, _ in pairs]
    if None not in wanted and len(set(wanted)) == len(wanted):
        unlike = next((pair[0] for pair, one, other in zip(pairs, made, wanted, strict=True) if one != other), None)
        yield asked("C6", unlike is None, "InstanceNumber is not the source's"), _uid(unlike or first)
    else:
        is_counted = sorted(value or 0 for value in made) == list(range(1, len(pairs) + 1))
        yield asked("C6", is_counted, "InstanceNumber does not count the images"), _uid(first)
    before, after = source.number("SeriesNumber"), number(first, "SeriesNumber") or 0
    if before and 0 < before * 100 + 99 <= LARGEST_IS:
        follows = before * 100 < after < before * 100 + 100
        yield asked("C7", follows, "SeriesNumber does not follow from the source's"), _uid(first)
