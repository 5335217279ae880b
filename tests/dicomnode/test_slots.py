"""The series that a job needs is surely the patient's, of the right kind and study, and always the same one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dicomnode.need_settings import NeedTable
from dicomnode.rules import SharedAttributes
from dicomnode.slots import Candidate, best_of, same_patient, surely_same_patient, why_not
from dicomnode.uids import MODEL_NAME
from storage.catalog import Origin, Series, SeriesState

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def candidate(
    uid: str,
    *,
    study: str = "1.2",
    count: int = 3,
    origin: Origin = Origin.RECEIVED,
    differing: tuple[str, ...] = (),
    **values: Any,
) -> Candidate:
    series = Series(uid, study, "pacs", SeriesState.CLOSED, origin, 1, count, MOMENT, MOMENT, MOMENT, "")
    usual = {
        "PatientID": "4711",
        "PatientBirthDate": "19500101",
        "Modality": "CT",
        "StudyDate": "20240101",
        "StudyTime": "10",
        "FrameOfReferenceUID": "9",
    }
    shared = {key: value for key, value in (usual | values).items() if value is not None}
    return Candidate(series, SharedAttributes(shared, frozenset(differing)))


PET = candidate("1.2.1", Modality="PT")
STUDY = NeedTable(modality="CT")
EARLIER = NeedTable(modality="CT", of="earlier")


@pytest.mark.parametrize(
    ("need", "other", "why"),
    [
        (STUDY, candidate("1.2.2"), ""),
        (STUDY, PET, "it is the source"),
        (STUDY, candidate("1.2.2", origin=Origin.DERIVED), "derived"),
        (STUDY, candidate("1.2.2", ManufacturerModelName=MODEL_NAME), "derived"),
        (STUDY, candidate("1.2.2", Modality="MR"), "modality"),
        (STUDY, candidate("1.3.2", study="1.3"), "another study"),
        (STUDY, candidate("1.2.2", PatientID="4712"), "not surely"),
        (STUDY, candidate("1.2.2", PatientID=None), "not surely"),
        (STUDY, candidate("1.2.2", PatientSex=None, differing=("PatientSex",)), "not surely"),
        (STUDY, candidate("1.2.2", PatientBirthDate=None, PatientName="Doe^Jane"), ""),
        (EARLIER, candidate("1.3.2", study="1.3", StudyDate="20231231"), ""),
        (EARLIER, candidate("1.3.2", study="1.3", StudyDate="20231231", PatientBirthDate=None), "not surely"),
        (EARLIER, candidate("1.3.2", study="1.3", StudyDate="20240102"), "not earlier"),
        (EARLIER, candidate("1.3.2", study="1.3", StudyDate=None), "not earlier"),
        (EARLIER, candidate("1.2.2"), "the same study"),
        (NeedTable(modality="CT", same_frame_of_reference=True), candidate("1.2.2", FrameOfReferenceUID="8"), "frame"),
        (NeedTable(modality="CT", description="*AC*"), candidate("1.2.2", SeriesDescription="ct ac 3.0"), ""),
        (NeedTable(modality="CT", description="*AC*"), candidate("1.2.2", SeriesDescription="Bone"), "description"),
        (NeedTable(modality="CT", when="KVP > 100"), candidate("1.2.2", KVP=120.0), ""),
        (NeedTable(modality="CT", when="KVP > 100"), candidate("1.2.2", KVP=80.0), "condition"),
        (NeedTable(modality="CT", when="KVP > 100"), candidate("1.2.2"), "condition"),
    ],
)
def test_why_a_series_does_not_fill_the_need_is_said(need: NeedTable, other: Candidate, why: str) -> None:
    said = why_not(need, PET, other)
    assert (why in said) if why else said == ""


@pytest.mark.parametrize("keyword", ["PatientBirthDate", "PatientSex", "IssuerOfPatientID"])
def test_one_patient_id_with_two_birth_dates_is_two_patients(keyword: str) -> None:
    assert same_patient({"PatientID": "1", keyword: "A"}, {"PatientID": "1", keyword: "A"})
    assert same_patient({"PatientID": "1", keyword: "A"}, {"PatientID": "1"})
    assert not same_patient({"PatientID": "1", keyword: "A"}, {"PatientID": "1", keyword: "B"})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"PatientBirthDate": "1950"}, {"PatientBirthDate": "1950", "PatientName": "Roe^Jane"}, True),
        ({"PatientBirthDate": "1950"}, {"PatientBirthDate": "1951"}, False),
        ({"PatientName": "DOE^JOHN"}, {"PatientName": "Doe^John^^^", "PatientBirthDate": "1950"}, True),
        ({"PatientName": "Yamada^Tarou=山田^太郎"}, {"PatientName": "YAMADA^TAROU"}, True),
        ({"PatientName": "DOE^JOHN"}, {"PatientName": "ROE^RICHARD"}, False),
        ({"PatientName": "DOE^JOHN", "PatientSex": "M"}, {"PatientSex": "M"}, False),
        ({}, {}, False),
    ],
)
def test_of_another_study_a_patient_id_alone_is_not_enough(
    one: dict[str, str], other: dict[str, str], same: bool
) -> None:
    """Two hospitals give one number to two patients."""
    assert surely_same_patient({"PatientID": "1", **one}, {"PatientID": "1", **other}) is same
    assert not surely_same_patient({"PatientID": "1", **one}, {"PatientID": "2", **other})


def test_without_a_patient_id_nothing_of_another_study_is_read() -> None:
    nameless = candidate("1.2.1", Modality="PT", PatientID=None)
    assert why_not(STUDY, nameless, candidate("1.2.2", PatientID=None)) == ""
    assert "not surely" in why_not(EARLIER, nameless, candidate("1.3.2", study="1.3", PatientID=None, StudyDate="2023"))


def test_the_same_frame_then_the_latest_then_the_most_images_are_chosen() -> None:
    in_frame = candidate("1", StudyDate="20200101", count=1)
    late = candidate("2", StudyDate="20230101", FrameOfReferenceUID="8", count=1)
    large = candidate("3", StudyDate="20220101", FrameOfReferenceUID="8", count=99)
    larger = candidate("4", StudyDate="20220101", FrameOfReferenceUID="8", count=100)
    order = []
    left = [larger, late, in_frame, large]
    while left:
        order.append(best_of(PET, left).series.series_instance_uid)
        left = [one for one in left if one.series.series_instance_uid != order[-1]]
    assert order == ["1", "2", "4", "3"]
