"""Which patients, studies, series and instances may answer a query: SQL narrows by index, and its caller decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.catalog import CHUNK
from storage.schema import instances as instance_rows
from storage.schema import series as series_rows
from storage.schema import series_keys, study_keys, study_names

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
    """A study that may answer, and its patient."""

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
    wanted = sa.select(study_keys.c.study_instance_uid, study_keys.c.patient_id, study_keys.c.patient_issuer)
    for column, several in terms.items():
        if column == "name_key":
            named = sa.select(study_names.c.study_instance_uid).where(_any_of(study_names.c.name_key, several))
            wanted = wanted.where(study_keys.c.study_instance_uid.in_(named))
        elif column == "modality":
            holding = sa.select(series_keys.c.study_instance_uid).where(_any_of(series_keys.c.modality, several))
            wanted = wanted.where(study_keys.c.study_instance_uid.in_(holding))
        else:
            wanted = wanted.where(_any_of(study_keys.c[column], several))
    found = [StudyPlace(*row) for row in connection.execute(wanted)]
    return sorted(found, key=lambda one: (one.patient_id, one.patient_issuer, one.study_instance_uid))


def study_facts(connection: sa.Connection, study_instance_uids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is known of each study and its patient: keyword -> value."""
    facts: dict[str, dict[str, Any]] = {}
    for chunk in _chunks(study_instance_uids):
        columns = study_keys.c.study_instance_uid, study_keys.c.facts
        found = connection.execute(sa.select(*columns).where(study_keys.c.study_instance_uid.in_(chunk)))
        facts |= {row[0]: row[1] for row in found}
    return facts


def count_studies(connection: sa.Connection, study_instance_uids: Sequence[str]) -> dict[str, Counted]:
    """What each study holds."""
    counted: dict[str, Counted] = {}
    for chunk in _chunks(study_instance_uids):
        rows: dict[str, list[tuple[str, list[str], int]]] = {}
        wanted = (
            sa.select(
                series_keys.c.study_instance_uid,
                series_keys.c.modality,
                series_keys.c.sop_class_uids,
                series_rows.c.instance_count,
            )
            .join(series_rows, series_rows.c.series_instance_uid == series_keys.c.series_instance_uid)
            .where(series_keys.c.study_instance_uid.in_(chunk))
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
) -> dict[tuple[str, str], list[str]]:
    """(Patient ID, its issuer) -> the studies of that patient."""
    wanted = set(patients)
    found: dict[tuple[str, str], list[str]] = {}
    for chunk in _chunks(sorted({patient_id for patient_id, _ in wanted})):
        columns = study_keys.c.study_instance_uid, study_keys.c.patient_id, study_keys.c.patient_issuer
        for study, patient_id, issuer in connection.execute(
            sa.select(*columns).where(study_keys.c.patient_id.in_(chunk))
        ):
            if (patient_id, issuer) in wanted:
                found.setdefault((patient_id, issuer), []).append(study)
    return found


def find_series(connection: sa.Connection, study_instance_uid: str) -> list[tuple[dict[str, Any], int]]:
    """What is known of each series of the study, with how many instances it has, in the order they came."""
    wanted = (
        sa.select(series_keys.c.facts, series_rows.c.instance_count)
        .join(series_rows, series_rows.c.series_instance_uid == series_keys.c.series_instance_uid)
        .where(series_keys.c.study_instance_uid == study_instance_uid)
        .order_by(series_rows.c.first_received_at, series_keys.c.series_instance_uid)
    )
    return [(row[0], row[1]) for row in connection.execute(wanted)]


def find_instances(connection: sa.Connection, study_instance_uid: str, series_instance_uid: str) -> list[str]:
    """The SOP Instance UIDs of a series of that study, in the order they came."""
    wanted = (
        sa.select(instance_rows.c.sop_instance_uid)
        .join(series_keys, series_keys.c.series_instance_uid == instance_rows.c.series_instance_uid)
        .where(
            instance_rows.c.series_instance_uid == series_instance_uid,
            series_keys.c.study_instance_uid == study_instance_uid,
        )
        .order_by(instance_rows.c.received_at, instance_rows.c.sop_instance_uid)
    )
    return list(connection.scalars(wanted))


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
    study_instance_uids: Sequence[str],
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
    for studies in _chunks(study_instance_uids):
        for narrower in _chunks(sop_instance_uids if sop_instance_uids is not None else series_instance_uids):
            wanted = (
                sa.select(*columns)
                .join(series_keys, series_keys.c.series_instance_uid == instance_rows.c.series_instance_uid)
                .where(series_keys.c.study_instance_uid.in_(studies))
                .order_by(series_keys.c.study_instance_uid, instance_rows.c.series_instance_uid)
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


def _chunks(values: Sequence[str] | None) -> list[list[str]]:
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
