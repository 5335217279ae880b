"""Passports of made-up derived series, as a node exports them, for folders that are verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicomnode.companions.companions import derive_companions
from dicomnode.companions.derivation import Derivation
from dicomnode.derive import derive_series
from dicomnode.derived_instance import DerivedInstance
from dicomnode.fingerprints import header_sha256, pixel_sha256
from dicomnode.passport import body_sha256, build_passport, exported_passport
from dicomnode.source_image import SourceImage
from storage.audit import Entry, hash_of
from storage.catalog import Instance
from storage.jobs import Job
from tests.builders_companions import written


@dataclass
class Made:
    """What `build_passport` wants to know of what was derived."""

    images: list[Instance]
    beside: list[Instance]
    pixels: dict[str, str | None]
    sources: Sequence[SourceImage]
    measurements: dict[str, float]
    notes: tuple[str, ...] = ()


def write_passport(
    folder: Path, derivation: Derivation, images: Sequence[DerivedInstance], beside: Sequence[DerivedInstance] = ()
) -> Path:
    """The passport of a derived series and of all that stands beside it, as a file in the folder."""
    rows = {one.sop_instance_uid: _row(one) for one in (*images, *beside)}
    made = Made(
        images=[rows[one.sop_instance_uid] for one in images],
        beside=[rows[one.sop_instance_uid] for one in beside],
        pixels={one.sop_instance_uid: pixel_sha256(dcmread(BytesIO(one.content))) for one in (*images, *beside)},
        sources=derivation.images,
        measurements=dict(derivation.outcome.measurements),
    )
    headers = {one.sop_instance_uid: header_sha256(dcmread(BytesIO(one.content))) for one in (*images, *beside)}
    job = _job(derivation)
    body = build_passport(job, made, derivation.card, derivation.job, audit_head="0" * 64, headers=headers)
    body = json.loads(json.dumps(body))
    details = {
        "derived_series_instance_uid": images[0].series_instance_uid,
        "passport_sha256": body_sha256(body),
    }
    row: dict[str, Any] = {
        "seq": 1,
        "at": datetime(2025, 3, 1, tzinfo=UTC),
        "event": "derived",
        "series_instance_uid": job.series_instance_uid,
        "job_id": job.id,
        "peer": "",
        "previous_hash": "0" * 64,
    }
    whole = {**row, "details": json.dumps(details, sort_keys=True, separators=(",", ":"))}
    entry = Entry(**row, details=details, hash=hash_of(whole))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{images[0].series_instance_uid}.passport.json"
    path.write_text(exported_passport(body, entry))
    return path


def write_all(folder: Path, derivation: Derivation, also: Sequence[str] = (), *, passport: bool = True) -> list[Path]:
    """The derived series, what stands beside it and its passport in folders of their own; the derived images' paths."""
    images = list(derive_series(derivation.outcome, derivation.card, derivation.images, job=derivation.job))
    beside = [one for made in derive_companions(also, derivation) for one in made.instances]
    written(folder / "beside", *beside)
    if passport:
        write_passport(folder, derivation, images, beside)
    return written(folder / "derived", *images)


def _row(made: DerivedInstance) -> Instance:
    facts: dict[str, Any] = {
        "sop_instance_uid": made.sop_instance_uid,
        "sop_class_uid": made.sop_class_uid,
        "transfer_syntax_uid": made.transfer_syntax_uid,
        "series_instance_uid": made.series_instance_uid,
        "study_instance_uid": "1.2.3",
        "peer": "",
        "received_at": datetime(2025, 3, 1, tzinfo=UTC),
        "sha256": hashlib.sha256(made.content).hexdigest(),
        "size_bytes": len(made.content),
        "header": {},
    }
    return Instance(**facts)


def _job(derivation: Derivation) -> Job:
    """A job with what a passport says of it; all else is empty."""
    said: dict[str, Any] = {
        "id": 1,
        "key": derivation.job.key,
        "rule": "rule",
        "handling": {},
        "created_at": derivation.job.created_at,
        "study_instance_uid": derivation.images[0].text("StudyInstanceUID"),
        "series_instance_uid": derivation.images[0].text("SeriesInstanceUID"),
    }
    return Job(**{one.name: said.get(one.name, "") for one in fields(Job)})
