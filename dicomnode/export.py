"""Stored instances into a new folder, as they are stored or de-identified for research; nothing stored is changed.

This stands beside the river: no room from scanner to PACS knows it, and what it makes never goes back in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dicomnode.deidentify.instance import Policy, deidentify
from dicomnode.deidentify.walk import NotExported
from dicomnode.export_choice import Chosen
from dicomnode.export_dicomdir import make_dicomdir
from dicomnode.export_papers import MANIFEST, ExportFault, KeyList, Manifest, Written, told, write_anew
from storage import audit
from storage.catalog import Instance
from storage.database import Database
from storage.folder_sync import sync_folder
from storage.instance_files import InstanceFiles

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What to export and where to. policy: None exports what is stored, byte for byte; by: who asks, for the audit."""

    chosen: Sequence[Chosen]
    output: Path
    policy: Policy | None = None
    key_list: Path | None = None
    dicomdir: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of an order. refused: original SOP Instance UID and why."""

    instances: int
    refused: tuple[tuple[str, str], ...]
    warnings: Counter[str]
    manifest_sha256: str


def export(database: Database, files: InstanceFiles, order: Order, *, progress: Progress) -> Exported:
    """The folder with everything that can be exported, audited for every series; it appears whole or not at all.

    Raises ExportFault where the folder is already, or nothing can be exported.
    """
    _refuse_mistakes(order)
    manifest, names, refused = Manifest(order.policy), KeyList(), list[tuple[str, str]]()
    counts = {one.series_instance_uid: Counter[str]() for one in order.chosen}
    todo = [(one, instance) for one in order.chosen for instance in one.instances]
    with _new_folder(order.output) as part:
        for number, (one, instance) in enumerate(todo):
            progress(number, len(todo))
            try:
                written = _exported(files, instance, part, order.policy, manifest, names)
            except NotExported as why:
                refused.append((instance.sop_instance_uid, str(why)))
                manifest.refused[str(why)] += 1
                counts[one.series_instance_uid]["not_exported"] += 1
                continue
            manifest.written.append(written)
            counts[one.series_instance_uid]["instances"] += 1
        progress(len(todo), len(todo))
        if not manifest.written:
            raise ExportFault(f"nothing can be exported: {refused[0][1]}" if refused else "there are no instances")
        if order.dicomdir:
            _with_dicomdir(part, manifest)
        text = manifest.as_json().encode("ascii")
        write_anew(part / MANIFEST, text)
        sha256 = hashlib.sha256(text).hexdigest()
        _sync_folders(part)
        with _key_list(names, order.key_list):
            _audit(database, order, counts, sha256)  # before it can be taken away: no export without its record
            part.rename(order.output)
            sync_folder(order.output.parent)
    warnings = told(one.warnings for one in manifest.written)
    warnings.update(names.doubts())
    return Exported(len(manifest.written), tuple(refused), warnings, sha256)


def _exported(
    files: InstanceFiles, instance: Instance, part: Path, policy: Policy | None, manifest: Manifest, names: KeyList
) -> Written:
    """One instance in the folder; NotExported where it stays out."""
    try:
        path = files.path_of(instance.sop_instance_uid)
    except FileNotFoundError:
        raise NotExported("its file is not here") from None
    content = _as_received(path, instance)
    if policy is None:
        uids = instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid
        return _written(part, "", uids, content)
    del content  # an enhanced object fills the memory often enough below
    made = deidentify(path, policy)
    written = _written(part, made.patient.pseudonym, made.new, made.content)
    manifest.done.update(made.done)
    names.add(made)
    return replace(written, warnings=made.warnings)


def _as_received(path: Path, instance: Instance) -> bytes:
    """The stored file; NotExported where it is not the one received: a damaged image must not look like a good one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotExported("its file is not here") from None
    if hashlib.sha256(content).hexdigest() != instance.sha256:
        raise NotExported("its file is not the one that was received: its SHA-256 differs")
    return content


def _written(part: Path, person: str, uids: tuple[str, str, str], content: bytes) -> Written:
    """A new file; a UID that is no name of a file is never used as one."""
    study, series, sop = (_name_of(uid) for uid in uids)
    path = part / person / study / series / f"{sop}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_anew(path, content)
    return Written(str(path.relative_to(part)), *uids, hashlib.sha256(content).hexdigest())


def _name_of(uid: str) -> str:
    if 0 < len(uid) <= 64 and all(sign in "0123456789." for sign in uid) and uid.strip("."):
        return uid
    return hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _with_dicomdir(part: Path, manifest: Manifest) -> None:
    """The files lie where the DICOMDIR says, and the manifest says so too."""
    former = {one.sop_instance_uid: part / one.file for one in manifest.written}
    names = make_dicomdir(part, former)
    manifest.written = [replace(one, file=names[one.sop_instance_uid]) for one in manifest.written]
    for folder in sorted({path.parent for path in former.values()}, key=lambda one: -len(one.parts)):
        while folder != part and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def _refuse_mistakes(order: Order) -> None:
    """Raises ExportFault for what would overwrite, or put the key list where the export goes."""
    if order.output.exists() or order.output.is_symlink():
        raise ExportFault(f"{order.output} is there already; an export is written to a new folder only")
    if order.key_list is not None:
        if order.policy is None:
            raise ExportFault("a key list belongs to a de-identified export only")
        if order.key_list.exists():
            raise ExportFault(f"{order.key_list} is there already and is not written over")
        if order.key_list.resolve().is_relative_to(order.output.resolve()):
            raise ExportFault("the key list names the patients: keep it outside the exported folder")
        if not order.key_list.parent.is_dir():
            raise ExportFault(f"{order.key_list.parent} is no folder: make it first, readable by you alone")


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder beside the wanted one; gone at the end unless it was renamed."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.parent / f".{output.name}.{uuid.uuid4().hex}.part"
    part.mkdir(mode=0o700)
    try:
        yield part
    finally:
        if part.exists():
            shutil.rmtree(part)


@contextmanager
def _key_list(names: KeyList, path: Path | None) -> Iterator[None]:
    """The key list, where one is asked for; gone again when the export fails: it names patients for nothing then."""
    if path is None:
        yield
        return
    names.write(path)
    exported = False
    try:
        yield
        exported = True
    finally:
        if not exported:
            path.unlink(missing_ok=True)


def _sync_folders(part: Path) -> None:
    for folder, _, _ in os.walk(part):
        sync_folder(Path(folder))


def _audit(database: Database, order: Order, counts: dict[str, Counter[str]], manifest_sha256: str) -> None:
    """One row for every series, of who took it out and how; the pseudonyms are not in it."""
    how = (
        {}
        if order.policy is None
        else {
            "options": sorted(order.policy.options),
            "burned_in": order.policy.pixels.value,
            "key_fingerprint": order.policy.secret.fingerprint,
        }
    )
    with database.begin() as connection:
        for one in order.chosen:
            count = counts[one.series_instance_uid]
            audit.append(
                connection,
                "exported",
                series_instance_uid=one.series_instance_uid,
                details={
                    "study_instance_uid": one.study_instance_uid,
                    "deidentified": order.policy is not None,
                    **how,
                    "instances": count["instances"],
                    "not_exported": count["not_exported"],
                    "key_list": order.key_list is not None,
                    "manifest_sha256": manifest_sha256,
                    "by": order.by,
                },
            )
