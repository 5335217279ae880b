"""What a query/retrieve request asks for (PS3.4 C.4.1, C.6): its level, the entities above it, and its criteria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dicomnode.identifier import AVAILABILITY, LEVEL, RETRIEVE_AE_TITLE, Asked, Identifier, IdentifierFault
from dicomnode.matching import (
    FOR_EVER,
    Criterion,
    Name,
    Span,
    Text,
    Universal,
    Unmatchable,
    criterion,
    date_bounds,
    time_bounds,
)
from storage.name_keys import text_key
from storage.queries import Term
from storage.query_rows import PATIENT_FACTS, SERIES_FACTS, STUDY_FACTS


class Level(StrEnum):
    """The levels of the information models (C.6.1.1, C.6.2.1), by their terms."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


PATIENT_ROOT = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
STUDY_ROOT = PATIENT_ROOT[1:]
UNIQUE: Mapping[Level, str] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
PATIENT_COUNTS = ("NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances")
STUDY_COUNTS = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
OF_STUDY = ("ModalitiesInStudy", "SOPClassesInStudy")
SERIES_COUNT = "NumberOfSeriesRelatedInstances"
COUNTS = frozenset((*PATIENT_COUNTS, *STUDY_COUNTS, SERIES_COUNT))
"""Told, never matched (C.3.4): they are no attributes of an instance."""
OF_PATIENT_LEVEL = frozenset((*PATIENT_FACTS, *PATIENT_COUNTS))
OF_STUDY_LEVEL = OF_PATIENT_LEVEL | {*STUDY_FACTS, *STUDY_COUNTS, *OF_STUDY}
OF_SERIES_LEVEL = frozenset((*PATIENT_FACTS, *STUDY_FACTS, *SERIES_FACTS, SERIES_COUNT))
TOLD_TAGS = (RETRIEVE_AE_TITLE, AVAILABILITY)
COMBINED = {
    "StudyDate": "StudyTime",
    "SeriesDate": "SeriesTime",
    "AcquisitionDate": "AcquisitionTime",
    "ContentDate": "ContentTime",
}
"""Dates and the times that are matched with them when that has been negotiated (C.2.2.2.5.1)."""
MOST_STARS, MOST_WILD = 4, 50
"""Patterns with more, and more patterns, are left to Python: LIKE is slow with them."""
MOST_TERMS = 15_000
"""In one statement, each of one or two values: SQLite takes 32,766."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What extended negotiation agreed on (C.5.1.1)."""

    combined: bool = False
    empty: bool = False
    every: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A C-FIND request that can be answered."""

    level: Level
    above: Mapping[str, str]
    """Unique keys of the levels above -> their values."""
    asked: tuple[Asked, ...]
    criteria: Mapping[str, Criterion]
    """Keyword -> what is asked of it, where that is not just anything."""
    moments: tuple[tuple[str, str, str, str], ...]
    """Date, time, and the first and last moment of both together, where that has been negotiated."""
    ignored: bool
    """Whether it asks what is not supported at its level (C.4.1.1.4: 0xFF01)."""
    character_sets: tuple[str, ...]

    def wants(self, *keywords: str) -> bool:
        """Whether any of the attributes is to be told or matched."""
        return any(one.keyword in keywords for one in self.asked)

    def matches(self, facts: Mapping[str, Any]) -> bool:
        """Whether an entity with these attributes answers."""
        if not all(one.matches(facts.get(keyword)) for keyword, one in self.criteria.items()):
            return False
        for date, time, low, high in self.moments:
            day, hour = date_bounds(_text(facts, date)), time_bounds(_text(facts, time) or "00")
            if day is None or hour is None or not low <= day[0] + hour[0] <= high:
                return False
        return True

    def terms_above(self) -> dict[str, Sequence[Term]]:
        """The same from the unique keys above alone."""
        return {
            COLUMNS[keyword]: [Term(text_key(value))] for keyword, value in self.above.items() if keyword in COLUMNS
        }

    def terms(self) -> dict[str, Sequence[Term]]:
        """By what an index can find the studies that may answer; it leaves none out that does."""
        found = self.terms_above()
        for keyword, column in COLUMNS.items():
            terms = index_terms(self.criteria.get(keyword))
            if terms and len(terms) + sum(map(len, found.values())) <= MOST_TERMS:
                found[column] = terms
        return found


COLUMNS = {
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_instance_uid",
    "AccessionNumber": "accession_number",
    "StudyDate": "study_date",
    "PatientName": "name_key",
    "ModalitiesInStudy": "modality",
}


def supported(level: Level, asked: Asked) -> bool:
    """Whether the key can be answered at that level; an image answers with whatever its header holds."""
    if asked.tag in TOLD_TAGS:
        return True
    if level is Level.IMAGE:
        return bool(asked.keyword) and asked.keyword not in COUNTS and asked.keyword not in OF_STUDY
    keywords = {Level.PATIENT: OF_PATIENT_LEVEL, Level.STUDY: OF_STUDY_LEVEL, Level.SERIES: OF_SERIES_LEVEL}[level]
    return asked.keyword in keywords


def query_of(identifier: Identifier, levels: Sequence[Level], negotiated: Negotiated) -> Query:
    """The query that an identifier asks in an information model. Raises IdentifierFault where it breaks its rules."""
    level, above = placed(identifier, levels)
    asked = tuple(one for one in identifier.asked if one.keyword not in above)
    criteria: dict[str, Criterion] = {}
    ignored = False
    for one in asked:
        if one.tag in TOLD_TAGS:
            continue
        if not supported(level, one) or one.keyword in COUNTS:
            ignored = ignored or not supported(level, one) or any(value != "" for value in one.values)
            continue
        try:
            found = criterion(one.vr, one.values, empty=negotiated.empty, every=negotiated.every)
        except Unmatchable as fault:
            raise IdentifierFault(f"{one.keyword} holds {fault}", tag=one.tag) from fault
        if not isinstance(found, Universal):
            criteria[one.keyword] = found
    moments = _moments(criteria) if negotiated.combined else []
    for _, time, _, _ in moments:
        del criteria[time]
    return Query(level, above, asked, criteria, tuple(moments), ignored, identifier.character_sets)


def placed(identifier: Identifier, levels: Sequence[Level]) -> tuple[Level, dict[str, str]]:
    """The level of a request, and the single values of the unique keys above it (C.4.1.2.1, C.4.2.2.1).

    Raises IdentifierFault when one is missing: relational queries have not been negotiated.
    """
    try:
        level = Level(identifier.level.strip())
    except ValueError:
        level = None
    if level is None or level not in levels:
        raise IdentifierFault(f"its QueryRetrieveLevel is none of {', '.join(levels)}", tag=LEVEL)
    above: dict[str, str] = {}
    for higher in levels[: list(levels).index(level)]:
        values = identifier.values_of(UNIQUE[higher])
        if len(values) != 1:
            tag = next((one.tag for one in identifier.asked if one.keyword == UNIQUE[higher]), LEVEL)
            raise IdentifierFault(f"{UNIQUE[higher]} must hold one value in a request of level {level}", tag=tag)
        above[UNIQUE[higher]] = str(values[0])
    return level, above


def _moments(criteria: Mapping[str, Criterion]) -> list[tuple[str, str, str, str]]:
    found = []
    for date, time in COMBINED.items():
        days, hours = criteria.get(date), criteria.get(time)
        if isinstance(days, Span) and isinstance(hours, Span) and len(days.ranges) == len(hours.ranges) == 1:
            (first, last), (begin, end) = days.ranges[0], hours.ranges[0]
            low = first + begin if first else ""
            found.append((date, time, low, FOR_EVER if last == FOR_EVER else last + end))
    return found


def index_terms(asked: Criterion | None) -> list[Term]:
    """What an index may look for; none when the criterion says too little or in a way that only Python knows."""
    if isinstance(asked, Span):
        return [Term(low, upto=high) for low, high in asked.ranges]
    if isinstance(asked, Text) and not asked.every:
        return _few([Term(one, wild=asked.wild) for one in asked.wanted])
    if isinstance(asked, Name) and not asked.every:
        return _few([_name_term(groups) for groups in asked.wanted])
    return []


def _name_term(groups: Sequence[str]) -> Term:
    """One group of the name; of a pattern what goes up to its last letter, for components behind may be absent."""
    group = next((one for one in groups if one), "")
    if "*" not in group and "?" not in group:
        return Term(group)
    letters = group.rstrip("*?^")
    return Term(group if letters == group else letters + "*", wild=True)


def _few(terms: list[Term]) -> list[Term]:
    wild = [one for one in terms if one.wild]
    if any(one.text.strip("*") == "" or one.text.count("*") > MOST_STARS for one in wild) or len(wild) > MOST_WILD:
        return []
    return terms


def _text(facts: Mapping[str, Any], keyword: str) -> str:
    value = facts.get(keyword, "")
    return str(value[0] if isinstance(value, list) and value else value)
