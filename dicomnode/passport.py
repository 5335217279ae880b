"""A derived series' passport: what it was made of, by what, and which bytes came of it, held by the audit's chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.fingerprints import header_sha256
from dicomnode.fingerprints import pixel_sha256 as pixel_sha256
from dicomnode.gate.rules import Finding, asked
from dicomnode.provenance import JobFacts, parameters_sha256
from dicomnode.source_image import UNREADABLE, SourceImage
from dicomnode.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_series_uid,
    used_instance,
)
from dicomnode.verbatim import part10_file
from inference.pipeline import Card
from storage.audit import Entry, hash_of
from storage.catalog import Instance
from storage.jobs import Job

FORMAT, FORMAT_VERSION = "dicomnode-passport", 1
RULE = "PASSPORT"
FACTS = (
    *("ct_pixels", "content_qualification", "apart", "stack", "declared_character_set", "series_number_offset"),
    *("station_name", "udi", "equipment_purpose", "inputs"),
)
"""What of the job's facts shaped the bytes and stands nowhere else in the body."""
OTHER_SERIES = "the series' UID does not follow from sources, pipeline, weights and parameters"
OTHER_ENCODING = "has the same header and pixels in another encoding"


class Made(Protocol):
    """What was derived: the images, what stands beside them, the source images it was made of."""

    @property
    def images(self) -> Sequence[Instance]:
        """The derived images."""

    @property
    def beside(self) -> Sequence[Instance]:
        """The other objects."""

    @property
    def pixels(self) -> Mapping[str, str | None]:
        """SOP Instance UID -> `pixel_sha256` of the instance."""

    @property
    def sources(self) -> Sequence[SourceImage]:
        """The source images."""

    @property
    def measurements(self) -> Mapping[str, float]:
        """What was measured."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the audit."""


def build_passport(
    job: Job,
    made: Made,
    card: Card,
    facts: JobFacts,
    *,
    audit_head: str,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The passport's body: nothing in it says who the patient is.

    facts: those that the series was derived with. audit_head: the chain's last hash before the row that will hold
    this body's hash. headers: SOP Instance UID -> `header_sha256` of what was made; an instance without one can later
    be known again by its bytes only. Reads the source files whose pixels were not read as those of single images.
    """
    return {
        "format": {"name": FORMAT, "version": FORMAT_VERSION},
        "node": {
            "version": facts.node_version,
            "implementation_class_uid": IMPLEMENTATION_CLASS_UID,
            "implementation_version_name": IMPLEMENTATION_VERSION_NAME,
            "deployment_uuid": facts.deployment_uuid,
        },
        "job": {
            "id": job.id,
            "key": job.key,
            "rule": job.rule,
            "created_at": job.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "generation": facts.generation,
            "handling": _plain(dict(job.handling)),
        },
        "facts": {name: _plain(getattr(facts, name)) for name in FACTS},
        "pipeline": {
            "name": card.name,
            "version": card.version,
            "method": card.method,
            "weights_sha256": card.weights_sha256,
            "settings": _plain(dict(card.settings)),
            "parameters_sha256": parameters_sha256(card, facts),
        },
        "study_instance_uid": job.study_instance_uid,
        "source_series_instance_uid": job.series_instance_uid,
        "derived_series_instance_uid": made.images[0].series_instance_uid,
        "sources": _source_entries(made.sources),
        "derived": [_derived_entry(instance, made.pixels, headers or {}) for instance in (*made.images, *made.beside)],
        "measurements": {name: round(float(value), 6) for name, value in made.measurements.items()},
        "notes": list(made.notes),
        "audit_head": audit_head,
    }


def _plain(value: object) -> Any:
    """Settings as JSON gives them back, so that a body that was written and read has the same hash."""
    return json.loads(json.dumps(value, default=str, allow_nan=False))


def _source_entries(images: Sequence[SourceImage]) -> list[dict[str, Any]]:
    frames: dict[Path, list[int]] = {}
    of_path: dict[Path, SourceImage] = {}
    for image in images:
        frames.setdefault(image.path, []).extend([image.frame] if image.frame else [])
        of_path[image.path] = image
    return [_source_entry(of_path[path], listed) for path, listed in frames.items()]


def _source_entry(image: SourceImage, frames: list[int]) -> dict[str, Any]:
    entry: dict[str, Any] = {"sop_instance_uid": image.sop_instance_uid, **_hashes(image)}
    return entry | ({"frames": sorted(frames)} if frames else {})


def _hashes(image: SourceImage) -> dict[str, str | None]:
    """Of the image's file, as it was when its pixels were read, or else as it is."""
    known = image.fingerprint
    if known is not None:
        return {
            "sha256": known.file_sha256,
            "header_sha256": known.header_sha256,
            "pixel_sha256": known.pixel_sha256,
        }
    content = image.path.read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "header_sha256": header_sha256(dcmread(BytesIO(content), stop_before_pixels=True)),
        "pixel_sha256": pixel_sha256(dcmread(BytesIO(content))),
    }


def _derived_entry(instance: Instance, pixels: Mapping[str, str | None], headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "sha256": instance.sha256,
        "header_sha256": headers.get(instance.sop_instance_uid),
        "pixel_sha256": pixels.get(instance.sop_instance_uid),
    }


def canonical(value: object) -> str:
    """The one JSON text of a value, as the audit writes it: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def passport_text(body: Mapping[str, Any]) -> str:
    """The body as it is kept."""
    return canonical(body)


def body_sha256(body: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the body's canonical JSON: the audit row `derived` holds it as `passport_sha256`."""
    return hashlib.sha256(canonical(body).encode("ascii")).hexdigest()


def exported_passport(body: Mapping[str, Any], entry: Entry) -> str:
    """The file `*.passport.json`: the body and the row of the audit that holds its hash."""
    row = {
        "seq": entry.seq,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "event": entry.event,
        "series_instance_uid": entry.series_instance_uid,
        "job_id": entry.job_id,
        "peer": entry.peer,
        "details": dict(entry.details),
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }
    return json.dumps({"body": body, "audit_row": row}, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True, slots=True)
class PassportCheck:
    """What comparing a passport with files gave.

    missing: instances that it names and that are not there; unsettled: those of which it cannot be said whether they
    are the same; named: the derived instances that it is about; all by SOP Instance UID.
    """

    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    named: frozenset[str] = frozenset()


def passport_findings(path: Path, files: Mapping[str, Path]) -> PassportCheck:
    """What a passport's file gives, as `compare_passport`; one that cannot be read is a finding."""
    try:
        return compare_passport(json.loads(path.read_text(encoding="utf-8")), files)
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        sentence = f"{path.name} is no passport that can be read ({type(fault).__name__})"
        return PassportCheck([Finding(RULE, False, sentence)])


def missing_files(passport: Mapping[str, Any], files: Mapping[str, Path]) -> list[str]:
    """The instances that the passport names and that are not among the files, by SOP Instance UID."""
    body = passport["body"]
    named = [entry["sop_instance_uid"] for entry in (*body["sources"], *body["derived"])]
    return [uid for uid in named if uid not in files]


def check_passport(passport: Mapping[str, Any], files: Mapping[str, Path]) -> list[Finding]:
    """The findings of `compare_passport`; nothing is said of files that are not there."""
    return compare_passport(passport, files).findings


def compare_passport(passport: Mapping[str, Any], files: Mapping[str, Path]) -> PassportCheck:
    """Whether body, audit row and files agree; needs no node. files: SOP Instance UID -> file.

    That the row is one of the node's chain only the chain itself shows: `dicomnode audit` with the row's hash.
    Raises LookupError, TypeError or ValueError for what is no passport at all.
    """
    body, row = passport["body"], passport["audit_row"]
    kind = body["format"]
    findings = [asked(RULE, (kind["name"], kind["version"]) == (FORMAT, FORMAT_VERSION), "it has an unknown format")]
    findings += _row_findings(body, row)
    findings.append(asked(RULE, _series_uid(body) == body["derived_series_instance_uid"], OTHER_SERIES))
    unsettled = []
    for role, entries in (("source", body["sources"]), ("derived", body["derived"])):
        for entry in entries:
            path = files.get(entry["sop_instance_uid"])
            if path is None:
                continue
            finding = _file_finding(role, entry, path)
            if finding is None:
                unsettled.append(entry["sop_instance_uid"])
            else:
                findings.append(finding)
    named = frozenset(entry["sop_instance_uid"] for entry in body["derived"])
    return PassportCheck(findings, missing_files(passport, files), unsettled, named)


def _row_findings(body: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Finding]:
    """The audit row holds this body's hash, and its own hash is right."""
    details = row["details"]
    same = details.get("passport_sha256") == body_sha256(body)
    yield asked(RULE, same, "its body is not the one whose hash the audit row holds")
    whole = {**row, "at": datetime.fromisoformat(row["at"]), "details": canonical(details)}
    yield asked(RULE, row["hash"] == hash_of(whole), "the audit row's own hash is wrong: the row was changed")
    is_its = row["event"] == "derived" and row["job_id"] == body["job"]["id"]
    yield asked(RULE, is_its, "the audit row is about something else")
    series = details.get("derived_series_instance_uid")
    yield asked(RULE, series == body["derived_series_instance_uid"], "the audit row names another derived series")


def _series_uid(body: Mapping[str, Any]) -> str:
    """The derived series' UID, made again from what the passport says it was made of (U2)."""
    made_by = body["pipeline"]
    used = [
        used_instance(entry["sop_instance_uid"], frame)
        for entry in body["sources"]
        for frame in entry.get("frames", [0])
    ]
    return derived_series_uid(
        body["node"]["deployment_uuid"],
        pipeline=made_by["name"],
        pipeline_version=made_by["version"],
        weights_sha256=made_by["weights_sha256"],
        parameters_sha256=made_by["parameters_sha256"],
        source_series_instance_uid=body["source_series_instance_uid"],
        used_sop_instance_uids=used,
        role="image",
        generation=body["job"]["generation"],
    )


def _file_finding(role: str, entry: Mapping[str, Any], path: Path) -> Finding | None:
    """The same bytes; or the same header and pixels in another encoding, as a PACS may give them back; or another file.

    None where the pixels are the same and the passport does not hold the header's hash.
    """
    content, uid = path.read_bytes(), entry["sop_instance_uid"]
    if hashlib.sha256(content).hexdigest() == entry["sha256"]:
        return Finding(RULE, True, f"every file that is there has the bytes it names, e.g. {uid}")
    if role == "derived" and _with_our_head(content, entry) == entry["sha256"]:
        return Finding(RULE, True, f"{role} {uid} is the same data set under another file head")
    try:
        pixels = pixel_sha256(dcmread(BytesIO(content)))
        header = header_sha256(dcmread(BytesIO(content), stop_before_pixels=True))
    except (*UNREADABLE, OSError) as fault:
        return Finding(RULE, False, f"{role} {uid} is damaged ({type(fault).__name__})")
    if pixels != entry["pixel_sha256"]:
        return Finding(RULE, False, f"{role} {uid} is another file than the passport names: its pixels differ")
    if entry.get("header_sha256") is None:
        return None
    if header != entry["header_sha256"]:
        return Finding(RULE, False, f"{role} {uid} is another file than the passport names: it has another header")
    return Finding(RULE, True, f"{role} {uid} {OTHER_ENCODING}")


def _with_our_head(content: bytes, entry: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the file's data set under the head that the node writes; empty where that cannot be."""
    try:
        meta = dcmread(BytesIO(content), specific_tags=[]).file_meta
        if meta.TransferSyntaxUID != ExplicitVRLittleEndian or content[128:132] != b"DICM":
            return ""
        begin = 132 + 12 + int(meta.FileMetaInformationGroupLength)
        uid, sop_class_uid = entry["sop_instance_uid"], entry["sop_class_uid"]
        head = part10_file({}, sop_class_uid=sop_class_uid, sop_instance_uid=uid)
    except UNREADABLE:
        return ""
    return hashlib.sha256(head + content[begin:]).hexdigest()
