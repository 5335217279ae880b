"""The words by which an instance names its patient and others, so that they are found wherever else they stand."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.deidentify.values import DUMMIES, words

IDENTIFIERS = words(
    """
    PatientID AccessionNumber OtherPatientIDs PatientBirthDate PatientAddress PatientTelephoneNumbers
    MedicalRecordLocator AdmissionID ServiceEpisodeID StudyID RequestedProcedureID
    FillerOrderNumberImagingServiceRequest PlacerOrderNumberImagingServiceRequest IssuerOfPatientID
    InsurancePlanIdentification PatientTelecomInformation ReferringPhysicianTelephoneNumbers ReferringPhysicianAddress
    InstitutionAddress PatientInsurancePlanCodeSequence ClinicalTrialSubjectID PerformedProcedureStepID
    ScheduledProcedureStepID
    """
)
"""Attributes whose whole value identifies; of names every part does."""
OF_THE_INSTITUTION = ("InstitutionName", "InstitutionalDepartmentName")
_OF_VALUES = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, OverflowError, EOFError)
UNREADABLE = (*_OF_VALUES, RecursionError, struct.error, zlib.error)
"""What pydicom raises for values and files it cannot read."""
PLACEHOLDERS = words(
    """
    none unknown anonymous anonymized anonymised anonym removed deidentified patient test tester dummy phantom name
    unspecified yes not null the and prof phd med van von der den del las los dos mrs doctor male female other
    """
)
_UID = re.compile(r"[0-9.]{8,}")
_IDEOGRAPHS = "\u2e80"
"""From here on names are short and stand in sentences without spaces."""
_SHORTEST_NAME, _SHORTEST_IDENTIFIER, _SHORTEST_JOINED = 3, 4, 7
DEEPEST = 64
"""Items within items that are looked into; pydicom cannot write what is a few times deeper (its fault would grow for
hours), and no standard object comes near."""


@dataclass(frozen=True)
class Identity:
    """Words that must not stand in what is exported; lower case."""

    words: frozenset[str]
    joined: frozenset[str]
    """Whole names without what stands between their parts; found inside longer words too."""
    uids: frozenset[str] = frozenset()

    def named_in(self, text: str) -> bool:
        """Whether the text holds one of the words, as a word of its own, or a whole name in one."""
        lower = text.casefold()
        if self._text_pattern.search(lower):
            return True
        together = re.sub(r"[\W_]", "", lower)
        return any(one in together for one in self.joined)

    def taken_out_of(self, text: str) -> str:
        """The text without these words, then in lower case; as it is where it holds none."""
        lower = text.casefold()
        return self._text_pattern.sub(" ", lower) if self._text_pattern.search(lower) else text

    def named_in_bytes(self, content: bytes) -> bool:
        """Whether encoded content holds one of the words, in UTF-8 or Latin-1."""
        lower = content.decode("latin-1").lower()
        if self.uids and any(one.strip(".") in self.uids for one in _UID.findall(lower)):
            return True
        return bool(self._bytes_pattern.search(lower))

    @cached_property
    def _text_pattern(self) -> re.Pattern[str]:
        letters = {word for word in self.words if word.isalpha()}
        others = self.words - letters
        grouped = "|".join(_grouped(word) for word in sorted(others, key=len, reverse=True)) or r"(?!)"
        return re.compile(rf"(?<![^\W\d_])(?:{_any_of(letters)})(?![^\W\d_])|(?<![^\W_])(?:{grouped})(?![^\W_])")

    @cached_property
    def _bytes_pattern(self) -> re.Pattern[str]:
        # Shorter ones stand by chance in numbers, and those in text were looked at one by one.
        long = {word for word in self.words if len(word) >= (7 if word.isdigit() else 5)}
        forms = {
            written.encode(charset, "ignore").decode("latin-1").lower()
            for word in long
            for written in (word, word.upper())
            for charset in ("utf-8", "latin-1")
        }
        return re.compile(rf"(?<![0-9a-z])(?:{_any_of(forms)})(?![0-9a-z])")

    def with_uids(self, uids: Iterable[str]) -> Identity:
        """The same with UIDs of the original."""
        return Identity(self.words, self.joined, frozenset(uid for uid in uids if len(uid) >= 8))


def identity_of(dataset: Dataset, *, keep_institution: bool) -> Identity:
    """What the data set says of persons, at any depth."""
    words: set[str] = set()
    joined: set[str] = set()
    identifiers = IDENTIFIERS | (set() if keep_institution else set(OF_THE_INSTITUTION))
    for element in elements_of(dataset):
        if element.VR == "PN":
            for name in texts_of(element.value):
                parts = [part for part in re.split(r"[\W_]+", name.casefold()) if part and part not in PLACEHOLDERS]
                words |= {part for part in parts if _telling(part, _SHORTEST_NAME)}
                whole = "".join(parts)
                if len(parts) > 1 and len(whole) >= _SHORTEST_JOINED:
                    joined |= {whole, "".join(reversed(parts))}
                joined |= {part for part in parts if len(part) > 1 and all(sign >= _IDEOGRAPHS for sign in part)}
        elif element.keyword in identifiers and element.VR != "SQ":
            values = (value.strip(" \0").casefold() for value in texts_of(element.value))
            words |= {value for value in values if _identifies(value, by_itself=element.keyword == "PatientID")}
    return Identity(frozenset(words), frozenset(joined))


def elements_of(dataset: Dataset, *, level: int = 0) -> Iterator[DataElement]:
    """Every element that can be read, those of items too; raises RecursionError where items lie too deep."""
    if level > DEEPEST:
        raise RecursionError(f"items lie more than {DEEPEST} levels deep")
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except UNREADABLE:
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements_of(item, level=level + 1)


def texts_of(value: object) -> list[str]:
    """The values of an element as text, numbers as they were written."""
    if value is None:
        return []
    values = value if isinstance(value, list | tuple | MultiValue) else [value]
    written = ((one, getattr(one, "original_string", None)) for one in values)
    return [text if isinstance(text, str) else str(one) for one, text in written]


def _identifies(value: str, *, by_itself: bool) -> bool:
    long = _telling(value, _SHORTEST_IDENTIFIER) and value not in PLACEHOLDERS and value != DUMMIES["DA"]
    return long and (by_itself or any(sign.isdigit() for sign in value))


def _telling(word: str, shortest: int) -> bool:
    return len(word) >= (max(shortest, _SHORTEST_IDENTIFIER) if word.isdigit() else shortest)


def _grouped(identifier: str) -> str:
    """A pattern of an identifier; of a long one however it is parted: 12345678 is written 12-345 678 too."""
    signs = re.sub(r"[\W_]", "", identifier)
    return r"[\W_]{0,2}".join(signs) if len(signs) >= _SHORTEST_JOINED else re.escape(identifier)


def _any_of(some: Iterable[str]) -> str:
    """A pattern of any of them; of none where there are none."""
    return "|".join(re.escape(word) for word in sorted(some, key=len, reverse=True)) or r"(?!)"
