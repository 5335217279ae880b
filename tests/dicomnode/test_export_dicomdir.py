"""A DICOMDIR names every file, and what it cannot name is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.export_dicomdir import make_dicomdir
from dicomnode.export_papers import ExportFault
from tests.builders_dicom import write_ct_series
from tests.builders_receive import sop_instance_uid_of


def test_files_move_where_the_dicomdir_says(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", slices=2)
    contents = {sop_instance_uid_of(path): path.read_bytes() for path in paths}
    (tmp_path / "out").mkdir()
    names = make_dicomdir(tmp_path / "out", {sop_instance_uid_of(path): path for path in paths})
    assert {uid: (tmp_path / "out" / name).read_bytes() for uid, name in names.items()} == contents
    assert not any(path.exists() for path in paths)
    kinds = [record.DirectoryRecordType for record in dcmread(tmp_path / "out" / "DICOMDIR").DirectoryRecordSequence]
    assert sorted(kinds) == ["IMAGE", "IMAGE", "PATIENT", "SERIES", "STUDY"]


def test_a_folder_may_be_named_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_ct_series(tmp_path / "ct", slices=1)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    (name,) = make_dicomdir(Path("out"), {sop_instance_uid_of(path): path}).values()
    assert Path("out", name).is_file() and not Path(name).is_absolute()


def test_a_study_without_a_date_cannot_be_named(tmp_path: Path) -> None:
    def undated(k: int, dataset: Dataset) -> None:
        dataset.StudyDate = ""

    paths = write_ct_series(tmp_path / "ct", slices=1, each=undated)
    with pytest.raises(ExportFault, match="cannot name"):
        make_dicomdir(tmp_path, {sop_instance_uid_of(path): path for path in paths})


def test_numbers_that_images_lack_are_counted_in_the_dicomdir_alone(tmp_path: Path) -> None:
    def unnumbered(k: int, dataset: Dataset) -> None:
        dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "", None, None

    paths = write_ct_series(tmp_path / "ct", slices=2, each=unnumbered)
    contents = {sop_instance_uid_of(path): path.read_bytes() for path in paths}
    (tmp_path / "out").mkdir()
    names = make_dicomdir(tmp_path / "out", {sop_instance_uid_of(path): path for path in paths})
    assert {uid: (tmp_path / "out" / name).read_bytes() for uid, name in names.items()} == contents
    records = dcmread(tmp_path / "out" / "DICOMDIR").DirectoryRecordSequence
    assert [one.StudyID for one in records if one.DirectoryRecordType == "STUDY"] == ["1"]
    assert sorted(int(one.InstanceNumber) for one in records if one.DirectoryRecordType == "IMAGE") == [1, 2]
