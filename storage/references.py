"""What requests and reports of storage commitment name: instances, and why one is not committed to."""

from __future__ import annotations

from dataclasses import dataclass

PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
CLASS_NOT_SUPPORTED = 0x0122
DUPLICATE_TRANSACTION = 0x0131
OUT_OF_RESOURCES = 0x0213
FAILURES = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_INSTANCE: "no such object instance",
    CLASS_INSTANCE_CONFLICT: "class / instance conflict",
    CLASS_NOT_SUPPORTED: "referenced SOP class not supported",
    DUPLICATE_TRANSACTION: "duplicate transaction UID",
    OUT_OF_RESOURCES: "resource limitation",
}
"""PS3.3 C.14.1.1: the failure reasons, in the standard's words."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance as requests and reports name it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Report:
    """What is said of one transaction. failed: with its failure reason; an instance in both lists has failed."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


def failure_in_words(reason: int) -> str:
    """A failure reason as a person reads it."""
    return f"0x{reason:04X} {FAILURES.get(reason, 'a reason the standard does not know')}"
