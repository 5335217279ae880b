"""A derived series' passport: what it was made of, by what, and which bytes came of it, held by the audit's chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicomnode.codecs import DECODER_OF
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
OTHER_SERIES = "the series' UID does not follow from sources, pipeline, weights and parameters"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


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


def build_passport(job: Job, made: Made, card: Card, facts: JobFacts, *, audit_head: str) -> dict[str, Any]:
    """The passport's body: nothing in it says who the patient is.

    facts: those that the series was derived with. audit_head: the chain's last hash before the row that will hold
    this body's hash. Reads the source files.
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
        },
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
        "derived": [_derived_entry(instance, made.pixels) for instance in (*made.images, *made.beside)],
        "measurements": {name: round(float(value), 6) for name, value in made.measurements.items()},
        "notes": list(made.notes),
        "audit_head": audit_head,
    }


def _plain(value: object) -> Any:
    """Settings as JSON gives them back, so that a body that was written and read has the same hash."""
    return json.loads(json.dumps(value, default=str, allow_nan=False))


def _source_entries(images: Sequence[SourceImage]) -> list[dict[str, Any]]:
    frames: dict[Path, list[int]] = {}
    uids: dict[Path, str] = {}
    for image in images:
        frames.setdefault(image.path, []).extend([image.frame] if image.frame else [])
        uids[image.path] = image.sop_instance_uid
    return [_source_entry(path, uids[path], listed) for path, listed in frames.items()]


def _source_entry(path: Path, uid: str, frames: list[int]) -> dict[str, Any]:
    content = path.read_bytes()
    entry = {
        "sop_instance_uid": uid,
        "sha256": hashlib.sha256(content).hexdigest(),
        "pixel_sha256": pixel_sha256(dcmread(BytesIO(content))),
    }
    return entry | ({"frames": sorted(frames)} if frames else {})


def _derived_entry(instance: Instance, pixels: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "sha256": instance.sha256,
        "pixel_sha256": pixels.get(instance.sop_instance_uid),
    }


def pixel_sha256(dataset: Dataset) -> str | None:
    """SHA-256 (hex) of an instance's pixels as native little endian ones; None where it has none.

    Lossless re-encoding does not change it. Several samples are taken colour by pixel.
    """
    keyword = next((name for name in PIXELS if name in dataset), None)
    if keyword is None:
        return None
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    is_native = not syntax.is_encapsulated and syntax.is_little_endian and not dataset.get("PlanarConfiguration")
    if keyword != "PixelData" or is_native:
        content = bytes(dataset[keyword].value)
        return hashlib.sha256(content[: _native_bytes(dataset, keyword)]).hexdigest()
    decoded, _ = get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=DECODER_OF.get(syntax, ""))
    if dataset.BitsAllocated == 1:
        return hashlib.sha256(np.packbits(decoded.ravel(), bitorder="little").tobytes()).hexdigest()
    return hashlib.sha256(decoded.astype(decoded.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _native_bytes(dataset: Dataset, keyword: str) -> int:
    """How many bytes the pixels have without the padding to an even length."""
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword, int(dataset.BitsAllocated))
    samples = int(dataset.get("SamplesPerPixel", 1)) * int(dataset.get("NumberOfFrames") or 1)
    return (int(dataset.Rows) * int(dataset.Columns) * samples * bits + 7) // 8


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


def passport_findings(path: Path, files: Mapping[str, Path]) -> tuple[list[Finding], list[str]]:
    """What `check_passport` gives for a passport's file, and which of the instances it names are not there."""
    try:
        passport = json.loads(path.read_text(encoding="utf-8"))
        return check_passport(passport, files), missing_files(passport, files)
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        sentence = f"{path.name} is no passport that can be read ({type(fault).__name__})"
        return [Finding(RULE, False, sentence)], []


def missing_files(passport: Mapping[str, Any], files: Mapping[str, Path]) -> list[str]:
    """The instances that the passport names and that are not among the files, by SOP Instance UID."""
    body = passport["body"]
    named = [entry["sop_instance_uid"] for entry in (*body["sources"], *body["derived"])]
    return [uid for uid in named if uid not in files]


def check_passport(passport: Mapping[str, Any], files: Mapping[str, Path]) -> list[Finding]:
    """Whether body, audit row and files agree; needs no node. files: SOP Instance UID -> file.

    That the row is one of the node's chain only the chain itself shows: `dicomnode audit` with the row's hash.
    Raises LookupError, TypeError or ValueError for what is no passport at all.
    """
    body, row = passport["body"], passport["audit_row"]
    kind = body["format"]
    findings = [asked(RULE, (kind["name"], kind["version"]) == (FORMAT, FORMAT_VERSION), "it has an unknown format")]
    findings += _row_findings(body, row)
    findings.append(asked(RULE, _series_uid(body) == body["derived_series_instance_uid"], OTHER_SERIES))
    for role, entries in (("source", body["sources"]), ("derived", body["derived"])):
        for entry in entries:
            path = files.get(entry["sop_instance_uid"])
            if path is not None:
                findings.append(_file_finding(role, entry, path))
    missing = missing_files(passport, files)
    if missing:
        findings.append(Finding(RULE, True, f"{len(missing)} of the files it names are not there, e.g. {missing[0]}"))
    return findings


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


def _file_finding(role: str, entry: Mapping[str, Any], path: Path) -> Finding:
    """The same bytes; or the same data set or the same pixels, as a PACS may give them back; or another file."""
    content, uid = path.read_bytes(), entry["sop_instance_uid"]
    if hashlib.sha256(content).hexdigest() == entry["sha256"]:
        return Finding(RULE, True, f"every file that is there has the bytes it names, e.g. {uid}")
    if role == "derived" and _with_our_head(content, entry) == entry["sha256"]:
        return Finding(RULE, True, f"{role} {uid} is the same data set under another file head")
    try:
        found = pixel_sha256(dcmread(BytesIO(content)))
    except (*UNREADABLE, OSError) as fault:
        return Finding(RULE, False, f"{role} {uid} is damaged ({type(fault).__name__})")
    if found is not None and found == entry["pixel_sha256"]:
        return Finding(RULE, True, f"{role} {uid} has the same pixels in another encoding or under another header")
    return Finding(RULE, False, f"{role} {uid} is another file than the passport names")


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
