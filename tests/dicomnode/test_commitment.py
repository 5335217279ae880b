"""Requests and reports of storage commitment go out as the standard has them, and come in however they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.commitment import MOST_REFERENCES, read_report, read_request, report_dataset, request_dataset
from dicomnode.errors import DatasetUnfit
from storage.references import Reference, Report

ONE, OTHER = (Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{number}") for number in (1, 2))


def test_a_request_names_its_transaction_and_every_instance_in_order() -> None:
    assert read_request(request_dataset("2.25.1", [ONE, OTHER])) == ("2.25.1", [ONE, OTHER])


@pytest.mark.parametrize(
    ("report", "event_type"),
    [
        (Report("2.25.1", (ONE, OTHER), ()), 1),
        (Report("2.25.1", (ONE,), ((OTHER, 0x0112),)), 2),
        (Report("2.25.1", (), ((ONE, 0x0119), (OTHER, 0x0213))), 2),
    ],
)
def test_a_report_says_which_failed_and_why_and_its_event_type_says_whether_any_did(
    report: Report, event_type: int
) -> None:
    said, dataset = report_dataset(report)
    assert said == event_type and read_report(dataset) == report
    # PS3.4 Table J.3-2: a list that would be empty is absent.
    assert ("ReferencedSOPSequence" in dataset) == bool(report.committed)
    assert ("FailedSOPSequence" in dataset) == bool(report.failed)


def test_a_failed_instance_without_a_reason_has_failed() -> None:
    _, dataset = report_dataset(Report("2.25.1", (), ((ONE, 0x0112),)))
    del dataset.FailedSOPSequence[0].FailureReason
    assert read_report(dataset).failed == ((ONE, 0x0110),)


def spoilt(**values: Any) -> Dataset:
    dataset = request_dataset("2.25.1", [ONE])
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "made",
    [
        Dataset,
        lambda: spoilt(TransactionUID=""),
        lambda: spoilt(ReferencedSOPSequence=[]),
        lambda: spoilt(ReferencedSOPSequence=[Dataset()]),
        lambda: request_dataset("2.25.1", [Reference("1.2", "../../etc/passwd")]),
        lambda: spoilt(ReferencedSOPSequence=[*spoilt().ReferencedSOPSequence] * (MOST_REFERENCES + 1)),
        lambda: request_dataset("2.25.1", [ONE, Reference("1.2", ONE.sop_instance_uid)]),
    ],
    ids=["nothing", "no transaction", "no instance", "no UIDs", "a path", "too many", "one of two classes"],
)
def test_what_cannot_be_a_request_is_refused(made: Callable[[], Dataset]) -> None:
    dataset = made()
    with pytest.raises(DatasetUnfit):
        read_request(dataset)


def test_a_report_that_cannot_be_read_is_refused() -> None:
    dataset = spoilt()
    dataset.FailedSOPSequence = [Dataset()]
    with pytest.raises(DatasetUnfit):
        read_report(dataset)
