"""A series is whole: by evidence when the headers give a count, else by quiet time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from dicomnode.rules import decides
from storage.catalog import Instance, Series

ACQUISITION_SETTLE_S = 1.0
GAP_TOLERANCE = 0.2
"""A step between neighbouring slices this much longer than the median is a gap."""


@dataclass(slots=True)
class _Told:
    """What some of a series' headers say together."""

    count: int = 0
    first: tuple[datetime, str] | None = None
    modality: Any = None
    """That of the instance that came first."""
    slices: set[Any] = field(default_factory=set)
    times: set[Any] = field(default_factory=set)
    announced: dict[Any, set[Any]] = field(default_factory=dict)
    """Acquisition Number -> what its images give as Images in Acquisition."""
    places_mm: list[float] | None = field(default_factory=list)
    """Along the slices' normal, in the order they came; None as soon as one image does not say where it lies."""

    def add(self, instance: Instance) -> None:
        header, came = instance.header, (instance.received_at, instance.sop_instance_uid)
        self.count += 1
        if self.first is None or came < self.first:
            self.first, self.modality = came, header.get("Modality")
        self.slices.add(header.get("NumberOfSlices"))
        self.times.add(header.get("NumberOfTimeSlices", 1) or 1)
        self.announced.setdefault(header.get("AcquisitionNumber"), set()).add(header.get("ImagesInAcquisition"))
        place_mm = _place_mm(header)
        if place_mm is None:
            self.places_mm = None
        elif self.places_mm is not None:
            self.places_mm.append(place_mm)


class Tally:
    """The few numbers that tell whether a series is whole, kept as its instances come."""

    def __init__(self, instances: Iterable[Instance] = ()) -> None:
        self._images, self._all = _Told(), _Told()
        for instance in instances:
            self.add(instance)

    def add(self, instance: Instance) -> None:
        """One more instance of the series; each is added once."""
        self._all.add(instance)
        if decides(instance.header):
            self._images.add(instance)

    @property
    def instance_count(self) -> int:
        """How many instances were added."""
        return self._all.count

    @property
    def deciding(self) -> _Told:
        """What its images say, or all its instances where it has none; as `rules.deciding_headers`."""
        return self._images if self._images.count else self._all


def whole_because(series: Series, tally: Tally, *, quiet_seconds: float, now: datetime) -> str | None:
    """Why the series counts as whole, or None while it does not."""
    evidence, count = expected_count(tally), tally.deciding.count
    age = now - series.last_received_at
    is_quiet = age >= timedelta(seconds=quiet_seconds)
    settled = age >= timedelta(seconds=min(quiet_seconds, _settle_s(evidence)))
    reached = evidence is not None and evidence[0] == count and settled
    if not reached and not is_quiet:
        return None
    gap = slice_gap(tally)
    if reached and gap is None and evidence is not None:
        return f"all {count} instances that {evidence[1]} announces are here, without a gap"
    if not is_quiet:
        return None
    short = "" if evidence is None or evidence[0] == count else f"; {evidence[1]} announced {evidence[0]}"
    return f"nothing came for {quiet_seconds:g} s; {count} images are here{short}{'' if gap is None else f'; {gap}'}"


def _settle_s(evidence: tuple[int, str] | None) -> float:
    """How long a reached count must stand: a count per acquisition says nothing of acquisitions still to come."""
    return ACQUISITION_SETTLE_S if evidence is not None and evidence[1] == "ImagesInAcquisition" else 0.0


def expected_count(tally: Tally) -> tuple[int, str] | None:
    """How many images the headers announce, and by which attributes; None when they do not say.

    PET: Number of Slices x Number of Time Slices (PS3.3 C.8.9.1). Else Images in Acquisition (C.7.6.1), summed
    over the acquisitions seen, when every image gives it.
    """
    told = tally.deciding
    if not told.count:
        return None
    if told.modality == "PT" and len(told.slices) == 1 and len(told.times) == 1 and (number := next(iter(told.slices))):
        time_slices = next(iter(told.times))
        return int(number) * int(time_slices), "NumberOfSlices" if time_slices == 1 else (
            "NumberOfSlices x NumberOfTimeSlices"
        )
    if any(len(counts) != 1 or not next(iter(counts)) for counts in told.announced.values()):
        return None
    return sum(int(next(iter(counts))) for counts in told.announced.values()), "ImagesInAcquisition"


def slice_gap(tally: Tally) -> str | None:
    """Where a slice seems to be missing, in words; None when there is no gap or positions are not given."""
    places_mm = tally.deciding.places_mm
    if places_mm is None or len(places_mm) < 3:
        return None
    steps = np.diff(np.unique(np.round(places_mm, 3)))
    if not len(steps):
        return None
    usual = float(np.median(steps))
    worst = int(np.argmax(steps))
    if steps[worst] <= usual * (1 + GAP_TOLERANCE):
        return None
    return f"a gap of {steps[worst]:.2f} mm where slices lie {usual:.2f} mm apart"


def _place_mm(header: Mapping[str, Any]) -> float | None:
    """Where the image lies along the normal of its rows and columns."""
    position, orientation = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if not position or not orientation or len(position) != 3 or len(orientation) != 6:
        return None
    a, b, c, d, e, f = orientation
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)  # numpy's cross product costs twenty times this
    return float(sum(along * mm for along, mm in zip(normal, position, strict=True)))
