"""The audit's message of a query says by what was searched, and never whom."""

from __future__ import annotations

from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_dict
from pydicom.filereader import read_dataset

from dicomnode.audit_query import TRANSFER_SYNTAX_UID, query_of, sop_class_of


def told(details: dict[str, object]) -> Dataset:
    return read_dataset(BytesIO(query_of(details)), is_implicit_VR=False, is_little_endian=True)


def test_level_and_uids_are_told_and_of_other_keys_only_that_they_were_asked() -> None:
    asked = told(
        {
            "level": "SERIES",
            "asked": ["PatientID", "PatientName", "StudyDate", "StudyInstanceUID", "NoSuchKeyword"],
            "study_instance_uids": ["1.2.3", "1.2.4"],
        }
    )
    assert asked.QueryRetrieveLevel == "SERIES"
    assert list(asked.StudyInstanceUID) == ["1.2.3", "1.2.4"]
    assert "PatientID" in asked and not asked.PatientID
    assert "PatientName" in asked and not asked.PatientName
    assert not asked.StudyDate
    assert len(asked) == 5


def test_a_row_that_says_nothing_more_gives_an_empty_query_of_the_study_root() -> None:
    assert query_of({}) == b""
    assert sop_class_of({}) == "1.2.840.10008.5.1.4.1.2.2.1"
    assert sop_class_of({"model": "patient root"}) == "1.2.840.10008.5.1.4.1.2.1.1"


def test_another_reader_reads_it_by_the_transfer_syntax_that_is_told() -> None:
    head = BytesIO(query_of({"level": "STUDY", "asked": ["Modality"]}))
    assert TRANSFER_SYNTAX_UID == "1.2.840.10008.1.2.1"
    assert dcmread(head, force=True).QueryRetrieveLevel == "STUDY"


def test_whatever_was_asked_gives_a_data_set_because_one_row_must_not_hold_back_the_others() -> None:
    every = told({"level": "患者", "asked": sorted(keyword_dict), "study_instance_uids": ["1.2.3", "患\ud800"]})
    assert every.QueryRetrieveLevel == "??" and every.StudyInstanceUID[0] == "1.2.3"
    # "US or SS": an image is asked for by it, and a file cannot say so.
    assert "GrayLookupTableDescriptor" in every and "PixelData" in every and "Item" not in every
