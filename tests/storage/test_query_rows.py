"""What can be found by a query is what the catalogue lists: it comes and goes with it, in the same transaction."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage import catalog, query_rows
from storage.database import Database
from storage.queries import Term, count_studies, find_series, find_studies, study_facts
from storage.retention import Member, _forget
from storage.schema import series_keys, study_keys, study_names
from tests.storage.builders_storage import SERIES, STUDY, instance, later

HEADER = {
    "PatientName": "Müller^Hans=山田",
    "PatientID": "P1",
    "IssuerOfPatientID": "HOSPITAL",
    "StudyDate": "2024.05.06",
    "AccessionNumber": "A1",
    "Modality": "CT",
    "SeriesNumber": 3,
    "Rows": 512,
}
PR = "1.2.840.10008.5.1.4.1.1.11.1"


def studies_of(database: Database, uid: str = STUDY) -> list[dict[str, object]]:
    with database.read() as connection:
        ids = [one.id for one in find_studies(connection, {"study_instance_uid": [Term(uid)]})]
        known = study_facts(connection, ids)
    return [known[one] for one in ids]


def study_of(database: Database, uid: str = STUDY) -> dict[str, object]:
    [study] = studies_of(database, uid)
    return study


def rows(database: Database) -> list[int]:
    with database.read() as connection:
        tables = (study_keys, study_names, series_keys)
        return [connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables]


def test_a_listed_instance_can_be_found_by_patient_and_study(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header=HEADER)])
    for column, text in (
        ("patient_id", "P1"),
        ("accession_number", "A1"),
        ("study_date", "20240506"),
        ("name_key", "muller^hans"),
        ("name_key", "山田"),
    ):
        with database.read() as connection:
            [found] = find_studies(connection, {column: [Term(text)]})
        assert (found.study_instance_uid, found.patient_id, found.patient_issuer) == (STUDY, "P1", "HOSPITAL"), column
    assert study_of(database)["PatientName"] == "Müller^Hans=山田"


def test_study_and_series_speak_with_the_first_instance_and_later_ones_fill_what_it_left_empty(
    database: Database,
) -> None:
    first = {"PatientID": "P1", "Modality": "CT"}
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header=first)])
    with database.begin() as connection:
        second = {"PatientName": "Late^Comer", "Modality": "MR", "SeriesNumber": 4}
        catalog.add_instances(connection, [instance(2, header=second, at=later(1), sop_class_uid=PR)])
    assert study_of(database) == {"PatientID": "P1", "PatientName": "Late^Comer"}
    with database.read() as connection:
        [study] = [one.id for one in find_studies(connection, {"name_key": [Term("late^comer")]})]
        assert find_series(connection, study) == [({"Modality": "CT", "SeriesNumber": 4}, 2)]
        counted = count_studies(connection, [study])[study]
    assert (counted.modalities, counted.series, counted.instances) == (("CT",), 1, 2)
    assert counted.sop_class_uids == tuple(sorted(("1.2.840.10008.5.1.4.1.1.2", PR)))


@pytest.mark.parametrize(
    ("second", "studies"),
    [
        ({"PatientID": "P2"}, 2),
        ({"PatientID": "P1", "IssuerOfPatientID": "OTHER"}, 2),
        ({"PatientName": "Somebody^Else"}, 2),
        ({"PatientID": "P1", "PatientName": "Mueller^Hans"}, 1),
        ({"PatientName": "MULLER^HANS=山田"}, 1),
        ({"PatientID": "P1"}, 1),
        ({}, 1),
    ],
)
def test_a_study_that_holds_series_of_two_patients_is_a_study_of_each(
    database: Database, second: dict[str, str], studies: int
) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header=HEADER)])
        catalog.add_instances(connection, [instance(1, series="1.2.9", header=second)])
        catalog.add_instances(connection, [instance(2, series="1.2.9", header={**second, "StudyID": "7"})])
    with database.read() as connection:
        places = find_studies(connection, {"study_instance_uid": [Term(STUDY)]})
        counted = count_studies(connection, [one.id for one in places])
    assert len(places) == studies
    told = {one.patient_id: counted[one.id].instances for one in places if one.patient_issuer != "OTHER"}
    assert told["P1"] == (3 if studies == 1 else 1)
    assert sum(one.instances for one in counted.values()) == 3


def test_an_instance_of_another_patient_in_a_series_tells_nothing_of_the_first(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header={"PatientID": "P1"})])
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(2, header={"PatientID": "P2", "PatientName": "Two^B"})])
    assert study_of(database) == {"PatientID": "P1"}


def test_the_same_instance_again_changes_nothing(database: Database) -> None:
    for _ in range(2):
        with database.begin() as connection:
            catalog.add_instances(connection, [instance(1, header=HEADER)])
    assert rows(database) == [1, 2, 1]


def test_what_we_derived_is_found_too(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header=HEADER)])
        made = instance(1, series="9.8", header={**HEADER, "SeriesNumber": 900})
        catalog.add_derived_series(connection, "9.8", [made])
    with database.read() as connection:
        [study] = find_studies(connection, {})
        assert [facts["SeriesNumber"] for facts, _ in find_series(connection, study.id)] == [3, 900]


def test_a_removed_series_is_found_no_more_and_takes_its_study_when_it_was_the_last(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header=HEADER), instance(1, series="1.2.9", header=HEADER)])
    for uid, left in ((SERIES, [1, 2, 1]), ("1.2.9", [0, 0, 0])):
        with database.begin() as connection:
            _forget(connection, Member(uid, 1, 1, None), "a test")
        assert rows(database) == left


def test_a_transaction_that_fails_leaves_nothing_to_find(database: Database) -> None:
    with pytest.raises(RuntimeError), database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header=HEADER)])
        raise RuntimeError
    assert rows(database) == [0, 0, 0]


def test_series_that_lack_their_rows_get_them(database: Database) -> None:
    with database.begin() as connection:
        several = [instance(1, header=HEADER), instance(2, header=HEADER, sop_class_uid=PR, at=later(1))]
        catalog.add_instances(connection, [*several, instance(1, series="1.2.9", study_instance_uid="1.7", header={})])
        for table in (study_names, study_keys, series_keys):
            connection.execute(sa.delete(table))
    assert query_rows.fill_missing(database) == 2
    assert rows(database) == [2, 2, 2]
    assert query_rows.fill_missing(database) == 0
    with database.read() as connection:
        [study] = find_studies(connection, {"study_instance_uid": [Term(STUDY)]})
        assert len(count_studies(connection, [study.id])[study.id].sop_class_uids) == 2
    assert study_of(database)["PatientID"] == "P1"
