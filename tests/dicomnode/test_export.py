"""Stored series into a folder: whole or not at all, never over another, and recorded; what is stored stays as it is."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.deidentify.instance import Policy
from dicomnode.deidentify.profile import Option
from dicomnode.deidentify.secret import Secret
from dicomnode.export import Order, export
from dicomnode.export_choice import Chosen, choose
from dicomnode.export_papers import SPLIT, ExportFault
from storage import audit, catalog
from storage.database import Database
from storage.instance_files import InstanceFiles
from tests.builders import fixtures_folder
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_export import Holding

POLICY = Policy(frozenset(), Secret(b"k" * 32))
PATIENT = ("Phantom^Made Up", "PHANTOM-1", "19500101")


def silent(done: int, total: int) -> None:
    """No progress is shown."""


@pytest.fixture
def holding(database: Database, tmp_path: Path) -> Holding:
    return Holding(database, InstanceFiles(tmp_path / "var"))


def everything(holding: Holding) -> list[Chosen]:
    with holding.database.read() as connection:
        known = catalog.list_series(connection)
        return choose(connection, series=[one.series_instance_uid for one in known])


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def test_what_is_exported_as_stored_is_the_same_byte_for_byte(holding: Holding, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", slices=3)
    holding.receive(paths)
    done = export(holding.database, holding.files, Order(everything(holding), tmp_path / "out"), progress=silent)
    assert done.instances == 3
    assert {one.read_bytes() for one in files_in(tmp_path / "out")} == {one.read_bytes() for one in paths}


def test_a_de_identified_export_names_the_patient_nowhere(holding: Holding, tmp_path: Path) -> None:
    instances = holding.receive(write_ct_series(tmp_path / "ct", slices=2))
    export(holding.database, holding.files, Order(everything(holding), tmp_path / "out", POLICY), progress=silent)
    told = [*PATIENT, *(one.sop_instance_uid for one in instances), instances[0].study_instance_uid]
    for path in (tmp_path / "out").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert [word for word in told if word.encode() in content or word in str(path)] == []
    assert len(files_in(tmp_path / "out")) == 2


def test_a_patient_keeps_the_pseudonym_over_exports_and_another_key_gives_another(
    holding: Holding, tmp_path: Path
) -> None:
    holding.receive(write_ct_series(tmp_path / "ct", slices=1))
    holding.receive(write_pet_series(tmp_path / "pet", slices=1))
    chosen = everything(holding)
    names = []
    for number, (series, key) in enumerate(((chosen[0], b"k"), (chosen[1], b"k"), (chosen[1], b"o"))):
        policy = Policy(frozenset(), Secret(key * 32))
        export(holding.database, holding.files, Order([series], tmp_path / f"{number}", policy), progress=silent)
        names.append(str(dcmread(files_in(tmp_path / f"{number}")[0]).PatientID))
    assert names[0] == names[1] != names[2]


def test_series_of_a_study_stay_in_one_study(holding: Holding, tmp_path: Path) -> None:
    def same_study(k: int, dataset: Dataset) -> None:
        dataset.StudyInstanceUID = "1.2.3.4"

    holding.receive(write_ct_series(tmp_path / "ct", slices=1, each=same_study))
    holding.receive(write_pet_series(tmp_path / "pet", slices=1, each=same_study))
    export(holding.database, holding.files, Order(everything(holding), tmp_path / "out", POLICY), progress=silent)
    studies = {str(dcmread(path).StudyInstanceUID) for path in files_in(tmp_path / "out")}
    assert studies == {POLICY.secret.uid("1.2.3.4")}


def test_the_manifest_tells_what_was_done_to_what_without_the_original(holding: Holding, tmp_path: Path) -> None:
    holding.receive(write_ct_series(tmp_path / "ct", slices=2))
    policy = Policy(frozenset({Option.MODIFIED_DATES}), POLICY.secret)
    export(holding.database, holding.files, Order(everything(holding), tmp_path / "out", policy), progress=silent)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    told = {(one["attribute"], one["action"]): one["times"] for one in manifest["deidentified"]["done"]}
    assert told["PatientBirthDate", "emptied"] == 2
    assert told["StudyDate", "cleaned"] == 2
    assert manifest["deidentified"]["options"] == ["modified-dates"]
    for entry in manifest["series"][0]["instances"]:
        content = (tmp_path / "out" / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_key_list_leads_back_and_lies_elsewhere(holding: Holding, tmp_path: Path) -> None:
    (one,) = holding.receive(write_ct_series(tmp_path / "ct", slices=1))
    order = Order(everything(holding), tmp_path / "out", POLICY, tmp_path / "key.csv")
    export(holding.database, holding.files, order, progress=silent)
    rows = {(row["kind"], row["original"]): row for row in csv.DictReader((tmp_path / "key.csv").open())}
    exported = dcmread(files_in(tmp_path / "out")[0])
    assert rows["patient", "PHANTOM-1"]["pseudonym"] == exported.PatientID
    assert rows["instance", one.sop_instance_uid]["pseudonym"] == exported.SOPInstanceUID
    assert (tmp_path / "key.csv").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ExportFault, match="outside"):
        inside = Order(order.chosen, tmp_path / "two", POLICY, tmp_path / "two" / "key.csv")
        export(holding.database, holding.files, inside, progress=silent)


def test_a_study_whose_patient_is_named_in_two_ways_is_told(holding: Holding, tmp_path: Path) -> None:
    def with_issuer(k: int, dataset: Dataset) -> None:
        dataset.IssuerOfPatientID = ("", "Hospital 1")[k]

    holding.receive(write_ct_series(tmp_path / "ct", slices=2, each=with_issuer))
    order = Order(everything(holding), tmp_path / "out", POLICY, tmp_path / "key.csv")
    done = export(holding.database, holding.files, order, progress=silent)
    assert done.warnings[SPLIT] == 1
    rows = [row for row in csv.DictReader((tmp_path / "key.csv").open()) if row["kind"] == "patient"]
    assert len({row["pseudonym"] for row in rows}) == 2


def test_nothing_is_ever_written_over(holding: Holding, tmp_path: Path) -> None:
    holding.receive(write_ct_series(tmp_path / "ct", slices=1))
    (tmp_path / "out").mkdir()
    (tmp_path / "key.csv").write_text("mine")
    with pytest.raises(ExportFault, match="is there already"):
        export(holding.database, holding.files, Order(everything(holding), tmp_path / "out"), progress=silent)
    with pytest.raises(ExportFault, match="is there already"):
        order = Order(everything(holding), tmp_path / "new", POLICY, tmp_path / "key.csv")
        export(holding.database, holding.files, order, progress=silent)
    assert list((tmp_path / "out").iterdir()) == []
    assert (tmp_path / "key.csv").read_text() == "mine"


def test_an_instance_that_cannot_be_exported_is_left_out_and_said(holding: Holding, tmp_path: Path) -> None:
    def burned(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES" if k == 1 else "NO"

    instances = holding.receive(write_ct_series(tmp_path / "ct", slices=3, each=burned))
    order = Order(everything(holding), tmp_path / "out", POLICY)
    done = export(holding.database, holding.files, order, progress=silent)
    assert done.instances == 2
    assert [uid for uid, _ in done.refused] == [instances[1].sop_instance_uid]
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert list(json.loads(manifest)["not_exported"].values()) == [1]
    assert instances[1].sop_instance_uid not in manifest


def test_an_export_of_nothing_leaves_nothing(holding: Holding, tmp_path: Path) -> None:
    def burned(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES"

    holding.receive(write_ct_series(tmp_path / "ct", slices=1, each=burned))
    before = set(tmp_path.iterdir())
    with pytest.raises(ExportFault, match="nothing can be exported"):
        export(holding.database, holding.files, Order(everything(holding), tmp_path / "out", POLICY), progress=silent)
    assert set(tmp_path.iterdir()) == before


def test_a_stored_file_that_has_changed_is_not_exported(holding: Holding, tmp_path: Path) -> None:
    first, _ = holding.receive(write_ct_series(tmp_path / "ct", slices=2))
    path = holding.files.path_of(first.sop_instance_uid)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2] + b"!!")
    done = export(holding.database, holding.files, Order(everything(holding), tmp_path / "out"), progress=silent)
    assert [uid for uid, _ in done.refused] == [first.sop_instance_uid]


def test_a_damaged_file_is_not_de_identified_into_a_good_one(holding: Holding, tmp_path: Path) -> None:
    first, _ = holding.receive(write_ct_series(tmp_path / "ct", slices=2))
    path = holding.files.path_of(first.sop_instance_uid)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2] + b"!!")
    done = export(
        holding.database, holding.files, Order(everything(holding), tmp_path / "out", POLICY), progress=silent
    )
    assert [uid for uid, _ in done.refused] == [first.sop_instance_uid]


def test_an_export_that_fails_at_its_end_leaves_no_key_list(holding: Holding, tmp_path: Path) -> None:
    holding.receive(write_ct_series(tmp_path / "ct", slices=1))
    before = set(tmp_path.iterdir())
    order = Order(everything(holding), tmp_path / "out", POLICY, tmp_path / "key.csv")

    def in_the_way(done: int, total: int) -> None:
        if done == total:  # what stands there now was not when the export began
            (tmp_path / "out").write_text("another's")

    with pytest.raises(OSError, match="out"):
        export(holding.database, holding.files, order, progress=in_the_way)
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out"}
    nowhere = Order(order.chosen, tmp_path / "new", POLICY, tmp_path / "nowhere" / "key.csv")
    with pytest.raises(ExportFault, match="is no folder"):
        export(holding.database, holding.files, nowhere, progress=silent)


def test_every_exported_series_is_in_the_audit_without_its_pseudonyms(holding: Holding, tmp_path: Path) -> None:
    (one,) = holding.receive(write_ct_series(tmp_path / "ct", slices=1))
    order = Order(everything(holding), tmp_path / "out", POLICY, by="anna")
    done = export(holding.database, holding.files, order, progress=silent)
    with holding.database.read() as connection:
        rows = audit.entries(connection, series_instance_uid=one.series_instance_uid)
        audit.verify(connection)
    (row,) = [row for row in rows if row.event == "exported"]
    assert (row.details["by"], row.details["deidentified"], row.details["instances"]) == ("anna", True, 1)
    assert row.details["manifest_sha256"] == done.manifest_sha256
    exported = dcmread(files_in(tmp_path / "out")[0])
    assert str(exported.PatientID) not in json.dumps(row.details)
    assert str(exported.SOPInstanceUID) not in json.dumps(row.details)


def test_a_dicomdir_lists_files_that_are_still_byte_for_byte_those_stored(holding: Holding, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", slices=3)
    holding.receive(paths)
    order = Order(everything(holding), tmp_path / "out", dicomdir=True)
    export(holding.database, holding.files, order, progress=silent)
    directory = dcmread(tmp_path / "out" / "DICOMDIR")
    listed = [
        tmp_path.joinpath("out", *record.ReferencedFileID)
        for record in directory.DirectoryRecordSequence
        if "ReferencedFileID" in record
    ]
    assert {one.read_bytes() for one in listed} == {one.read_bytes() for one in paths}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    named = {tmp_path / "out" / one["file"] for one in manifest["series"][0]["instances"]}
    assert named == set(listed)


def test_a_de_identified_export_can_have_a_dicomdir_that_names_nobody(holding: Holding, tmp_path: Path) -> None:
    holding.receive(write_ct_series(tmp_path / "ct", slices=2))
    policy = Policy(frozenset({Option.MODIFIED_DATES}), POLICY.secret)
    order = Order(everything(holding), tmp_path / "out", policy, dicomdir=True)
    done = export(holding.database, holding.files, order, progress=silent)
    content = (tmp_path / "out" / "DICOMDIR").read_bytes()
    assert done.instances == 2 and not [word for word in PATIENT if word.encode() in content]


def test_real_series_are_exported_and_names_nobody(holding: Holding, tmp_path: Path) -> None:
    folder = fixtures_folder() / "pet_wholebody_ac_STS_001"
    instances = holding.receive(sorted(folder.glob("*.dcm")))
    done = export(
        holding.database, holding.files, Order(everything(holding), tmp_path / "out", POLICY), progress=silent
    )
    assert (done.instances, done.refused) == (len(instances), ())
    patient = str(dcmread(min(folder.glob("*.dcm")), stop_before_pixels=True).PatientID).encode()
    assert not any(patient in path.read_bytes() for path in files_in(tmp_path / "out"))
