"""What must hold of a derived series as a whole."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.description import FIRST_BESIDE, TEN_DIGITS
from dicomnode.gate.recall import Recall
from dicomnode.gate.rules import Finding, asked, is_synthesized, items, numbers, text, texts
from dicomnode.source_image import SourceImage

SAME_POSITION_MM = 0.01
LARGEST_IS = 2**31 - 1
ONE_VALUE: Mapping[str, str] = {
    "C1": "SOPClassUID Modality",
    "C2": "StudyInstanceUID PatientID",
    "C4": "FrameOfReferenceUID",
    "C5": "Rows Columns PixelSpacing ImageOrientationPatient",
    "C7": "SeriesNumber",
    "C8": "SeriesDescription",
    "C9": "Manufacturer ManufacturerModelName SoftwareVersions DeviceSerialNumber DeviceUID StationName",
    "C16": "SeriesDate SeriesTime",
    "C17": "ContentDate ContentTime InstanceCreationDate InstanceCreationTime",
    "C22": "ContentQualification",
    "C23": "SyntheticData",
    "P4": "NumberOfSlices NumberOfTimeSlices NumberOfTimeSlots NumberOfRRIntervals",
    "M3": "EchoNumbers EchoTime DiffusionBValue TemporalPositionIdentifier",
}
"""What all instances of a derived series share: what the node says, and what makes them one stack of one patient.

What else is copied may vary from image to image as it does in the source; each image is asked for it by itself.
"""
NEAR: Mapping[str, float] = {"PixelSpacing": 1e-3, "ImageOrientationPatient": 0.02}
"""How far numbers may lie apart; any other number is the same however it is written."""
KEYWORDS = tuple(keyword for keywords in ONE_VALUE.values() for keyword in keywords.split())
Said = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Member:
    """What one instance says of itself as a member of its series; no pixels, and what all share is kept once.

    said: the values of KEYWORDS. source: instance and frame of the image it was made of; of_series: the series of
    the images it names.
    """

    uid: str
    number: str
    index: str
    position: tuple[float, ...]
    source: str
    of_series: frozenset[str]
    series_type: str
    is_synthesized: bool
    said: Said

    def values(self, keyword: str) -> tuple[str, ...]:
        """All values of one of KEYWORDS."""
        return self.said[KEYWORDS.index(keyword)]

    def value(self, keyword: str) -> str:
        """The first of them, empty where there is none."""
        return (self.values(keyword) or ("",))[0]


@dataclass(slots=True)
class Members:
    """The members of a series as they are made; recall: of the gate that has asked them."""

    all: list[Member] = field(default_factory=list)
    recall: Recall = field(default_factory=Recall)
    _known: dict[object, object] = field(default_factory=dict)

    @classmethod
    def of(cls, datasets: Iterable[Dataset]) -> Members:
        """The members that these instances are."""
        members = cls()
        for dataset in datasets:
            members.add(dataset)
        return members

    def add(self, dataset: Dataset) -> Member:
        """One instance more."""
        said, of_series = self.recall.of(_said, dataset), self.recall.of(_of_series, dataset)
        member = Member(
            uid=text(dataset, "SOPInstanceUID"),
            number=text(dataset, "InstanceNumber"),
            index=text(dataset, "ImageIndex"),
            position=numbers(dataset, "ImagePositionPatient"),
            source=first_source(dataset),
            of_series=self._known.setdefault(of_series, of_series),  # type: ignore[arg-type]
            series_type=text(dataset, "SeriesType"),
            is_synthesized=self.recall.of(is_synthesized, dataset),
            said=self._known.setdefault(said, said),  # type: ignore[arg-type]
        )
        self.all.append(member)
        return member


def _said(dataset: Dataset) -> Said:
    return tuple(texts(dataset, keyword) for keyword in KEYWORDS)


def _of_series(dataset: Dataset) -> frozenset[str]:
    return frozenset(text(item, "SeriesInstanceUID") for item in items(dataset, "ReferencedSeriesSequence"))


def series_findings(members: Sequence[Member]) -> Iterator[tuple[Finding, str]]:
    """What the instances of a derived series say together, each finding with the instance that it is about."""
    first = members[0]
    of_kind = {"CT": "CT", "PT": "CP", "MR": "CM"}.get(first.value("Modality"), "C")
    for rule, keywords in ONE_VALUE.items():
        if rule[0] not in of_kind or (rule == "C16" and "P" in of_kind):
            continue
        for keyword in keywords.split():
            expected = first.values(keyword)
            other = next((one for one in members if not _is_same(keyword, one.values(keyword), expected)), None)
            yield asked(rule, other is None, f"{keyword} is not the same in the whole series"), (other or first).uid
    yield from _once("C3", [(one.uid, one) for one in members], "two instances have one UID")
    yield from _once("C6", [(one.number, one) for one in members], "two instances have one InstanceNumber")
    yield from _once("C13", [(one.source, one) for one in members], "two instances were made of one source image")
    of_series = frozenset[str]().union(*(one.of_series for one in members))
    yield asked("C15", len(of_series) <= 1, "the instances were made of several series"), first.uid
    yield from _places(members)
    if first.value("Modality") == "PT":
        yield from _once("P4", [(one.index, one) for one in members], "two instances have one ImageIndex")
        if first.series_type in ("STATIC", "WHOLE BODY"):
            is_counted = _as_numbers(first.values("NumberOfSlices")) == (len(members),)
            yield asked("P4", is_counted, "NumberOfSlices is not the number of images"), first.uid


def _is_same(keyword: str, found: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    """Whether values are the same; two ways to write one number are."""
    if found == expected:
        return True
    one, other = _as_numbers(found), _as_numbers(expected)
    if not one or len(one) != len(other):
        return False
    return bool(np.allclose(one, other, rtol=1e-9, atol=NEAR.get(keyword, 0.0)))


def _as_numbers(values: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except ValueError:
        return ()


def _once(rule: str, named: Sequence[tuple[str, Member]], fault: str) -> Iterator[tuple[Finding, str]]:
    count = Counter(name for name, _ in named)
    twice = next((member for name, member in named if count[name] > 1), None)
    yield asked(rule, twice is None, fault), (twice or named[0][1]).uid


def first_source(dataset: Dataset) -> str:
    """Instance and frame of the first source image, the one whose place the derived image has."""
    item = next(iter(items(dataset, "SourceImageSequence")), Dataset())
    frame = text(item, "ReferencedFrameNumber")
    return " ".join(word for word in (text(item, "ReferencedSOPInstanceUID"), frame) if word)


def along_normal(members: Sequence[Member]) -> list[tuple[float, Member]]:
    """The members with their place along the stack's normal, lowest first; none where one does not say how it lies."""
    orientation = _as_numbers(members[0].values("ImageOrientationPatient"))
    if len(orientation) != 6 or any(len(one.position) != 3 for one in members):
        return []
    normal = np.cross(orientation[:3], orientation[3:])
    return sorted(((float(np.dot(one.position, normal)), one) for one in members), key=lambda pair: pair[0])


def _places(members: Sequence[Member]) -> Iterator[tuple[Finding, str]]:
    """No two slices of one moment lie at one place (C5)."""
    if members[0].series_type in ("DYNAMIC", "GATED"):
        return
    placed = along_normal(members)
    near = next((b for (x, _), (y, b) in itertools.pairwise(placed) if y - x < SAME_POSITION_MM), None)
    yield asked("C5", near is None, "two slices lie at the same place"), (near or members[0]).uid


def numbering_findings(pairs: Sequence[tuple[Member, SourceImage]]) -> Iterator[tuple[Finding, str]]:
    """Instance and series numbers follow from those of the sources (C6, C7); asked when every source is there."""
    first, source = pairs[0]
    wanted = [image.number("InstanceNumber") for _, image in pairs]
    made = [(_as_numbers((member.number,)) or (None,))[0] for member, _ in pairs]
    if None not in wanted and len(set(wanted)) == len(wanted):
        unlike = next((pair[0] for pair, one, other in zip(pairs, made, wanted, strict=True) if one != other), None)
        yield asked("C6", unlike is None, "InstanceNumber is not the source's"), (unlike or first).uid
    else:
        is_counted = sorted(value or 0 for value in made) == list(range(1, len(pairs) + 1))
        yield asked("C6", is_counted, "InstanceNumber does not count the images"), first.uid
    before, after = source.number("SeriesNumber"), (_as_numbers(first.values("SeriesNumber")) or (0,))[0]
    if before and 0 < before * 100 + 99 <= LARGEST_IS:
        follows = _follows(int(before), int(after))
        yield asked("C7", follows, "SeriesNumber does not follow from the source's"), first.uid


def _follows(before: int, after: int) -> bool:
    """As `description.series_number` makes it: of the first stack, of a further one, or of the node's own range."""
    own = range(before * 100 + 1, before * 100 + 100)
    is_further = after // 1000 in own and 0 < after % 1000 < FIRST_BESIDE
    start = TEN_DIGITS if own.start < TEN_DIGITS else 0
    is_own_range = start <= after < start + TEN_DIGITS and (after - start) % 10_000 == 0 and after > start
    return after in own or is_further or is_own_range


def synthesis_findings(
    pairs: Sequence[tuple[Member, SourceImage]], *, is_synthesized: bool = False
) -> Iterator[tuple[Finding, str]]:
    """The series says that it is synthetic when one of its sources is, or the step makes it so, and only then (C23)."""
    first = pairs[0][0]
    artificial = is_synthesized or any(
        member.is_synthesized
        or image.text("SyntheticData") == "YES"
        or image.text("Modality") != member.value("Modality")
        for member, image in pairs
    )
    is_said = any(member.value("SyntheticData") == "YES" for member, _ in pairs)
    yield asked("C23", is_said == artificial, "SyntheticData is not as the source series and the step say"), first.uid
