"""What lies in the folders that are verified: our images, our other objects, everything else, passports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicomnode.gate.rules import Finding, asked, items, model_item, text
from dicomnode.iods import MODALITY_OF
from dicomnode.source_image import UNREADABLE
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, MODEL_NAME

PASSPORT_ENDING = ".passport.json"
HEADER = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"),
    *("ManufacturerModelName", "Manufacturer", "ContributingEquipmentSequence"),
)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """One DICOM file; is_ours: made by this kind of node."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    is_ours: bool

    @property
    def is_derived_image(self) -> bool:
        """Whether it is an image of a derived series, not an object beside one."""
        return self.is_ours and self.sop_class_uid in MODALITY_OF


@dataclass(slots=True)
class FoundFiles:
    """Everything below the folders. instances: by SOP Instance UID; findings: with the file they are about."""

    instances: dict[str, FoundInstance] = field(default_factory=dict)
    passports: list[Path] = field(default_factory=list)
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    count: int = 0

    def ours(self) -> list[FoundInstance]:
        """What this kind of node made, series after series."""
        made = [one for one in self.instances.values() if one.is_ours]
        return sorted(made, key=lambda one: (one.series_instance_uid, one.path))

    def of_series(self, series_instance_uid: str) -> list[FoundInstance]:
        """The instances of one series."""
        return [one for one in self.instances.values() if one.series_instance_uid == series_instance_uid]


def found_files(folders: Iterable[Path], progress: Progress | None = None) -> FoundFiles:
    """Every file below the folders; what is no DICOM file is passed over with a note.

    Raises NotADirectoryError for a folder that is none: an empty result would look like nothing to object to.
    """
    found = FoundFiles()
    paths = _paths(folders)
    strange = []
    for count, path in enumerate(paths, 1):
        if path.name.endswith(PASSPORT_ENDING):
            found.passports.append(path)
        elif not _take(path, found):
            strange.append(path.name)
        if progress is not None:
            progress(count, len(paths))
    found.count = len(paths)
    if strange:
        found.notes.append(f"{len(strange)} files are no DICOM instances and were passed over, e.g. {strange[0]}")
    return found


def _paths(folders: Iterable[Path]) -> list[Path]:
    paths: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder")
        paths |= dict.fromkeys(path.resolve() for path in sorted(folder.rglob("*")) if path.is_file())
    return list(paths)


def _take(path: Path, found: FoundFiles) -> bool:
    """Whether the file is an instance, then put where it belongs."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
        instance = _instance(path, header)
    except InvalidDicomError:
        return False
    except UNREADABLE as fault:
        found.findings.append((path.name, Finding("READ", False, f"{path.name} is damaged ({type(fault).__name__})")))
        return True
    if not instance.sop_instance_uid:
        return False  # a DICOMDIR has none
    known = found.instances.setdefault(instance.sop_instance_uid, instance)
    if known is not instance:
        differing = f"{known.path.name} and {path.name} hold different content under one UID"
        is_same = sha256_of_file(known.path) == sha256_of_file(path)
        if known.is_ours or instance.is_ours:
            found.findings.append((instance.sop_instance_uid, asked("U4", is_same, differing)))
        elif not is_same:
            found.notes.append(f"{differing}; the first was taken")
    return True


def _instance(path: Path, header: Dataset) -> FoundInstance:
    sop_class_uid, sop_instance_uid = text(header, "SOPClassUID"), text(header, "SOPInstanceUID")
    series, study = text(header, "SeriesInstanceUID"), text(header, "StudyInstanceUID")
    return FoundInstance(path, sop_class_uid, sop_instance_uid, series, study, _is_ours(header))


def _is_ours(header: Dataset) -> bool:
    """Our equipment, or our model as the last that contributed, or our own file meta; any one of them is enough.

    Somebody else's object that was made of ours names us too, but not as the last.
    """
    by_name = text(header, "ManufacturerModelName") == MODEL_NAME
    by_meta = header.file_meta.get("ImplementationClassUID") == IMPLEMENTATION_CLASS_UID
    by_model = len(items(header, "ContributingEquipmentSequence")) > 1 and model_item(header) is not None
    return by_name or by_model or (by_meta and text(header, "Manufacturer") in ("", MODEL_NAME))


def sha256_of_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def references_of(dataset: Dataset, *, passed_over: Sequence[str] = ()) -> dict[str, str]:
    """SOP Instance UID -> class of every instance referred to, at any depth."""
    found: dict[str, str] = {}
    for element in dataset:
        if element.VR == "SQ" and element.keyword not in passed_over:
            for item in element.value or ():
                uid = text(item, "ReferencedSOPInstanceUID")
                if uid:
                    found[uid] = text(item, "ReferencedSOPClassUID")
                found |= references_of(item, passed_over=passed_over)
    return found
