"""Table E.1-1 of PS3.15: what the Basic Profile and its options do to every attribute that may identify somebody.

`profile.json` was typed out of the standard, once: a row's basic action, then what each option's column says. Rows
that the edition 2026c added have no option's column yet: no option keeps them, which is the safe reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from dicomnode.deidentify.values import words

PROFILE_FILE = Path(__file__).with_suffix(".json")
DATES = frozenset({"DA", "DT", "TM"})
BASIC_CODE = ("113100", "Basic Application Confidentiality Profile")


class Option(StrEnum):
    """An option of the profile (PS3.15 E.3), by the word that the command knows it by."""

    SAFE_PRIVATE = "safe-private"
    UIDS = "uids"
    DEVICE = "device"
    INSTITUTION = "institution"
    PATIENT = "patient-characteristics"
    FULL_DATES = "full-dates"
    MODIFIED_DATES = "modified-dates"
    DESCRIPTORS = "descriptors"
    STRUCTURED = "structured-content"


CODES: Mapping[Option, tuple[str, str]] = {
    Option.STRUCTURED: ("113104", "Clean Structured Content Option"),
    Option.DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.FULL_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Option.MODIFIED_DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Option.PATIENT: ("113108", "Retain Patient Characteristics Option"),
    Option.DEVICE: ("113109", "Retain Device Identity Option"),
    Option.UIDS: ("113110", "Retain UIDs Option"),
    Option.SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}
"""CID 7050 of PS3.16."""
_COLUMNS: Mapping[str, Option] = {
    "private": Option.SAFE_PRIVATE,
    "uids": Option.UIDS,
    "device": Option.DEVICE,
    "institution": Option.INSTITUTION,
    "patient": Option.PATIENT,
    "full_dates": Option.FULL_DATES,
    "modified_dates": Option.MODIFIED_DATES,
    "descriptors": Option.DESCRIPTORS,
    "structured": Option.STRUCTURED,
}


class Action(StrEnum):
    """What is done to one element."""

    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced by a dummy"
    KEEP = "kept"
    CLEAN = "cleaned"
    UID = "replaced by a keyed UID"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: basic is the code of the Basic Profile's column, e.g. X/Z; options: K or C of the options' columns."""

    basic: str
    options: Mapping[Option, str]


OURS = words(
    """
    PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar ContactDisplayName ContactURI
    DocumentAuthorTrial EvaluatorName SecondaryReviewerName EncryptedAttributesSequence PrivateDataElementKeyword
    RecordKey PriorRecordKey ResponsibleGroupCodeSequence NTPSourceAddress OwnerID StorageMediaFileSetID
    FilenameInContainer FileAccessURI FolderAccessURI StoredInstanceBaseURI RetrieveURI RetrieveURL StorageURL
    PixelDataProviderURL RetrieveLocationUID OriginalAttributesSequence ModifiedAttributesSequence
    """
)
"""Not in the table, but they name people, places or former values: removed always."""


@cache
def table() -> Mapping[str, Any]:
    """The committed table as it is."""
    content: Mapping[str, Any] = json.loads(PROFILE_FILE.read_text())
    return content


@cache
def rows() -> Mapping[str, Row]:
    """Tag as eight lower-case digits, x for any, or `private` -> its row."""
    removed = Row("X", {})
    ours = {f"{tag:08x}": removed for one in OURS if (tag := tag_for_keyword(one)) is not None}
    return ours | {tag: _row(text) for tag, text in table()["rows"].items()}


def row_of(tag: int) -> Row | None:
    """The row of a tag; None where the table does not name it."""
    if (tag >> 16) & 1:
        return rows()["private"]
    name = f"{tag:08x}"
    if name.startswith("50"):
        return rows()["50xxxxxx"]
    if name.startswith("60"):
        # Without its data, or with its comments only, an overlay plane is nothing: the whole group goes.
        return rows()["60xx3000"]
    return rows().get(name)


def action_of(row: Row, *, vr: str, options: Set[Option], needed: str) -> Action:
    """What a row says under these options. needed: D, Z or X, what the object definition must find here.

    An option that keeps a device or an institution keeps no date: only the options for dates do.
    """
    said = {row.options[option] for option in options & row.options.keys() if vr not in DATES or _of_dates(option)}
    if Option.MODIFIED_DATES in options and row.options.get(Option.MODIFIED_DATES) == "C" and vr in DATES:
        return Action.CLEAN
    if "K" in said:
        return Action.KEEP
    if "C" in said:
        return Action.CLEAN
    return basic_action(row.basic, needed=needed)


def basic_action(code: str, *, needed: str) -> Action:
    """A code of the Basic Profile's column; of X/Z, X/D, X/Z/D and Z/D the first that the object definition allows.

    What X removes is emptied or replaced by a dummy where the object is none without it.
    """
    if code == "X/Z/U*":
        return Action.UID
    if code == "U":
        return Action.UID
    enough = {"X": "XZD", "Z": "ZD", "D": "D"}[needed]
    choices = ["X", "Z", "D"] if code == "X" else code.split("/")
    chosen = next((one for one in choices if one in enough), choices[-1])
    return {"X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY}[chosen]


def _of_dates(option: Option) -> bool:
    return option in (Option.FULL_DATES, Option.MODIFIED_DATES)


def _row(text: str) -> Row:
    basic, *columns = text.split()
    said = (column.split("=") for column in columns)
    return Row(basic, {_COLUMNS[name]: code for name, code in said if name in _COLUMNS})
