"""C-FIND: the entities of a level that answer a query, each once, and what is told of them (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from dicomnode.identifier import AVAILABILITY, LEVEL, RETRIEVE_AE_TITLE, encode_identifier
from dicomnode.late_database import LateDatabase
from dicomnode.matching import Text
from dicomnode.query_levels import (
    OF_STUDY,
    PATIENT_COUNTS,
    SERIES_COUNT,
    STUDY_COUNTS,
    UNIQUE,
    Level,
    Query,
    supported,
)
from storage import queries
from storage.database import Connection
from storage.queries import StudyPlace

AT_ONCE = 200
"""Entities in one transaction: none is open while a peer takes its time."""
UNIQUE_TAGS = {
    Level.PATIENT: (0x00100020, "LO"),
    Level.STUDY: (0x0020000D, "UI"),
    Level.SERIES: (0x0020000E, "UI"),
    Level.IMAGE: (0x00080018, "UI"),
}
Facts = dict[str, Any]
T = TypeVar("T")


def found(query: Query, database: LateDatabase, *, given_up: Callable[[], bool] = lambda: False) -> Iterator[Facts]:
    """The attributes of each entity that answers: keyword -> value. Raises DatabaseAway.

    given_up: asked at each entity, also of those that do not answer: then no further one is looked at.
    """
    level = {
        Level.PATIENT: _patients,
        Level.STUDY: _studies,
        Level.SERIES: _series,
        Level.IMAGE: _images,
    }[query.level]
    for facts in level(query, database):
        if given_up():
            return
        if query.matches(facts):
            yield facts


def told(query: Query, facts: Mapping[str, Any], *, ae_title: str, implicit: bool) -> bytes:
    """The identifier of one answer: what was asked, and the unique keys of the level and of those above it."""
    elements = {
        one.tag: (one.vr, facts.get(one.keyword) if one.keyword and supported(query.level, one) else None)
        for one in query.asked
    }
    for level, (tag, vr) in UNIQUE_TAGS.items():
        if level is query.level or UNIQUE[level] in query.above:
            elements[tag] = (vr, query.above.get(UNIQUE[level], facts.get(UNIQUE[level])))
    elements[LEVEL] = ("CS", str(query.level))
    elements[RETRIEVE_AE_TITLE] = ("AE", ae_title)
    if AVAILABILITY in elements:
        elements[AVAILABILITY] = ("CS", "ONLINE")
    return encode_identifier(
        [(tag, vr, value) for tag, (vr, value) in elements.items()], implicit=implicit, wished=query.character_sets
    )


def _patients(query: Query, database: LateDatabase) -> Iterator[Facts]:
    """Each patient once: with the first of its studies that answers."""
    with database.read() as connection:
        places = queries.find_studies(connection, query.terms())
    groups = [list(group) for _, group in groupby(places, key=_patient)]
    for chunk in _portions(groups):
        with database.read() as connection:
            every = queries.study_facts(connection, [one.id for group in chunk for one in group])
            counts = _patient_counts(connection, chunk) if query.wants(*PATIENT_COUNTS) else {}
        for group in chunk:
            answers = (every.get(one.id) for one in group)
            facts = next((one for one in answers if one is not None and query.matches(one)), None)
            if facts is not None:
                yield facts | counts.get((group[0].patient_id, group[0].patient_issuer), {})


def _patient(place: StudyPlace) -> tuple[str, str, int]:
    """What two studies of one patient share; those without a Patient ID share nothing that is certain."""
    return place.patient_id, place.patient_issuer, 0 if place.patient_id else place.id


def _patient_counts(connection: Connection, groups: Sequence[Sequence[StudyPlace]]) -> dict[tuple[str, str], Facts]:
    patients = {(group[0].patient_id, group[0].patient_issuer) for group in groups if group[0].patient_id}
    studies = queries.studies_of_patients(connection, patients)
    counted = queries.count_studies(connection, [one for several in studies.values() for one in several])
    counts = {}
    for patient, several in studies.items():
        held = [counted[one] for one in several if one in counted]
        numbers = len(several), sum(one.series for one in held), sum(one.instances for one in held)
        counts[patient] = dict(zip(PATIENT_COUNTS, numbers, strict=True))
    return counts


def _studies(query: Query, database: LateDatabase) -> Iterator[Facts]:
    with database.read() as connection:
        places = queries.find_studies(connection, query.terms())
    for chunk in _portions(places):
        ids = [one.id for one in chunk]
        with database.read() as connection:
            every = queries.study_facts(connection, ids)
            counted = queries.count_studies(connection, ids) if query.wants(*STUDY_COUNTS, *OF_STUDY) else {}
            patients = _patient_counts(connection, [[one] for one in chunk]) if query.wants(*PATIENT_COUNTS) else {}
        for one in chunk:
            facts = every.get(one.id)
            if facts is None:
                continue  # removed since
            if (held := counted.get(one.id)) is not None:
                facts |= dict(zip(STUDY_COUNTS, (held.series, held.instances), strict=True))
                facts |= dict(zip(OF_STUDY, (list(held.modalities), list(held.sop_class_uids)), strict=True))
            yield facts | patients.get((one.patient_id, one.patient_issuer), {})


def _series(query: Query, database: LateDatabase) -> Iterator[Facts]:
    with database.read() as connection:
        ids = [one.id for one in queries.find_studies(connection, query.terms())]
        every = queries.study_facts(connection, ids)
        held = [(study, one) for study in ids for one in queries.find_series(connection, study)]
    for study, (facts, count) in held:
        yield every.get(study, {}) | facts | {SERIES_COUNT: count}


def _images(query: Query, database: LateDatabase) -> Iterator[Facts]:
    with database.read() as connection:
        ids = [one.id for one in queries.find_studies(connection, query.terms_above())]
        uids = queries.find_instances(connection, ids, query.above[UNIQUE[Level.SERIES]])
    asked = query.criteria.get(UNIQUE[Level.IMAGE])
    if isinstance(asked, Text):
        wanted = set(asked.wanted)
        uids = [one for one in uids if one in wanted]
    for chunk in _portions(uids):
        with database.read() as connection:
            headers = queries.instance_headers(connection, chunk)
        yield from (headers[uid] for uid in chunk if uid in headers)


def _portions(several: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(several), AT_ONCE):
        yield several[first : first + AT_ONCE]
