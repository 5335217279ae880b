"""What an export writes besides its files: the manifest, which names nobody, and the key list, which does."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from dicomnode.deidentify.instance import Deidentified, Policy
from dicomnode.deidentify.profile import Action, table
from dicomnode.errors import NodeFault
from dicomnode.uids import NODE_VERSION
from storage.folder_sync import sync_folder

MANIFEST = "manifest.json"
SPLIT = "their study names its patient in several ways (Patient ID or its issuer): it has several pseudonyms"


class ExportFault(NodeFault):
    """An export was not made; nothing of it is left. Mend what it says and ask again."""


@dataclass(frozen=True, slots=True)
class Written:
    """One exported file; its UIDs are those in the file."""

    file: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sha256: str
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Manifest:
    """What was exported and how; no word of it is of the original where the export is de-identified."""

    policy: Policy | None
    written: list[Written] = field(default_factory=list)
    done: Counter[tuple[str, Action]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> str:
        """The file's text."""
        series: dict[str, dict[str, Any]] = {}
        for one in self.written:
            entry = series.setdefault(
                one.series_instance_uid,
                {
                    "series_instance_uid": one.series_instance_uid,
                    "study_instance_uid": one.study_instance_uid,
                    "instances": [],
                },
            )
            entry["instances"].append(
                {
                    "file": one.file,
                    "sop_instance_uid": one.sop_instance_uid,
                    "sha256": one.sha256,
                    **({"warnings": list(one.warnings)} if one.warnings else {}),
                }
            )
        content = {
            "made_by": f"dicom-ai-node {NODE_VERSION}",
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "deidentified": self._how(),
            "not_exported": dict(sorted(self.refused.items())),
            "series": list(series.values()),
        }
        return json.dumps(content, indent=1, ensure_ascii=True) + "\n"

    def _how(self) -> Mapping[str, Any] | bool:
        if self.policy is None:
            return False
        return {
            "profile": f"Basic Application Level Confidentiality Profile, {table()['edition']}",
            "options": sorted(self.policy.options),
            "burned_in": self.policy.pixels.value,
            "key_fingerprint": self.policy.secret.fingerprint,
            "not_done": "pixels are as they were: neither burned-in text nor recognisable faces were removed",
            "done": [
                {"attribute": attribute, "action": action.value, "times": times}
                for (attribute, action), times in sorted(self.done.items())
            ],
        }


class KeyList:
    """Original and pseudonym of every patient, study, series and instance: whoever has it knows the patients."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], str] = {}
        self._patients_of: dict[str, set[str]] = {}

    def add(self, made: Deidentified) -> None:
        """One more instance."""
        patient = made.patient
        self._rows["patient", patient.patient_id, patient.pseudonym] = str(patient.days_earlier)
        self._patients_of.setdefault(made.new[0], set()).add(patient.pseudonym)
        for kind, original, new in zip(("study", "series", "instance"), made.original, made.new, strict=True):
            self._rows[kind, original, new] = ""

    def doubts(self) -> Counter[str]:
        """What is odd about the patients: how many studies are of several, so that one may have two pseudonyms."""
        split = sum(len(patients) > 1 for patients in self._patients_of.values())
        return Counter({SPLIT: split} if split else {})

    def write(self, path: Path) -> None:
        """A CSV file that only its owner can read; raises ExportFault where a file is already."""
        text = StringIO()
        writer = csv.writer(text)
        writer.writerow(("kind", "original", "pseudonym", "days_earlier"))
        writer.writerows((*row, days) for row, days in self._rows.items())
        write_anew(path, text.getvalue().encode("utf-8", "backslashreplace"))
        sync_folder(path.parent)


def write_anew(path: Path, content: bytes) -> None:
    """A durable new file of mode 0600, whole or not at all; raises ExportFault where one is already."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ExportFault(f"{path} is there already and is not written over") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise


def told(warnings: Iterable[tuple[str, ...]]) -> Counter[str]:
    """Every warning and for how many instances it was said."""
    return Counter(warning for one in warnings for warning in one)
