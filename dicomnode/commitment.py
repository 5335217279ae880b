"""The data sets of Storage Commitment (PS3.4 Annex J): the request and the report, built and read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicomnode.errors import DatasetUnfit
from storage.references import PROCESSING_FAILURE, Reference, Report

if TYPE_CHECKING:
    from pydicom.sequence import Sequence as Items

REQUEST_ACTION, ALL_COMMITTED, SOME_FAILED = 1, 1, 2
"""PS3.4 J.3.2 and J.3.3: the action type; the event types."""
MOST_REFERENCES = 20_000
"""Instances of one request that are looked at: more are a mistake, and no series is so long."""
_UID = re.compile(r"[0-9][0-9.]{0,63}")


def request_dataset(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """The action information of an N-ACTION (PS3.4 Table J.3-1)."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = [_item(one) for one in references]
    return dataset


def read_request(dataset: Dataset) -> tuple[str, list[Reference]]:
    """Transaction UID and instances. Raises DatasetUnfit when it cannot be a request."""
    try:
        transaction_uid, references = _transaction_of(dataset), _references(dataset.get("ReferencedSOPSequence"))
    except DatasetUnfit:
        raise
    except Exception as fault:  # what was sent may make pydicom raise nearly anything
        raise DatasetUnfit(f"a request for storage commitment that cannot be read ({type(fault).__name__})") from fault
    if not references:
        raise DatasetUnfit("a request for storage commitment that names no instance")
    if len(set(references)) != len({one.sop_instance_uid for one in references}):
        raise DatasetUnfit("a request for storage commitment that names an instance with two SOP classes")
    return transaction_uid, references


def report_dataset(report: Report) -> tuple[int, Dataset]:
    """Event type and event information of an N-EVENT-REPORT (PS3.4 Table J.3-2)."""
    dataset = Dataset()
    dataset.TransactionUID = report.transaction_uid
    if report.committed:
        dataset.ReferencedSOPSequence = [_item(one) for one in report.committed]
    if not report.failed:
        return ALL_COMMITTED, dataset
    dataset.FailedSOPSequence = [_item(one, failure=reason) for one, reason in report.failed]
    return SOME_FAILED, dataset


def read_report(dataset: Dataset) -> Report:
    """What the peer says; the lists count, whatever the event type says of them. Raises DatasetUnfit."""
    try:
        items: Items | None = dataset.get("FailedSOPSequence")
        return Report(
            _transaction_of(dataset),
            tuple(_references(dataset.get("ReferencedSOPSequence"))),
            tuple(
                (reference, int(item.get("FailureReason") or PROCESSING_FAILURE))
                for reference, item in zip(_references(items), items or (), strict=True)
            ),
        )
    except DatasetUnfit:
        raise
    except Exception as fault:  # what was sent may make pydicom raise nearly anything
        raise DatasetUnfit(f"a report of storage commitment that cannot be read ({type(fault).__name__})") from fault


def _item(reference: Reference, *, failure: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class_uid, reference.sop_instance_uid
    if failure is not None:
        item.FailureReason = failure
    return item


def _transaction_of(dataset: Dataset) -> str:
    return _uid(dataset.get("TransactionUID"), "TransactionUID")


def _references(items: Iterable[Dataset] | None) -> list[Reference]:
    found: list[Reference] = []
    for item in items or ():
        if len(found) == MOST_REFERENCES:
            raise DatasetUnfit(f"more than {MOST_REFERENCES} instances in one transaction of storage commitment")
        found.append(
            Reference(
                _uid(item.get("ReferencedSOPClassUID"), "ReferencedSOPClassUID"),
                _uid(item.get("ReferencedSOPInstanceUID"), "ReferencedSOPInstanceUID"),
            )
        )
    return found


def _uid(value: object, keyword: str) -> str:
    if not isinstance(value, str) or _UID.fullmatch(value) is None:
        raise DatasetUnfit(f"storage commitment with a {keyword} that is no UID")
    return str(value)
