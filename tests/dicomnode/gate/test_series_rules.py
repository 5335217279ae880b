"""The instances of a derived series are held against each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.gate.series_rules import (
    Member,
    Members,
    first_source,
    numbering_findings,
    series_findings,
    synthesis_findings,
)
from dicomnode.load import load_volume
from dicomnode.source_image import SourceImage
from tests.builders_dicom import card_for, derived_datasets, write_ct_series, write_mr_series, write_pet_series

WRITERS: dict[str, Callable[..., list[Path]]] = {"CT": write_ct_series, "PT": write_pet_series, "MR": write_mr_series}


def broken(datasets: list[Dataset]) -> dict[str, str]:
    return {
        finding.rule: subject for finding, subject in series_findings(Members.of(datasets).all) if not finding.holds
    }


def derived(folder: Path, modality: str) -> list[Dataset]:
    return list(derived_datasets(WRITERS[modality](folder), card_for(modality)))


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_a_good_series_breaks_no_rule(tmp_path: Path, modality: str) -> None:
    assert not broken(derived(tmp_path, modality))


@pytest.mark.parametrize(
    ("rule", "modality", "attributes"),
    [
        ("C2", "CT", {"PatientID": "PHANTOM-2"}),
        ("C4", "CT", {"FrameOfReferenceUID": "1.2.3"}),
        ("C5", "CT", {"PixelSpacing": ["1", "2"]}),
        ("C6", "CT", {"InstanceNumber": "1"}),
        ("C7", "CT", {"SeriesNumber": "4"}),
        ("C8", "CT", {"SeriesDescription": "Other (AI)"}),
        ("C9", "CT", {"DeviceSerialNumber": "1"}),
        ("C16", "CT", {"SeriesTime": "000000"}),
        ("C17", "CT", {"ContentTime": "000000"}),
        ("C22", "CT", {"ContentQualification": "PRODUCT"}),
        ("C23", "CT", {"SyntheticData": "YES"}),
        ("P4", "PT", {"ImageIndex": 1}),
        ("P4", "PT", {"NumberOfSlices": 5}),
        ("P4", "PT", {"NumberOfTimeSlices": 9}),
        ("M3", "MR", {"EchoTime": "90"}),
        ("M3", "MR", {"EchoTime": None}),
    ],
)
def test_one_instance_that_is_unlike_the_others_is_named(
    tmp_path: Path, rule: str, modality: str, attributes: dict[str, Any]
) -> None:
    datasets = derived(tmp_path, modality)
    for keyword, value in attributes.items():
        setattr(datasets[2], keyword, value)
    assert rule in broken(datasets)


def test_what_may_be_there_only_once_is_found_twice(tmp_path: Path) -> None:
    datasets = derived(tmp_path, "CT")
    datasets[1].SOPInstanceUID = datasets[0].SOPInstanceUID
    datasets[2].SourceImageSequence = datasets[0].SourceImageSequence
    datasets[3].ImagePositionPatient = datasets[0].ImagePositionPatient
    assert set(broken(datasets)) == {"C3", "C13", "C5"}
    assert first_source(datasets[2]) == first_source(datasets[0])


def test_a_missing_pet_image_shows_in_the_count(tmp_path: Path) -> None:
    assert set(broken(derived(tmp_path, "PT")[:3])) == {"P4"}


def paired(folder: Path, **options: Any) -> list[tuple[Dataset, SourceImage]]:
    files = write_ct_series(folder, **options)
    _, images = load_volume(files)
    return list(zip(derived_datasets(files, card_for("CT")), images, strict=True))


def numbering(pairs: list[tuple[Dataset, SourceImage]]) -> list[str]:
    return [finding.rule for finding, _ in numbering_findings(members(pairs)) if not finding.holds]


def members(pairs: list[tuple[Dataset, SourceImage]]) -> list[tuple[Member, SourceImage]]:
    made = Members.of(dataset for dataset, _ in pairs)
    return list(zip(made.all, (image for _, image in pairs), strict=True))


def test_c6_numbers_are_the_sources_or_count_where_those_cannot_serve(tmp_path: Path) -> None:
    own = paired(tmp_path / "own")
    counted = paired(tmp_path / "counted", InstanceNumber="7")
    assert not numbering(own) and not numbering(counted)
    own[1][0].InstanceNumber = 9
    counted[1][0].InstanceNumber = 9
    assert numbering(own) == numbering(counted) == ["C6"]


def test_c7_the_series_number_follows_from_the_sources(tmp_path: Path) -> None:
    pairs = paired(tmp_path)
    for number, follows in ((307, True), (307_001, True), (307_499, True), (1_070_010_000, True), (407, False),
                            (307_500, False), (407_001, False), (1_070_010_001, False)):  # fmt: skip
        pairs[0][0].SeriesNumber = number
        assert numbering(pairs) == ([] if follows else ["C7"]), number
    assert not numbering(paired(tmp_path / "without", SeriesNumber=None))


@pytest.mark.parametrize(
    ("modality", "each"),
    [
        ("CT", lambda k: {"ImageOrientationPatient": ["1", "0", "-0" if k % 2 else "0", "0", "1.0", "0"]}),
        ("CT", lambda k: {"PixelSpacing": ["1.0", "1.00"] if k % 2 else ["1", "1"]}),
        ("CT", lambda k: {"ProtocolName": f"P{k}", "StudyTime": "101500" if k % 2 else "101500.000000"}),
        ("CT", lambda k: {"InstitutionName": "A" if k % 2 else ""}),
        ("MR", lambda k: {"EchoTime": "12" if k % 2 else "12.0"}),
        ("PT", lambda k: {"NumberOfTimeSlices": None, "SeriesTime": "102000" if k % 2 else "102000.000"}),
    ],
)
def test_what_only_is_written_in_another_way_or_varies_in_the_source_is_no_fault(
    tmp_path: Path, modality: str, each: Callable[[int], dict[str, Any]]
) -> None:
    def vary(k: int, dataset: Dataset) -> None:
        for keyword, value in each(k).items():
            if value is not None:
                setattr(dataset, keyword, value)

    files = WRITERS[modality](tmp_path, each=vary)
    assert not broken(list(derived_datasets(files, card_for(modality))))


def test_c23_all_are_synthetic_when_one_source_is_and_none_when_none_is(tmp_path: Path) -> None:
    def one_is(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.SyntheticData = "YES"

    def holds(pairs: list[tuple[Dataset, SourceImage]]) -> bool:
        return all(finding.holds for finding, _ in synthesis_findings(members(pairs)))

    mixed, plain = paired(tmp_path / "mixed", each=one_is), paired(tmp_path / "plain")
    assert {dataset.SyntheticData for dataset, _ in mixed} == {"YES"} and holds(mixed) and holds(plain)
    for dataset, _ in plain:
        dataset.SyntheticData = "YES"
    for dataset, _ in mixed:
        del dataset.SyntheticData
    assert not holds(mixed) and not holds(plain)
