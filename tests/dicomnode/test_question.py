"""A question is what was meant, and an answer is held against it: a peer may pass over what it does not know."""

from __future__ import annotations

from datetime import date

import pytest

from dicomnode.question import (
    Question,
    answers_series,
    answers_study,
    days,
    matches,
    retrieve_identifier,
    series_identifier,
    study_identifier,
)

TODAY = date(2024, 5, 6)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", ""),
        ("20240506", "20240506"),
        ("2024-05-06", "20240506"),
        ("20240501-20240531", "20240501-20240531"),
        ("2024-05-01-2024-05-31", "20240501-20240531"),
        ("20240501-", "20240501-"),
        ("-20240531", "-20240531"),
        ("today", "20240506"),
        ("last 3", "20240503-20240506"),
        ("last 30 days", "20240406-20240506"),
    ],
)
def test_a_day_or_a_range_of_days_is_understood(said: str, meant: str) -> None:
    assert days(said, today=TODAY) == meant


@pytest.mark.parametrize("said", ["yesterday", "2024", "20240230", "-", "20240531-20240501", "2024050", "20240501-x"])
def test_what_is_no_day_is_refused_in_words(said: str) -> None:
    with pytest.raises(ValueError, match=r"day|begins"):
        days(said, today=TODAY)


def test_a_backslash_would_ask_for_several_patients_and_is_refused() -> None:
    with pytest.raises(ValueError, match="patient id"):
        Question(patient_id="1\\2")


def test_only_star_and_question_mark_are_wildcards() -> None:
    assert matches("A*", "A1") and matches("A?", "A1") and matches("A.", "A.")
    assert not matches("A.", "A1") and not matches("A%", "A1") and not matches("A_", "A1") and not matches("[A]1", "A1")


def test_a_study_is_asked_for_by_its_keys_and_every_other_key_comes_back() -> None:
    identifier = study_identifier(Question(patient_id="4711", study_date="20240501-", modality=("CT",)))
    assert (identifier.QueryRetrieveLevel, identifier.PatientID, identifier.StudyDate) == ("STUDY", "4711", "20240501-")
    assert identifier.ModalitiesInStudy == "CT"
    assert "NumberOfStudyRelatedInstances" in identifier and not identifier.NumberOfStudyRelatedInstances
    assert "SpecificCharacterSet" not in identifier


def test_several_modalities_are_chosen_among_the_answers() -> None:
    asked = Question(modality=("CT", "PT"), study_instance_uid="1.2")
    assert not study_identifier(asked).ModalitiesInStudy and not series_identifier(asked).Modality
    assert answers_series(asked, {"StudyInstanceUID": "1.2", "Modality": "PT"})
    assert not answers_series(asked, {"StudyInstanceUID": "1.2", "Modality": "MR"})
    assert answers_study(asked, {"StudyInstanceUID": "1.2", "ModalitiesInStudy": ["MR", "CT"]})
    assert not answers_study(asked, {"StudyInstanceUID": "1.2", "ModalitiesInStudy": ["MR"]})


def test_a_name_beyond_ascii_is_asked_for_in_utf_8() -> None:
    assert study_identifier(Question(patient_name="Müller*")).SpecificCharacterSet == "ISO_IR 192"


def test_an_answer_about_another_patient_is_no_answer() -> None:
    asked = Question(patient_id="4711")
    assert answers_study(asked, {"PatientID": "4711"})
    assert not answers_study(asked, {"PatientID": "4712"})
    assert not answers_study(Question(patient_id="a1"), {"PatientID": "A1"})
    assert not answers_study(asked, {}), "who it is about must be said"


def test_an_answer_outside_the_days_asked_for_is_no_answer() -> None:
    asked = Question(study_date="20240501-20240531")
    assert answers_study(asked, {"StudyDate": "20240531"})
    assert not answers_study(asked, {"StudyDate": "20240601"})
    assert not answers_study(asked, {})


def test_an_answer_without_an_optional_key_is_left_to_the_level_below() -> None:
    assert answers_study(Question(modality=("CT",)), {})
    assert not answers_series(Question(modality=("CT",)), {}), "at its own level it must be said"


def test_a_description_is_compared_without_case() -> None:
    asked = Question(study_instance_uid="1.2", series_description="*low dose*")
    assert answers_series(asked, {"StudyInstanceUID": "1.2", "SeriesDescription": "Thorax LOW DOSE"})


def test_a_series_is_asked_for_as_a_whole_or_by_its_instances() -> None:
    assert retrieve_identifier("1.2", "1.2.3").QueryRetrieveLevel == "SERIES"
    some = retrieve_identifier("1.2", "1.2.3", ["1.2.3.4", "1.2.3.5"])
    assert (some.QueryRetrieveLevel, list(some.SOPInstanceUID)) == ("IMAGE", ["1.2.3.4", "1.2.3.5"])


def test_a_question_without_any_key_is_known_as_one_for_everything() -> None:
    assert Question().is_open and not Question(accession_number="1").is_open
    assert Question(series_description="x").of_series and not Question(patient_id="1").of_series
