"""SQL narrows what may answer a query, on both databases alike, and leaves out nothing that does."""

from __future__ import annotations

import pytest

from storage import catalog
from storage.database import Connection, Database
from storage.queries import (
    Term,
    find_instances,
    find_studies,
    held_instances,
    instance_headers,
    studies_of_patients,
)
from tests.storage.builders_storage import instance

PATIENTS = {
    "1.1": {"PatientID": "A%1", "PatientName": "Smith^John", "StudyDate": "20240101"},
    "1.2": {"PatientID": "A_1", "PatientName": "Smithson^Ann", "StudyDate": "20240215", "Modality": "PT"},
    "1.3": {"PatientID": "Ax1", "PatientName": "Müller^Eva=山田", "StudyDate": "", "Modality": "MR"},
    "1.4": {"PatientID": "a%1", "PatientName": "O/Hara", "StudyDate": "20250101"},
    "1.5": {},
}


@pytest.fixture
def filled(database: Database) -> Database:
    with database.begin() as connection:
        listed = [
            instance(number, series=f"{study}.9", study_instance_uid=study, header={**header, "InstanceNumber": number})
            for study, header in PATIENTS.items()
            for number in (1, 2, 3)
        ]
        catalog.add_instances(connection, listed)
    return database


def ids(connection: Connection, *studies: str) -> list[int]:
    return [one.id for one in find_studies(connection, {"study_instance_uid": [Term(uid) for uid in studies]})]


def studies(database: Database, **terms: list[Term]) -> list[str]:
    with database.read() as connection:
        return sorted(one.study_instance_uid for one in find_studies(connection, terms))


@pytest.mark.parametrize(
    ("column", "terms", "found"),
    [
        ("patient_id", [Term("A%1")], ["1.1"]),
        ("patient_id", [Term("A_1")], ["1.2"]),
        ("patient_id", [Term("A%*", wild=True)], ["1.1"]),
        ("patient_id", [Term("A_1", wild=True)], ["1.2"]),
        ("patient_id", [Term("nobody"), Term("Ax1")], ["1.3"]),
        ("study_date", [Term("20240101", upto="20241231")], ["1.1", "1.2"]),
        ("study_date", [Term("20240301", upto="9" * 14)], ["1.4"]),
        ("name_key", [Term("smith*", wild=True)], ["1.1", "1.2"]),
        ("name_key", [Term("*son^*", wild=True)], ["1.2"]),
        ("name_key", [Term("smith^john")], ["1.1"]),
        ("name_key", [Term("山*", wild=True)], ["1.3"]),
        ("name_key", [Term("o/h*", wild=True)], ["1.4"]),
        ("name_key", [Term("?*", wild=True)], ["1.1", "1.2", "1.3", "1.4"]),
        ("study_instance_uid", [Term("1.5"), Term("1.1")], ["1.1", "1.5"]),
        ("study_instance_uid", [], []),
        ("patient_id", [Term("' OR 1=1 --")], []),
        ("modality", [Term("PT"), Term("M*", wild=True)], ["1.2", "1.3"]),
    ],
)
def test_the_studies_that_may_answer(filled: Database, column: str, terms: list[Term], found: list[str]) -> None:
    may_answer = studies(filled, **{column: terms})
    assert set(found) <= set(may_answer)
    # SQLite's LIKE knows no case among ASCII letters: the caller decides.
    assert {one for one in may_answer if one not in found} <= {"1.4", "1.1"}


def test_all_of_several_columns_must_fit(filled: Database) -> None:
    smiths = [Term("smith*", wild=True)]
    assert studies(filled, name_key=smiths, study_date=[Term("20240201", upto="20240301")]) == ["1.2"]
    assert studies(filled, name_key=smiths, modality=[Term("PT")]) == ["1.2"]
    assert studies(filled, name_key=smiths, modality=[Term("M*", wild=True)]) == []
    assert studies(filled) == sorted(PATIENTS)


def test_ten_thousand_values_are_one_question(filled: Database) -> None:
    assert studies(filled, study_instance_uid=[Term(f"9.{number}") for number in range(9_999)] + [Term("1.3")]) == [
        "1.3"
    ]


def test_studies_come_patient_by_patient(filled: Database) -> None:
    with filled.read() as connection:
        found = [one.patient_id for one in find_studies(connection, {})]
        assert studies_of_patients(connection, {("A_1", ""), ("A%1", "other")}) == {("A_1", ""): ids(connection, "1.2")}
    assert found == sorted(found)


def test_instances_are_those_of_the_series_in_that_study_in_the_order_they_came(filled: Database) -> None:
    with filled.read() as connection:
        assert find_instances(connection, ids(connection, "1.1"), "1.1.9") == ["1.1.9.1", "1.1.9.2", "1.1.9.3"]
        assert find_instances(connection, ids(connection, "1.2"), "1.1.9") == []
        assert instance_headers(connection, ["1.1.9.2", "7"])["1.1.9.2"]["InstanceNumber"] == 2


def test_what_is_to_be_sent_is_found_by_study_series_and_instance_and_never_outside_the_study(
    filled: Database,
) -> None:
    def uids(studies: list[str], most: int = 100, **narrower: list[str]) -> list[str]:
        with filled.read() as connection:
            return [
                one.sop_instance_uid
                for one in held_instances(connection, ids(connection, *studies), most=most, **narrower)
            ]

    assert uids(["1.1", "1.2"]) == [f"{study}.9.{number}" for study in ("1.1", "1.2") for number in (1, 2, 3)]
    assert uids(["1.1"], series_instance_uids=["1.1.9", "1.2.9"]) == ["1.1.9.1", "1.1.9.2", "1.1.9.3"]
    assert uids(["1.1"], series_instance_uids=["1.1.9"], sop_instance_uids=["1.1.9.3", "1.2.9.1"]) == ["1.1.9.3"]
    assert uids(["1.1"], sop_instance_uids=[]) == [] == uids([])
    assert len(uids(list(PATIENTS), most=4)) == 5
