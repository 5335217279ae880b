"""Files are told apart: ours, others', none at all."""

from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.verify.files import found_files, references_of, sha256_of_file
from tests.builders_companions import derived_files, phantom_derivation
from tests.builders_dicom import write_ct_series


def test_ours_and_others_are_told_apart_and_what_is_none_is_noted(tmp_path: Path) -> None:
    derived_files(tmp_path / "derived", phantom_derivation(tmp_path / "source"))
    (tmp_path / "readme.txt").write_text("text")
    (tmp_path / "x.passport.json").write_text("{}")
    found = found_files([tmp_path])
    assert (found.count, len(found.instances), len(found.ours()), len(found.passports)) == (10, 8, 4, 1)
    assert all(one.is_derived_image for one in found.ours()) and "readme.txt" in found.notes[0]
    assert len(found.of_series(found.ours()[0].series_instance_uid)) == 4


@pytest.mark.parametrize("keyword", ["ManufacturerModelName", "ContributingEquipmentSequence"])
def test_one_thing_that_names_us_is_enough(tmp_path: Path, keyword: str) -> None:
    (path, *_) = derived_files(tmp_path / "derived", phantom_derivation(tmp_path / "source"))
    dataset = dcmread(path)
    delattr(dataset, keyword)
    dataset.file_meta.ImplementationClassUID = "1.2.3"
    dataset.save_as(path)
    assert len(found_files([tmp_path / "derived"]).ours()) == 4


def test_somebody_elses_object_made_of_ours_is_not_ours(tmp_path: Path) -> None:
    (path, *_) = derived_files(tmp_path / "derived", phantom_derivation(tmp_path / "source"))
    dataset = dcmread(path)
    dataset.Manufacturer, dataset.ManufacturerModelName = "Another", "Another 1"
    theirs = dcmread(path).ContributingEquipmentSequence[0]
    dataset.ContributingEquipmentSequence = [*dataset.ContributingEquipmentSequence, theirs]
    dataset.file_meta.ImplementationClassUID = "1.2.3"
    dataset.save_as(path)
    assert len(found_files([tmp_path / "derived"]).ours()) == 3


def test_a_file_that_lies_in_two_named_folders_is_read_once(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "source")
    assert found_files([tmp_path, tmp_path / "source"]).count == 4


def test_a_damaged_file_is_a_finding_and_no_file_without_a_uid_is_an_instance(tmp_path: Path) -> None:
    (path, *_) = write_ct_series(tmp_path, slices=1)
    path.write_bytes(path.read_bytes()[:140])
    found = found_files([tmp_path])
    assert not found.instances and (found.findings or found.notes)


def test_two_sources_under_one_uid_are_noted(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "one", SOPInstanceUID="1.2.3", slices=1)
    write_ct_series(tmp_path / "two", SOPInstanceUID="1.2.3", slices=1, PatientSex="F")
    found = found_files([tmp_path])
    assert len(found.instances) == 1 and "different content" in found.notes[0] and not found.findings


def test_references_are_found_at_any_depth_but_for_sequences_that_name_no_instances(tmp_path: Path) -> None:
    (path, *_) = derived_files(tmp_path / "derived", phantom_derivation(tmp_path / "source"))
    dataset = dcmread(path)
    (source,) = {str(item.ReferencedSOPInstanceUID) for item in dataset.SourceImageSequence}
    assert references_of(dataset) == {source: str(dataset.SourceImageSequence[0].ReferencedSOPClassUID)}
    assert not references_of(dataset, passed_over=["SourceImageSequence", "ReferencedSeriesSequence"])
    assert len(sha256_of_file(path)) == 64
