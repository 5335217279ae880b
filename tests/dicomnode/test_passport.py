"""A passport shows offline whether a derived series and its sources are what the node's audit says they are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from dicomnode.derived_instance import DerivedInstance
from dicomnode.fingerprints import header_sha256
from dicomnode.passport import (
    body_sha256,
    build_passport,
    check_passport,
    compare_passport,
    exported_passport,
    missing_files,
    passport_findings,
    passport_text,
)
from dicomnode.produce import produce, with_parameters
from dicomnode.verify.files import found_files, sha256_of_file
from dicomnode.verify.folder import verify_folder
from inference.pipeline import build_pipeline
from storage import audit, jobs
from storage.database import Database
from tests.builders_dicom import job_facts, write_ct_series
from tests.builders_enhanced import write_enhanced
from tests.validators import dcmtk


@dataclass
class Issued:
    """A folder with sources, everything derived, and the passport as a node exports it."""

    folder: Path
    passport: dict[str, Any]

    def files(self) -> dict[str, Path]:
        return {uid: one.path for uid, one in found_files([self.folder]).instances.items()}

    def faults(self) -> list[str]:
        return [one.message for one in check_passport(self.passport, self.files()) if not one.holds]

    def said(self) -> str:
        return " ".join(one.message for one in check_passport(self.passport, self.files()) if one.holds)


def issued(folder: Path, files: list[Path], *, with_headers: bool = True) -> Issued:
    database = Database.open(f"sqlite:///{folder}/node.sqlite")
    database.migrate()
    pipeline = build_pipeline("ct_denoising", {})
    first = dcmread(files[0], stop_before_pixels=True)
    facts = with_parameters(job_facts(), pipeline.card)
    (folder / "derived").mkdir()

    headers: dict[str, str] = {}

    def keep(made: DerivedInstance) -> str:
        headers[made.sop_instance_uid] = header_sha256(dcmread(BytesIO(made.content)))
        path = folder / "derived" / f"{made.sop_instance_uid}.dcm"
        path.write_bytes(made.content)
        return sha256_of_file(path)

    uids = tuple(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files)
    try:
        with database.begin() as connection:
            new = jobs.NewJob(
                "ab" * 32, first.SeriesInstanceUID, first.StudyInstanceUID, 1, "rule", "ct_denoising", "1", {}, uids, 1,
                ("pacs",), datetime(2025, 3, 1, tzinfo=UTC), {"also": ["text_report"]},
            )  # fmt: skip
            job, _ = jobs.add_job(connection, new)
            head = audit.head(connection)
            produced = produce(job, pipeline, files, facts=facts, accept_lossy=False, keep=keep)
            body = build_passport(
                job,
                produced.products[0],
                pipeline.card,
                facts,
                audit_head=head,
                headers=headers if with_headers else None,
            )
            details = {
                "derived_series_instance_uid": produced.products[0].series_instance_uid,
                "measurements": body["measurements"],
                "passport_sha256": body_sha256(body),
            }
            audit.append(connection, "derived", job_id=job.id, details=details)
            entry = audit.entries(connection, job_id=job.id)[-1]
    finally:
        database.close()
    (folder / "node.sqlite").unlink()
    text = exported_passport(json.loads(passport_text(body)), entry)
    (folder / "a.passport.json").write_text(text)
    return Issued(folder, json.loads(text))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    folder = tmp_path_factory.mktemp("issued")
    return issued(folder, write_ct_series(folder / "source", slices=3, rows=32, columns=32))


@pytest.fixture
def given(template: Issued, tmp_path: Path) -> Iterator[Issued]:
    """A copy that a test may spoil."""
    for path in template.folder.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(template.folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    yield Issued(tmp_path, deepcopy(template.passport))


def test_untouched_files_and_passport_agree(given: Issued) -> None:
    assert given.faults() == [] and missing_files(given.passport, given.files()) == []
    assert verify_folder(given.folder).exit_code == 0


def test_the_passport_says_who_made_what_of_what_and_never_of_whom(given: Issued) -> None:
    body = given.passport["body"]
    assert body["format"] == {"name": "dicomnode-passport", "version": 1}
    assert (len(body["sources"]), len(body["derived"])) == (3, 4)
    assert body["pipeline"]["name"] == "ct_denoising" and body["job"]["rule"] == "rule"
    assert [entry["pixel_sha256"] is None for entry in body["derived"]] == [False, False, False, True]
    assert all(len(body[key]) > 10 for key in ("study_instance_uid", "source_series_instance_uid", "audit_head"))
    text = json.dumps(given.passport)
    assert not any(word in text for word in ("Phantom", "PHANTOM", "19500101", "A1"))


def test_the_bodys_one_text_gives_its_hash() -> None:
    body = {"b": 1.5, "a": ["ä"]}
    assert passport_text(body) == '{"a":["\\u00e4"],"b":1.5}'
    assert body_sha256(json.loads(passport_text(body))) == body_sha256(body)


def changed_body(passport: dict[str, Any]) -> None:
    passport["body"]["pipeline"]["version"] = "9"


def changed_row(passport: dict[str, Any]) -> None:
    passport["audit_row"]["details"]["measurements"] = {"metal_volume_ml": 1.0}


def both_changed(passport: dict[str, Any]) -> None:
    changed_body(passport)
    passport["audit_row"]["details"]["passport_sha256"] = body_sha256(passport["body"])


def other_job(passport: dict[str, Any]) -> None:
    passport["audit_row"]["job_id"] += 1


def other_moment(passport: dict[str, Any]) -> None:
    passport["audit_row"]["at"] = "2025-03-01T00:00:00.000000+00:00"


@pytest.mark.parametrize("change", [changed_body, changed_row, both_changed, other_job, other_moment])
def test_a_changed_passport_is_found(given: Issued, change: Callable[[dict[str, Any]], None]) -> None:
    change(given.passport)
    assert given.faults()


def test_a_source_that_the_passport_left_out_does_not_give_its_series_uid(given: Issued) -> None:
    given.passport["body"]["sources"].pop()
    assert any("UID does not follow" in fault for fault in given.faults())


def test_missing_files_are_named_and_no_fault(given: Issued) -> None:
    path = sorted((given.folder / "source").iterdir())[0]
    uid = str(dcmread(path).SOPInstanceUID)
    path.unlink()
    assert missing_files(given.passport, given.files()) == [uid]
    assert given.faults() == [] and uid not in given.said()
    check = passport_findings(given.folder / "a.passport.json", given.files())
    assert (check.missing, check.unsettled) == ([uid], [])
    verification = verify_folder(given.folder)
    assert verification.exit_code == 2 and uid in verification.missing
    (rule,) = [one for one in verification.rules if one.rule == "PASSPORT"]
    assert rule.state == "not asked"


@pytest.mark.parametrize("folder", ["source", "derived"])
def test_a_changed_voxel_is_found(given: Issued, folder: str) -> None:
    path = next(one for one in sorted((given.folder / folder).iterdir()) if "PixelData" in dcmread(one))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    (fault,) = given.faults()
    assert "another file" in fault and folder in fault


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, ImplicitVRLittleEndian])
def test_what_a_pacs_recoded_without_loss_is_the_same_pixels(given: Issued, syntax: str) -> None:
    path = next(one for one in sorted((given.folder / "derived").iterdir()) if "PixelData" in dcmread(one))
    dataset = dcmread(path)
    if syntax == ImplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    else:
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    assert given.faults() == [] and "same header and pixels" in given.said()
    assert verify_folder(given.folder).exit_code == 0


ENCODERS = {
    "implicit": ("dcmconv", "+ti"),
    "explicit, lengths undefined": ("dcmconv", "+te", "+le", "-e"),
    "explicit, lengths defined, no padding": ("dcmconv", "+te", "+e"),
    "big endian": ("dcmconv", "+tb"),
    "deflated": ("dcmconv", "+td"),
    "RLE": ("dcmcrle",),
    "JPEG-LS": ("dcmcjpls",),
}


@pytest.mark.peer
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("folder", ["source", "derived"])
def test_what_dcmtk_writes_again_is_the_same(given: Issued, name: str, folder: str) -> None:
    program, *options = [word for word in ENCODERS[name] if word != "+le"]
    for path in sorted((given.folder / folder).iterdir()):
        if program == "dcmconv" or "PixelData" in dcmread(path):
            done = subprocess.run([dcmtk(program), *options, str(path), str(path)], capture_output=True, timeout=60)
            assert done.returncode == 0, done.stderr
    assert given.faults() == []
    assert passport_findings(given.folder / "a.passport.json", given.files()).unsettled == []


@pytest.mark.parametrize(
    "change",
    [
        {"PatientName": "Other^Person"},
        {"PatientID": "OTHER"},
        {"ImagePositionPatient": [0, 0, 0]},
        {"ContentQualification": "PRODUCT"},
        {"PatientComments": "added"},
    ],
)
@pytest.mark.parametrize("folder", ["source", "derived"])
def test_the_same_pixels_under_another_header_are_found(given: Issued, folder: str, change: dict[str, Any]) -> None:
    path = next(one for one in sorted((given.folder / folder).iterdir()) if "PixelData" in dcmread(one))
    dataset = dcmread(path)
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    (fault,) = given.faults()
    assert "another header" in fault and folder in fault


def test_a_passport_without_header_hashes_leaves_it_open_and_is_never_met(tmp_path: Path) -> None:
    made = issued(tmp_path, write_ct_series(tmp_path / "source", slices=2, rows=16, columns=16), with_headers=False)
    assert verify_folder(tmp_path).exit_code == 0, "the very bytes need no hash of the header"
    path = next(one for one in sorted((tmp_path / "derived").iterdir()) if "PixelData" in dcmread(one))
    dataset = dcmread(path)
    dataset.PatientName = "Other^Person"
    dataset.save_as(path)
    check = compare_passport(made.passport, made.files())
    assert check.unsettled == [str(dataset.SOPInstanceUID)] and made.faults() == []


def test_a_report_under_another_file_head_is_the_same_and_with_other_words_is_not(given: Issued) -> None:
    path = next(one for one in (given.folder / "derived").iterdir() if "PixelData" not in dcmread(one))
    dataset = dcmread(path)
    dataset.file_meta.ImplementationVersionName = "A_PACS"
    dataset.save_as(path)
    assert given.faults() == [] and "another file head" in given.said()
    dataset.CompletionFlag = "PARTIAL"
    dataset.save_as(path)
    assert len(given.faults()) == 1


def test_what_is_no_passport_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "x.passport.json"
    for text in ("", "[]", "{}", '{"body": {}, "audit_row": {}}', '{"body": 1, "audit_row": []}'):
        path.write_text(text)
        check = passport_findings(path, {})
        assert [one.holds for one in check.findings] == [False] and check.missing == check.unsettled == []


def test_frames_of_a_multi_frame_source_are_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    made = issued(tmp_path, [write_enhanced(tmp_path / "source" / "1.dcm", "CT", slices=3)])
    (source,) = made.passport["body"]["sources"]
    assert source["frames"] == [1, 2, 3] and made.faults() == []
    assert verify_folder(tmp_path).exit_code == 0


def test_the_settings_are_whole(given: Issued) -> None:
    body = given.passport["body"]
    assert body["job"]["handling"] == {"also": ["text_report"]}
    facts = body["facts"]
    assert (facts["ct_pixels"], facts["content_qualification"], facts["apart"]) == ("signed-16", "RESEARCH", "")
    assert {"stack", "declared_character_set", "equipment_purpose", "udi", "station_name"} <= set(facts)
