"""What happened, for ever: an append-only table whose rows hold each other by their hashes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from storage.database import take_writer_lock
from storage.errors import AuditBroken
from storage.schema import audit, audit_head, clean_text, instances, job_results, jobs

# Keywords of group 0010 (PS3.6), and what files call them elsewhere; compared without case and underscores.
# fmt: off
_OF_THE_PATIENT = frozenset((
    "additionalpatienthistory", "allergies", "branchofservice", "countryofresidence", "ethnicgroup",
    "ethnicgroupcodesequence", "ethnicgroups", "insuranceplanidentification", "issuerofpatientid",
    "issuerofpatientidqualifierssequence", "lastmenstrualdate", "medicalalerts", "medicalrecordlocator",
    "militaryrank", "occupation", "otherpatientids", "otherpatientidssequence", "otherpatientnames", "patientaddress",
    "patientage", "patientalternativecalendar", "patientbirthdate", "patientbirthdateinalternativecalendar",
    "patientbirthname", "patientbirthtime", "patientbodymassindex", "patientcomments",
    "patientdeathdateinalternativecalendar", "patientid", "patientinsuranceplancodesequence",
    "patientmotherbirthname", "patientname", "patientprimarylanguagecodesequence", "patientreligiouspreference",
    "patientsex", "patientsexneutered", "patientsize", "patientsizecodesequence", "patienttelecominformation",
    "patienttelephonenumbers", "patientweight", "pregnancystatus", "referencedpatientphotosequence",
    "regionofresidence", "responsibleorganization", "responsibleperson", "responsiblepersonrole", "smokingstatus",
    "birthdate", "birthname", "mrn", "personname",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the audit."""

    seq: int
    at: datetime
    event: str
    series_instance_uid: str
    job_id: int | None
    peer: str
    details: Mapping[str, Any]
    previous_hash: str
    hash: str


def append(
    connection: sa.Connection,
    event: str,
    *,
    series_instance_uid: str = "",
    job_id: int | None = None,
    peer: str = "",
    details: Mapping[str, Any],
) -> None:
    """One more row, durable when the transaction of what it records is; rows commit in the order of the chain.

    Raises ValueError for details whose keys would name a patient, or that JSON cannot hold.
    """
    _refuse_patient(details)
    take_writer_lock(connection)
    seq, previous_hash = _head(connection)
    row: dict[str, Any] = {
        "seq": seq + 1,
        "at": datetime.now(UTC),
        "event": clean_text(event),
        "series_instance_uid": clean_text(series_instance_uid),
        "job_id": job_id,
        "peer": clean_text(peer),
        "details": _canonical(details),
        "previous_hash": previous_hash,
    }
    row["hash"] = hash_of(row)
    connection.execute(sa.insert(audit).values(row))
    connection.execute(sa.update(audit_head).values(seq=row["seq"], hash=row["hash"]))


def entries(
    connection: sa.Connection,
    *,
    series_instance_uid: str | None = None,
    job_id: int | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """The newest `limit` rows, oldest first; rows about a series include those of the jobs that read or made it."""
    wanted = sa.select(audit).order_by(audit.c.seq.desc())
    if series_instance_uid is not None:
        made_in_it = (
            sa.select(job_results.c.job_id)
            .join(instances, instances.c.sop_instance_uid == job_results.c.sop_instance_uid)
            .where(instances.c.series_instance_uid == series_instance_uid)
        )
        # What retention removed is no longer in `instances`; its row of the audit still names the job that made it.
        removed_from_it = sa.select(audit.c.job_id).where(
            audit.c.series_instance_uid == series_instance_uid, audit.c.event == "removed", audit.c.job_id.is_not(None)
        )
        its_jobs = sa.select(jobs.c.id).where(
            (jobs.c.series_instance_uid == series_instance_uid)
            | (jobs.c.derived_series_instance_uid == series_instance_uid)
            | jobs.c.id.in_(made_in_it)
            | jobs.c.id.in_(removed_from_it)
        )
        wanted = wanted.where((audit.c.series_instance_uid == series_instance_uid) | audit.c.job_id.in_(its_jobs))
    if job_id is not None:
        wanted = wanted.where(audit.c.job_id == job_id)
    found = connection.execute(wanted if limit is None else wanted.limit(limit)).all()
    return [entry_of(row) for row in reversed(found)]


def entry_of(row: sa.Row[Any]) -> Entry:
    """A row of the table as it was appended."""
    return Entry(
        row.seq,
        row.at,
        row.event,
        row.series_instance_uid,
        row.job_id,
        row.peer,
        json.loads(row.details),
        row.previous_hash,
        row.hash,
    )


def verify(connection: sa.Connection, *, noted_head: str = "") -> int:
    """How many rows the chain has, when it holds; raises AuditBroken naming the first broken row.

    A row changed, added, moved or removed is found, a removed last row by the head record. Who can write to the
    database can also cut the tail and mend the head record: that only a hash noted elsewhere shows. `noted_head`
    is one that `head` gave earlier; the chain must still contain it.
    """
    seq, previous, noted_seen = 0, "0" * 64, noted_head in ("", "0" * 64)
    wanted = sa.select(audit).order_by(audit.c.seq)
    with connection.execute(wanted, execution_options={"yield_per": 1000}) as rows:
        for row in rows:
            if row.seq != seq + 1:
                raise AuditBroken(f"audit row {seq + 1} is missing; the next one there is {row.seq}")
            if row.previous_hash != previous:
                raise AuditBroken(f"audit row {row.seq} does not follow row {seq}: one of them was replaced")
            if row.hash != hash_of(dict(row._mapping)):
                raise AuditBroken(f"audit row {row.seq} was changed after it was written")
            seq, previous = row.seq, row.hash
            noted_seen = noted_seen or row.hash == noted_head
    kept_seq, kept_hash = _head(connection)
    if (kept_seq, kept_hash) != (seq, previous):
        raise AuditBroken(f"audit row {seq + 1} is missing: the head record speaks of {kept_seq} rows, {seq} are here")
    if not noted_seen:
        raise AuditBroken(f"none of the {seq} audit rows has the noted hash {noted_head}: the chain was cut or remade")
    return seq


def head(connection: sa.Connection) -> str:
    """The last row's hash: noted outside the database, it later shows whether everything up to it is still there."""
    return _head(connection)[1]


def _head(connection: sa.Connection) -> tuple[int, str]:
    """Number and hash of the last row, as the record beside the chain has them."""
    found = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).one_or_none()
    if found is None:
        raise AuditBroken("the audit's head record is missing; what was the last row cannot be known")
    return found.seq, found.hash


def _canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_of(row: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the previous row's hash and this row's own canonical JSON; `details` is its canonical text."""
    body = {key: row[key] for key in ("seq", "event", "series_instance_uid", "job_id", "peer", "details")}
    body["at"] = row["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256((row["previous_hash"] + _canonical(body)).encode("ascii")).hexdigest()


def _refuse_patient(value: object) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            plain = re.sub(r"[\W_]", "", str(key)).lower()
            if plain in _OF_THE_PATIENT or re.fullmatch("0010[0-9a-f]{4}", plain):
                raise ValueError(f"the audit never names a patient: {key} is refused")
            _refuse_patient(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_patient(inner)
