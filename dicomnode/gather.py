"""A series is whole: by evidence when the headers give a count, else by quiet time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dicomnode.errors import HeaderUnreadable
from dicomnode.headers import Header, read_header
from dicomnode.rules import deciding_headers
from storage import audit, catalog
from storage.catalog import Instance, Series
from storage.database import Database
from storage.errors import InstanceConflict
from storage.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)
BATCH = 200
ACQUISITION_SETTLE_S = 1.0
GAP_TOLERANCE = 0.2
"""A step between neighbouring slices this much longer than the median is a gap."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A kept file whose header could be read."""

    path: Path
    instance: Instance


def list_arrivals(
    database: Database,
    files: InstanceFiles,
    *,
    peer_of: Callable[[str], str],
    listed: Callable[[Sequence[Instance]], None] = lambda new: None,
) -> set[str]:
    """What arrived enters the catalogue, what cannot be read goes to quarantine; the series that grew are given.

    peer_of: calling AE title -> the peer's name; listed: told of those that are new. An instance is listed first and
    its file moved second, so that a crash between the two is mended by doing both again.
    """
    waiting = files.arrivals()
    grown: set[str] = set()
    for first in range(0, len(waiting), BATCH):
        arrivals = []
        for path in waiting[first : first + BATCH]:
            try:
                header = read_header(path)
                peer = peer_of(header.source_ae_title)
                arrivals.append(Arrival(path, _instance(path, header, sha256=files.sha256_of(path), peer=peer)))
            except OSError as fault:  # the disk, not the file's content: looked at again at the next sweep
                LOG.error("gather: %s cannot be read now: %s", path.name, fault)
            except HeaderUnreadable as fault:
                kept = files.quarantine(path, str(fault))
                LOG.error("gather: %s cannot be read and lies in quarantine: %s", kept.name, fault)
                with database.begin() as connection:
                    audit.append(connection, "quarantined", details={"file": kept.name, "reason": str(fault)[:200]})
        if not arrivals:
            continue
        new: set[str] = set()
        with database.begin() as connection:
            for added in catalog.add_instances(connection, [arrival.instance for arrival in arrivals]):
                grown.add(added.series_instance_uid)
                new.update(added.sop_instance_uids)
                if added.reopened:
                    audit.append(
                        connection,
                        "late instances",
                        series_instance_uid=added.series_instance_uid,
                        details={"generation": added.generation, "instances": added.count},
                    )
        listed([arrival.instance for arrival in arrivals if arrival.instance.sop_instance_uid in new])
        for arrival in arrivals:
            _settle(database, files, arrival)
    return grown


def _settle(database: Database, files: InstanceFiles, arrival: Arrival) -> None:
    try:
        files.settle(arrival.instance.sop_instance_uid)
    except InstanceConflict as fault:  # left by a power cut: its sender never heard success
        LOG.error("gather: %s", fault)
        with database.begin() as connection:
            audit.append(
                connection,
                "conflict",
                series_instance_uid=arrival.instance.series_instance_uid,
                peer=arrival.instance.peer,
                details={"reason": str(fault)[:200]},
            )


def _instance(path: Path, header: Header, *, sha256: str, peer: str) -> Instance:
    return Instance(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        peer=peer,
        received_at=datetime.fromtimestamp(path.stat().st_mtime).astimezone(),
        sha256=sha256,
        size_bytes=path.stat().st_size,
        header=header.values,
    )


def whole_because(
    series: Series, headers: Sequence[Mapping[str, Any]], *, quiet_seconds: float, now: datetime
) -> str | None:
    """Why the series counts as whole, or None while it does not."""
    evidence = expected_count(headers)
    count = len(deciding_headers(headers))
    gap = slice_gap(headers)
    settled = now - series.last_received_at >= timedelta(seconds=min(quiet_seconds, _settle_s(evidence)))
    if evidence is not None and evidence[0] == count and gap is None and settled:
        return f"all {count} instances that {evidence[1]} announces are here, without a gap"
    if now - series.last_received_at < timedelta(seconds=quiet_seconds):
        return None
    short = "" if evidence is None or evidence[0] == count else f"; {evidence[1]} announced {evidence[0]}"
    return f"nothing came for {quiet_seconds:g} s; {count} images are here{short}{'' if gap is None else f'; {gap}'}"


def _settle_s(evidence: tuple[int, str] | None) -> float:
    """How long a reached count must stand: a count per acquisition says nothing of acquisitions still to come."""
    return ACQUISITION_SETTLE_S if evidence is not None and evidence[1] == "ImagesInAcquisition" else 0.0


def expected_count(headers: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
    """How many images the headers announce, and by which attributes; None when they do not say.

    PET: Number of Slices x Number of Time Slices (PS3.3 C.8.9.1). Else Images in Acquisition (C.7.6.1), summed
    over the acquisitions seen, when every image gives it.
    """
    images = deciding_headers(headers)
    if not images:
        return None
    if images[0].get("Modality") == "PT":
        slices = {image.get("NumberOfSlices") for image in images}
        times = {image.get("NumberOfTimeSlices", 1) or 1 for image in images}
        if len(slices) == 1 and len(times) == 1 and (number := slices.pop()):
            time_slices = times.pop()
            return int(number) * int(time_slices), "NumberOfSlices" if time_slices == 1 else (
                "NumberOfSlices x NumberOfTimeSlices"
            )
    announced: dict[Any, set[Any]] = {}
    for image in images:
        announced.setdefault(image.get("AcquisitionNumber"), set()).add(image.get("ImagesInAcquisition"))
    if any(len(counts) != 1 or not next(iter(counts)) for counts in announced.values()):
        return None
    return sum(int(next(iter(counts))) for counts in announced.values()), "ImagesInAcquisition"


def slice_gap(headers: Sequence[Mapping[str, Any]]) -> str | None:
    """Where a slice seems to be missing, in words; None when there is no gap or positions are not given."""
    places: list[float] = []
    for image in deciding_headers(headers):
        position, orientation = image.get("ImagePositionPatient"), image.get("ImageOrientationPatient")
        if not position or not orientation or len(position) != 3 or len(orientation) != 6:
            return None
        normal = np.cross(orientation[:3], orientation[3:])
        places.append(float(np.dot(normal, position)))
    if len(places) < 3:
        return None
    steps = np.diff(np.unique(np.round(places, 3)))
    if not len(steps):
        return None
    usual = float(np.median(steps))
    worst = int(np.argmax(steps))
    if steps[worst] <= usual * (1 + GAP_TOLERANCE):
        return None
    return f"a gap of {steps[worst]:.2f} mm where slices lie {usual:.2f} mm apart"
