"""What query/retrieve finds series by: one row for each study, series and name, kept beside the catalogue's rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from storage.name_keys import name_keys, text_key
from storage.schema import instances as instance_rows
from storage.schema import series as series_rows
from storage.schema import series_keys, study_keys, study_names

if TYPE_CHECKING:
    from storage.catalog import Instance
    from storage.database import Database

PATIENT_FACTS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex"),
    *("OtherPatientIDs", "OtherPatientNames", "EthnicGroup", "PatientComments"),
)
STUDY_FACTS = (
    *("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyInstanceUID", "StudyDescription"),
    *("ReferringPhysicianName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "AdmittingDiagnosesDescription"),
    *("PatientAge", "PatientSize", "PatientWeight", "Occupation", "AdditionalPatientHistory", "AdmissionID"),
    *("TimezoneOffsetFromUTC",),
)
SERIES_FACTS = (
    *("Modality", "SeriesNumber", "SeriesInstanceUID", "SeriesDescription", "SeriesDate", "SeriesTime"),
    *("BodyPartExamined", "ProtocolName", "Laterality", "PatientPosition", "OperatorsName", "PerformingPhysicianName"),
    *("PerformedProcedureStepID", "PerformedProcedureStepDescription", "PerformedProcedureStepStartDate"),
    *("PerformedProcedureStepStartTime", "StationName", "InstitutionName", "InstitutionalDepartmentName"),
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "FrameOfReferenceUID"),
    *("PresentationIntentType", "ContrastBolusAgent"),
)
"""The attributes by which patients, studies and series can be asked for; of an instance it is its whole header."""
FILL_AT_ONCE = 100


def index_series(connection: sa.Connection, series_instance_uid: str, new: Sequence[Instance]) -> None:
    """The rows of a series that grew, and of its study; in the transaction in which its instances are listed.

    Series and study speak with the words of the instance that came first; what that left empty, later ones fill,
    unless they name another patient.
    """
    header = new[0].header
    of_study, facts = _facts(header, (*PATIENT_FACTS, *STUDY_FACTS)), _facts(header, SERIES_FACTS)
    classes = {one.sop_class_uid for one in new}
    ours = series_keys.c.series_instance_uid == series_instance_uid
    known = connection.execute(sa.select(series_keys).where(ours)).first()
    if known is None:
        study_id = _keep_study(connection, new[0].study_instance_uid, of_study)
        row = {"series_instance_uid": series_instance_uid, "study_id": study_id, "facts": facts}
        row |= {"modality": _text(facts, "Modality"), "sop_class_uids": sorted(classes)}
        connection.execute(sa.insert(series_keys).values(row))
        return
    study = connection.execute(sa.select(study_keys).where(study_keys.c.id == known.study_id)).one()
    if _may_be_of(study, of_study):
        _fill_study(connection, study, of_study)
    merged, every = {**facts, **known.facts}, sorted(classes | set(known.sop_class_uids))
    if merged != known.facts or every != known.sop_class_uids:
        change = {"facts": merged, "modality": _text(merged, "Modality"), "sop_class_uids": every}
        connection.execute(sa.update(series_keys).where(ours).values(change))


def forget_series(connection: sa.Connection, series_instance_uid: str) -> None:
    """The rows of a series that is removed; with its last series the study's go too."""
    ours = series_keys.c.series_instance_uid == series_instance_uid
    study_id = connection.scalar(sa.select(series_keys.c.study_id).where(ours))
    connection.execute(sa.delete(series_keys).where(ours))
    left = sa.select(sa.func.count()).where(series_keys.c.study_id == study_id)
    if study_id is not None and not connection.scalar(left):
        connection.execute(sa.delete(study_names).where(study_names.c.study_id == study_id))
        connection.execute(sa.delete(study_keys).where(study_keys.c.id == study_id))


def fill_missing(database: Database) -> int:
    """How many series got the rows they lacked, a hundred in a transaction; none lacks them in the usual case."""
    filled = 0
    while True:
        wanted = (
            sa.select(series_rows.c.series_instance_uid)
            .outerjoin(series_keys, series_keys.c.series_instance_uid == series_rows.c.series_instance_uid)
            .where(series_keys.c.series_instance_uid.is_(None))
            .where(sa.exists().where(instance_rows.c.series_instance_uid == series_rows.c.series_instance_uid))
            .limit(FILL_AT_ONCE)
        )
        with database.read() as connection:
            missing = list(connection.scalars(wanted))
        if not missing:
            return filled
        with database.begin() as connection:
            for uid in missing:
                _fill(connection, uid)
        filled += len(missing)


def _fill(connection: sa.Connection, series_instance_uid: str) -> None:
    from storage.catalog import Instance  # the catalogue fills these rows as it lists, and so imports this file

    ours = instance_rows.c.series_instance_uid == series_instance_uid
    order = (instance_rows.c.received_at, instance_rows.c.sop_instance_uid)
    first = connection.execute(sa.select(instance_rows).where(ours).order_by(*order).limit(1)).mappings().first()
    if first is None:
        return
    index_series(connection, series_instance_uid, [Instance(**first)])
    classes = sorted(connection.scalars(sa.select(instance_rows.c.sop_class_uid).where(ours).distinct()))
    change = sa.update(series_keys).where(series_keys.c.series_instance_uid == series_instance_uid)
    connection.execute(change.values(sop_class_uids=classes))


def _keep_study(connection: sa.Connection, study_instance_uid: str, facts: Mapping[str, Any]) -> int:
    """The row of the study for the patient whom these facts name: of two patients nobody may be taken for the other."""
    ours, row = study_keys.c.study_instance_uid == study_instance_uid, _study_row(facts)
    known = connection.execute(sa.select(study_keys).where(ours).order_by(study_keys.c.id)).all()
    for study in sorted(known, key=lambda one: one.patient_id != row["patient_id"]):
        if _may_be_of(study, facts):
            _fill_study(connection, study, facts)
            return int(study.id)
    row["study_instance_uid"] = study_instance_uid
    study_id = int(connection.execute(sa.insert(study_keys).values(row).returning(study_keys.c.id)).scalar_one())
    _keep_names(connection, study_id, facts)
    return study_id


def _may_be_of(study: sa.Row[Any], facts: Mapping[str, Any]) -> bool:
    """Whether these facts name no other patient than the study's row does; names decide where an ID is missing."""
    wanted = _study_row(facts)
    said = [(study.patient_id, wanted["patient_id"]), (study.patient_issuer, wanted["patient_issuer"])]
    if not all(said[0]):
        said.append((name_keys(_text(study.facts, "PatientName")), name_keys(_text(facts, "PatientName"))))
    return all(one == other or not any(one) or not any(other) for one, other in said)


def _fill_study(connection: sa.Connection, study: sa.Row[Any], facts: Mapping[str, Any]) -> None:
    merged = {**facts, **study.facts}
    if merged != study.facts:
        connection.execute(sa.update(study_keys).where(study_keys.c.id == study.id).values(_study_row(merged)))
        connection.execute(sa.delete(study_names).where(study_names.c.study_id == study.id))
        _keep_names(connection, study.id, merged)


def _study_row(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "patient_id": text_key(_text(facts, "PatientID")),
        "patient_issuer": text_key(_text(facts, "IssuerOfPatientID")),
        "accession_number": text_key(_text(facts, "AccessionNumber")),
        "study_date": _text(facts, "StudyDate").replace(".", ""),  # ACR-NEMA wrote 1993.08.22
        "facts": dict(facts),
    }


def _keep_names(connection: sa.Connection, study_id: int, facts: Mapping[str, Any]) -> None:
    names = sorted({key for key in name_keys(_text(facts, "PatientName")) if key})
    if names:
        connection.execute(sa.insert(study_names), [{"study_id": study_id, "name_key": key} for key in names])


def _facts(header: Mapping[str, Any], keywords: Sequence[str]) -> dict[str, Any]:
    """What a header says under these keywords; as JSON gives it back."""
    found: dict[str, Any] = json.loads(json.dumps({key: header[key] for key in keywords if key in header}))
    return found


def _text(facts: Mapping[str, Any], keyword: str) -> str:
    value = facts.get(keyword, "")
    return str(value[0] if isinstance(value, list) and value else value)
