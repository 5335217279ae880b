"""Which patients, studies, series and instances may answer a query: SQL narrows by index, and its caller decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from storage.catalog import CHUNK, instance_uids
from storage.schema import instances as instance_rows
from storage.schema import series as series_rows
from storage.schema import series_keys, study_keys, study_names

T = TypeVar("T")
LAST = "\U0010ffff"
"""Behind every text that goes on."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a text may be: `text` itself; with `wild` a pattern of * and ?; with `upto` anything from text to there."""

    text: str
    wild: bool = False
    upto: str | None = None


Terms = Mapping[str, Sequence[Term]]
"""patient_id, accession_number, study_date, study_instance_uid, name_key or modality -> what it may hold."""


@dataclass(frozen=True, slots=True)
class StudyPlace:
    """A study that may answer, and its patient: one that holds series of two patients is two."""

    id: int
    study_instance_uid: str
    patient_id: str
    patient_issuer: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What a study holds, and how many of it."""

    modalities: tuple[str, ...]
    sop_class_uids: tuple[str, ...]
    series: int
    instances: int


@dataclass(frozen=True, slots=True)
class HeldInstance:
    """An instance as it can be sent."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


def find_studies(connection: sa.Connection, terms: Terms) -> list[StudyPlace]:
    """The studies that may answer, by their patients; all that do are among them."""
    keys = study_keys.c
    wanted = sa.select(keys.id, keys.study_instance_uid, keys.patient_id, keys.patient_issuer)
    for column, several in terms.items():
        if column == "name_key":
            named = sa.select(study_names.c.study_id).where(_any_of(study_names.c.name_key, several))
            wanted = wanted.where(keys.id.in_(named))
        elif column == "modality":
            holding = sa.select(series_keys.c.study_id).where(_any_of(series_keys.c.modality, several))
            if len(terms) > 1:  # asked of each study that the others leave: half of all series are of one modality
                wanted = wanted.where(holding.where(series_keys.c.study_id == keys.id).exists())
            else:
                wanted = wanted.where(keys.id.in_(holding))
        else:
            wanted = wanted.where(_any_of(keys[column], several))
    found = [StudyPlace(*row) for row in connection.execute(wanted)]
    return sorted(found, key=lambda one: (one.patient_id, one.patient_issuer, one.study_instance_uid, one.id))


def study_facts(connection: sa.Connection, study_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What is known of each study and its patient: keyword -> value."""
    facts: dict[int, dict[str, Any]] = {}
    for chunk in _chunks(study_ids):
        found = connection.execute(sa.select(study_keys.c.id, study_keys.c.facts).where(study_keys.c.id.in_(chunk)))
        facts |= {row[0]: row[1] for row in found}
    return facts


def count_studies(connection: sa.Connection, study_ids: Sequence[int]) -> dict[int, Counted]:
    """What each study holds."""
    counted: dict[int, Counted] = {}
    for chunk in _chunks(study_ids):
        rows: dict[int, list[tuple[str, list[str], int]]] = {}
        columns = series_keys.c.study_id, series_keys.c.modality, series_keys.c.sop_class_uids
        wanted = (
            sa.select(*columns, series_rows.c.instance_count)
            .join(series_rows, series_rows.c.series_instance_uid == series_keys.c.series_instance_uid)
            .where(series_keys.c.study_id.in_(chunk))
        )
        for study, modality, classes, count in connection.execute(wanted):
            rows.setdefault(study, []).append((modality, classes, count))
        for study, held in rows.items():
            counted[study] = Counted(
                tuple(sorted({modality for modality, _, _ in held if modality})),
                tuple(sorted({one for _, classes, _ in held for one in classes})),
                len(held),
                sum(count for _, _, count in held),
            )
    return counted


def studies_of_patients(
    connection: sa.Connection, patients: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], list[int]]:
    """(Patient ID, its issuer) -> the studies of that patient."""
    wanted = set(patients)
    found: dict[tuple[str, str], list[int]] = {}
    for chunk in _chunks(sorted({patient_id for patient_id, _ in wanted})):
        columns = study_keys.c.id, study_keys.c.patient_id, study_keys.c.patient_issuer
        for study, patient_id, issuer in connection.execute(
            sa.select(*columns).where(study_keys.c.patient_id.in_(chunk))
        ):
            if (patient_id, issuer) in wanted:
                found.setdefault((patient_id, issuer), []).append(study)
    return found


def find_series(connection: sa.Connection, study_id: int) -> list[tuple[dict[str, Any], int]]:
    """What is known of each series of the study, with how many instances it has, in the order they came."""
    wanted = (
        sa.select(series_keys.c.facts, series_rows.c.instance_count)
        .join(series_rows, series_rows.c.series_instance_uid == series_keys.c.series_instance_uid)
        .where(series_keys.c.study_id == study_id)
        .order_by(series_rows.c.first_received_at, series_keys.c.series_instance_uid)
    )
    return [(row[0], row[1]) for row in connection.execute(wanted)]


def find_instances(connection: sa.Connection, study_ids: Sequence[int], series_instance_uid: str) -> list[str]:
    """The SOP Instance UIDs of a series of one of those studies, in the order they came."""
    ours = series_keys.c.series_instance_uid == series_instance_uid
    study_id = connection.scalar(sa.select(series_keys.c.study_id).where(ours))
    return instance_uids(connection, series_instance_uid) if study_id in study_ids else []


def instance_headers(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """SOP Instance UID -> header: keyword -> value."""
    headers: dict[str, dict[str, Any]] = {}
    for chunk in _chunks(sop_instance_uids):
        columns = instance_rows.c.sop_instance_uid, instance_rows.c.header
        found = connection.execute(sa.select(*columns).where(instance_rows.c.sop_instance_uid.in_(chunk)))
        headers |= {row[0]: row[1] for row in found}
    return headers


def held_instances(
    connection: sa.Connection,
    study_ids: Sequence[int],
    *,
    series_instance_uids: Sequence[str] | None = None,
    sop_instance_uids: Sequence[str] | None = None,
    most: int,
) -> list[HeldInstance]:
    """The instances of these studies, series by series; only those of the series and only those named, when given.

    most: no more than one beyond so many are looked for.
    """
    columns = instance_rows.c.sop_instance_uid, instance_rows.c.sop_class_uid, instance_rows.c.transfer_syntax_uid
    found: list[HeldInstance] = []
    for studies in _chunks(study_ids):
        for narrower in _chunks(sop_instance_uids if sop_instance_uids is not None else series_instance_uids):
            wanted = (
                sa.select(*columns)
                .join(series_keys, series_keys.c.series_instance_uid == instance_rows.c.series_instance_uid)
                .where(series_keys.c.study_id.in_(studies))
                .order_by(series_keys.c.study_id, instance_rows.c.series_instance_uid)
                .order_by(instance_rows.c.received_at, instance_rows.c.sop_instance_uid)
                .limit(most + 1 - len(found))
            )
            if sop_instance_uids is not None:
                wanted = wanted.where(instance_rows.c.sop_instance_uid.in_(narrower))
                if series_instance_uids is not None:
                    wanted = wanted.where(series_keys.c.series_instance_uid.in_(list(series_instance_uids)[:CHUNK]))
            elif series_instance_uids is not None:
                wanted = wanted.where(series_keys.c.series_instance_uid.in_(narrower))
            found += [HeldInstance(*row) for row in connection.execute(wanted)]
            if len(found) > most:
                return found
    return found


def _chunks(values: Sequence[T] | None) -> list[list[T]]:
    """So many as one statement takes; None: one chunk that says nothing."""
    if values is None:
        return [[]]
    unique = list(dict.fromkeys(values))
    return [unique[first : first + CHUNK] for first in range(0, len(unique), CHUNK)]


def _any_of(column: sa.ColumnElement[str], several: Sequence[Term]) -> sa.ColumnElement[bool]:
    exact = [one.text for one in several if not one.wild and one.upto is None]
    conditions = [_one_of(column, one) for one in several if one.wild or one.upto is not None]
    conditions += [column.in_(exact[first : first + CHUNK]) for first in range(0, len(exact), CHUNK)]
    return sa.or_(sa.false(), *conditions)


def _one_of(column: sa.ColumnElement[str], term: Term) -> sa.ColumnElement[bool]:
    if term.upto is not None:
        return sa.and_(column >= term.text, column <= term.upto)
    begin = term.text[: min((term.text + "*").index("*"), (term.text + "?").index("?"))]
    pattern = "".join({"*": "%", "?": "_", "%": "/%", "_": "/_", "/": "//"}.get(one, one) for one in term.text)
    like = column.like(pattern, escape="/")
    return sa.and_(column >= begin, column < begin + LAST, like) if begin and column.name == "name_key" else like
