"""Each entity of the level answers once, with what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode import answer_find
from dicomnode.identifier import Asked, Identifier
from dicomnode.query_levels import STUDY_ROOT, Negotiated, query_of
from tests.builders_dicom import write_ct_series, write_mr_series, write_pet_series
from tests.builders_query import PATIENT_FIND, STUDY_FIND, Archive, archive, find, keys

STUDIES = {
    "1.2.1": {"PatientID": "P%1", "PatientName": "Smith^John", "StudyDate": "20240110", "AccessionNumber": "A_1"},
    "1.2.2": {"PatientID": "P%1", "PatientName": "Smith^John", "StudyDate": "20240220", "AccessionNumber": "Ax1"},
    "1.2.3": {"PatientID": "Px1", "PatientName": "Müller^Hans", "StudyDate": "20240220", "AccessionNumber": "B"},
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    with archive(folder) as opened:
        for uid, facts in STUDIES.items():
            more: dict[str, Any] = {"study_instance_uid": uid, "rows": 8, "columns": 8, **facts}
            opened.keep(write_ct_series(folder / uid, series_instance_uid=f"{uid}.1", slices=3, **more))
        more = {"study_instance_uid": "1.2.1", "rows": 8, "columns": 8, **STUDIES["1.2.1"]}
        opened.keep(write_pet_series(folder / "pet", series_instance_uid="1.2.1.2", slices=2, **more))
        nameless = {"PatientID": "", "PatientName": "", "rows": 8, "columns": 8}
        opened.keep(write_mr_series(folder / "mr", study_instance_uid="1.2.4", slices=2, **nameless))
        yield opened


def found(filled: Archive, level: str, model: str = STUDY_FIND, **asked: Any) -> list[Dataset]:
    answers, last = find(filled.port, keys(level, **asked), model=model)
    assert last.Status == 0x0000, last
    return answers


def studies(filled: Archive, **asked: Any) -> list[str]:
    return sorted(one.StudyInstanceUID for one in found(filled, "STUDY", StudyInstanceUID="", **asked))


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ({}, ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]),
        ({"PatientID": "P%1"}, ["1.2.1", "1.2.2"]),
        ({"PatientID": "P_1"}, []),
        ({"PatientID": "P?1"}, ["1.2.1", "1.2.2", "1.2.3"]),
        ({"PatientID": "p%1"}, []),
        ({"PatientID": "p*"}, []),
        ({"AccessionNumber": "A_1"}, ["1.2.1"]),
        ({"PatientName": "muller*"}, ["1.2.3"]),
        ({"StudyDate": "20240201-", "PatientName": "SMITH^*"}, ["1.2.2"]),
        ({"ModalitiesInStudy": "PT"}, ["1.2.1"]),
        ({"ModalitiesInStudy": "C*"}, ["1.2.1", "1.2.2", "1.2.3"]),
        ({"ModalitiesInStudy": ["MR", "PT"]}, ["1.2.1", "1.2.4"]),
        ({"StudyDescription": "Made-up*", "PatientSex": "O"}, ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]),
        ({"StudyDescription": "made-up*"}, []),
    ],
)
def test_studies_answer_as_the_truth_table_says(filled: Archive, asked: dict[str, Any], answers: list[str]) -> None:
    assert studies(filled, **asked) == answers


def test_a_list_of_uids_names_those_and_no_others(filled: Archive) -> None:
    answers = found(filled, "STUDY", StudyInstanceUID=["1.2.2", "1.2.3", "9.9"])
    assert sorted(one.StudyInstanceUID for one in answers) == ["1.2.2", "1.2.3"]


def test_a_study_answers_once_with_its_counts_and_kinds(filled: Archive) -> None:
    [study] = found(
        filled,
        "STUDY",
        StudyInstanceUID="1.2.1",
        ModalitiesInStudy="",
        SOPClassesInStudy="",
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedInstances="",
        InstanceAvailability="",
    )
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 5)
    assert (study.NumberOfPatientRelatedStudies, study.NumberOfPatientRelatedInstances) == (2, 8)
    assert list(study.ModalitiesInStudy) == ["CT", "PT"] and len(study.SOPClassesInStudy) == 2
    assert (study.RetrieveAETitle, study.InstanceAvailability) == ("DICOMNODE", "ONLINE")
    assert study.QueryRetrieveLevel == "STUDY"


def test_a_patient_answers_once_and_those_without_an_id_are_not_made_one(filled: Archive) -> None:
    answers = found(filled, "PATIENT", PATIENT_FIND, PatientName="", NumberOfPatientRelatedStudies="")
    told = {one.PatientID: (str(one.PatientName), one.NumberOfPatientRelatedStudies) for one in answers}
    assert told == {"P%1": ("Smith^John", 2), "Px1": ("Müller^Hans", 1), "": ("", None)} and len(answers) == 3


def test_series_answer_within_their_study_only(filled: Archive) -> None:
    asked = {"Modality": "", "SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": "", "PatientName": ""}
    answers = found(filled, "SERIES", StudyInstanceUID="1.2.1", **asked)
    told = {one.SeriesInstanceUID: (one.Modality, one.NumberOfSeriesRelatedInstances) for one in answers}
    assert told == {"1.2.1.1": ("CT", 3), "1.2.1.2": ("PT", 2)}
    assert {one.StudyInstanceUID for one in answers} == {"1.2.1"} and str(answers[0].PatientName) == "Smith^John"
    assert not found(filled, "SERIES", StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.2.1")
    assert len(found(filled, "SERIES", StudyInstanceUID="1.2.1", Modality="PT")) == 1
    of_another = {"PatientID": "Px1", "StudyInstanceUID": "1.2.1"}
    assert not found(filled, "SERIES", PATIENT_FIND, **of_another)


def test_images_answer_with_whatever_their_headers_hold(filled: Archive) -> None:
    above = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}
    asked = {"InstanceNumber": "", "Rows": "", "ImagePositionPatient": "", "KVP": "", "SOPClassUID": ""}
    answers = found(filled, "IMAGE", **above, **asked)
    assert sorted(one.InstanceNumber for one in answers) == [1, 2, 3] and {one.Rows for one in answers} == {8}
    assert all(len(one.ImagePositionPatient) == 3 and one.SOPInstanceUID for one in answers)
    [second] = found(filled, "IMAGE", **above, InstanceNumber="2")
    assert [one.SOPInstanceUID for one in found(filled, "IMAGE", **above, SOPInstanceUID=second.SOPInstanceUID)] == [
        second.SOPInstanceUID
    ]
    assert not found(filled, "IMAGE", StudyInstanceUID="1.2.2", SeriesInstanceUID="1.2.1.1")


def test_what_is_not_known_of_an_entity_comes_back_empty_and_nothing_comes_unasked(filled: Archive) -> None:
    [study] = found(filled, "STUDY", StudyInstanceUID="1.2.1", Modality="", AdmittingDiagnosesDescription="")
    unasked = {"QueryRetrieveLevel", "RetrieveAETitle", "StudyInstanceUID"}
    assert {one.keyword for one in study} == unasked | {"Modality", "AdmittingDiagnosesDescription"}
    assert not study.Modality and not study.AdmittingDiagnosesDescription


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_both_transfer_syntaxes_say_the_same(filled: Archive, syntax: str) -> None:
    [study], _ = find(filled.port, keys("STUDY", StudyInstanceUID="1.2.3", PatientName=""), syntax=syntax)
    assert str(study.PatientName) == "Müller^Hans" and study.SpecificCharacterSet == "ISO_IR 192"


def test_the_answer_is_in_the_character_set_of_the_request_where_that_holds_it(filled: Archive) -> None:
    asked = keys("STUDY", SpecificCharacterSet="ISO_IR 100", PatientName="M\u00fcll*", StudyInstanceUID="")
    [study], _ = find(filled.port, asked)
    assert str(study.PatientName) == "Müller^Hans" and study.SpecificCharacterSet == "ISO_IR 100"


def test_an_answer_of_ignored_keys_says_so(filled: Archive) -> None:
    from pynetdicom import AE

    entity = AE("VIEWER")
    entity.add_requested_context(STUDY_FIND)
    association = entity.associate("127.0.0.1", filled.port, ae_title="DICOMNODE")
    for asked, status in (({"Modality": "CT"}, 0xFF01), ({"StudyDate": ""}, 0xFF00)):
        identifier = keys("STUDY", StudyInstanceUID="1.2.1", **asked)
        told = [one.Status for one, _ in association.send_c_find(identifier, STUDY_FIND)]
        assert told == [status, 0x0000]
    association.release()


def test_of_two_patients_under_one_study_uid_each_is_found_with_its_own_series(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        for patient in ("A", "B"):
            more: dict[str, Any] = {"series_instance_uid": f"1.2.1.{ord(patient)}", "PatientID": patient}
            more |= {"study_instance_uid": "1.2.1", "PatientName": f"Patient^{patient}", "rows": 8, "columns": 8}
            opened.keep(write_ct_series(tmp_path / patient, slices=2, **more))
        counts = {"NumberOfStudyRelatedSeries": "", "NumberOfPatientRelatedInstances": ""}
        answers = found(opened, "STUDY", StudyInstanceUID="1.2.1", PatientID="", **counts)
        told = [(one.PatientID, one.NumberOfStudyRelatedSeries, one.NumberOfPatientRelatedInstances) for one in answers]
        assert told == [("A", 1, 2), ("B", 1, 2)]
        assert len(found(opened, "STUDY", PatientID="B")) == 1 == len(found(opened, "STUDY", PatientName="*^B"))
        answers = found(opened, "SERIES", StudyInstanceUID="1.2.1", PatientName="", SeriesInstanceUID="")
        told = {one.SeriesInstanceUID: str(one.PatientName) for one in answers}
        assert told == {"1.2.1.65": "Patient^A", "1.2.1.66": "Patient^B"}
        above = {"PatientID": "B", "StudyInstanceUID": "1.2.1"}
        assert len(found(opened, "SERIES", PATIENT_FIND, **above)) == 1
        assert len(found(opened, "IMAGE", PATIENT_FIND, **above, SeriesInstanceUID="1.2.1.66")) == 2
        assert not found(opened, "IMAGE", PATIENT_FIND, **above, SeriesInstanceUID="1.2.1.65")


def test_who_gives_up_is_heard_also_while_nothing_answers(filled: Archive) -> None:
    asked = Identifier("STUDY", (), (Asked(0x00081030, "LO", "StudyDescription", ("nothing of that kind",)),))
    looks = []

    def given_up() -> bool:
        looks.append(1)
        return len(looks) == 2

    query = query_of(asked, STUDY_ROOT, Negotiated())
    assert not list(answer_find.found(query, filled.database, given_up=given_up))
    assert len(looks) == 2
