"""The tables as they stand now; migrations/ holds the way here, and a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases; a naive one is refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """The moment in UTC, in the form the database keeps."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored; use an aware UTC datetime")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """The moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def clean_text(words: str) -> str:
    """At most 2,000 characters, without NUL and lone surrogates: what both databases take."""
    return words[:2000].replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


class FreeText(TypeDecorator[str]):
    """Words that others chose (reasons, peers' comments): they must never make their own writing fail."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """The words as both databases take them."""
        return None if value is None else clean_text(value)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _words(name: str, *, index: bool = False, unique: bool = False) -> sa.Column[str]:
    """A column of words that is never null."""
    return sa.Column(name, sa.Text, nullable=False, index=index, unique=unique)


def _count(name: str) -> sa.Column[int]:
    """A whole number that is never null."""
    return sa.Column(name, sa.Integer, nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    """A UTC moment."""
    return sa.Column(name, UtcDateTime, nullable=nullable)


def _job_id(**column: Any) -> sa.Column[int]:
    """A reference to a job, part of the key."""
    return sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id"), primary_key=True, **column)


def _key(name: str) -> sa.Column[str]:
    """A column of words that is part of the key."""
    return sa.Column(name, sa.Text, primary_key=True)


deployment = sa.Table(
    "deployment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    _words("uuid"),
    _moment("created_at"),
)

series = sa.Table(
    "series",
    metadata,
    _key("series_instance_uid"),
    _words("study_instance_uid", index=True),
    _words("peer"),
    _words("state", index=True),
    _words("origin"),
    _count("generation"),
    _count("instance_count"),
    _moment("first_received_at"),
    _moment("last_received_at"),
    _moment("closed_at", nullable=True),
    sa.Column("closed_because", FreeText, nullable=False),
)

instances = sa.Table(
    "instances",
    metadata,
    _key("sop_instance_uid"),
    _words("sop_class_uid"),
    _words("transfer_syntax_uid"),
    sa.Column("series_instance_uid", sa.Text, sa.ForeignKey("series.series_instance_uid"), nullable=False, index=True),
    _words("study_instance_uid", index=True),
    _words("peer"),
    _moment("received_at"),
    _words("sha256"),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("header", sa.JSON, nullable=False),
)

# By what query/retrieve finds what we hold: filled with the catalogue's rows (query_rows.py). A study has a row for
# each patient of whom it holds series: one, unless a name was put right at the scanner between two series.
study_keys = sa.Table(
    "study_keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _words("study_instance_uid", index=True),
    _words("patient_id", index=True),
    _words("patient_issuer"),
    _words("accession_number", index=True),
    _words("study_date", index=True),
    sa.Column("facts", sa.JSON, nullable=False),
)

# In the order of their bytes on both databases, so that an index serves those that begin with some letters.
study_names = sa.Table(
    "study_names",
    metadata,
    sa.Column("name_key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
    sa.Column("study_id", sa.Integer, primary_key=True, index=True, autoincrement=False),
)

series_keys = sa.Table(
    "series_keys",
    metadata,
    _key("series_instance_uid"),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    _words("modality"),
    sa.Column("sop_class_uids", sa.JSON, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
)

# No foreign key to series: what was done is remembered longer than what was held.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _words("key", unique=True),
    _words("series_instance_uid", index=True),
    _words("study_instance_uid", index=True),
    _count("generation"),
    _words("rule"),
    _words("pipeline"),
    _words("pipeline_version"),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("handling", sa.JSON, nullable=False),
    _words("source_sop_instance_uids_sha256"),
    _count("priority"),
    _words("state", index=True),
    _count("attempts"),
    _count("crashes"),
    _count("retries"),
    _count("round"),
    _words("worker"),
    _moment("deadline", nullable=True),
    _moment("not_before", nullable=True),
    _words("reason_code"),
    sa.Column("reason", FreeText, nullable=False),
    _moment("created_at"),
    _moment("started_at", nullable=True),
    _moment("finished_at", nullable=True),
    _words("derived_series_instance_uid", index=True),
    sa.Column("superseded_by_generation", sa.Integer, nullable=True),
    sqlite_autoincrement=True,  # a job's number is never given twice: the audit speaks of it for years
)

job_sources = sa.Table("job_sources", metadata, _job_id(), _key("sop_instance_uid"), _count("position"))
job_results = sa.Table("job_results", metadata, _job_id(), _key("sop_instance_uid"), _count("position"))
job_rules = sa.Table("job_rules", metadata, _job_id(), _key("rule"), _count("position"))
job_destinations = sa.Table("job_destinations", metadata, _job_id(), _key("destination"), _count("position"))

# What a job needs beside its source; while one of its needs is open nobody claims it.
job_needs = sa.Table(
    "job_needs",
    metadata,
    _job_id(),
    _key("slot"),
    _count("position"),
    sa.Column("definition", sa.JSON, nullable=False),
    _words("state", index=True),
    _words("series_instance_uid", index=True),
    _count("tries"),
    _moment("next_try_at", nullable=True),
    _moment("give_up_at"),
    sa.Column("reason", FreeText, nullable=False),
)
job_inputs = sa.Table("job_inputs", metadata, _job_id(), _key("slot"), _key("sop_instance_uid"), _count("position"))

# What was seen at peers, so that nothing is fetched twice and nothing half fetched is used; kept for good.
sightings = sa.Table(
    "sightings",
    metadata,
    _key("peer"),
    _key("series_instance_uid"),
    _words("study_instance_uid"),
    _words("rule"),
    _words("state", index=True),
    _count("instances"),
    _count("tries"),
    _moment("seen_at"),
    sa.Column("reason", FreeText, nullable=False),
)
looks = sa.Table("looks", metadata, _key("rule"), _moment("at"))

deliveries = sa.Table(
    "deliveries",
    metadata,
    _job_id(),
    _key("destination"),
    _words("state", index=True),
    _count("attempts"),
    _count("asks"),
    _moment("first_try_at", nullable=True),
    _moment("next_try_at", nullable=True),
    sa.Column("reason", FreeText, nullable=False),
)

lanes = sa.Table(
    "lanes",
    metadata,
    _key("destination"),
    _moment("broken_since", nullable=True),
    _count("breaks"),
    _count("failures"),
    _moment("next_probe_at", nullable=True),
    sa.Column("reason", FreeText, nullable=False),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("job_id", sa.Integer, primary_key=True),
    _key("destination"),
    _key("sop_instance_uid"),
    _words("state"),
    sa.Column("status", sa.Integer, nullable=True),
    _moment("at"),
    sa.ForeignKeyConstraint(["job_id", "destination"], ["deliveries.job_id", "deliveries.destination"]),
)

# Storage commitment, asked of destinations. No foreign key: a report may come after its job has been done anew.
commitments = sa.Table(
    "commitments",
    metadata,
    _key("transaction_uid"),
    sa.Column("job_id", sa.Integer, nullable=False, index=True),
    _words("destination"),
    _count("instances"),
    _moment("asked_at"),
    _moment("reported_at", nullable=True),
)

# Storage commitment, asked of us: what a peer is to be told, and was told. failure: None is committed.
promises = sa.Table(
    "promises",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _words("peer"),
    _words("transaction_uid"),
    _words("state", index=True),
    _count("attempts"),
    _moment("asked_at"),
    _moment("next_try_at", nullable=True),
    _moment("reported_at", nullable=True),
    sa.Column("reason", FreeText, nullable=False),
    sa.UniqueConstraint("peer", "transaction_uid"),
    sqlite_autoincrement=True,
)
promise_instances = sa.Table(
    "promise_instances",
    metadata,
    sa.Column("promise_id", sa.Integer, sa.ForeignKey("promises.id"), primary_key=True),
    sa.Column("sop_instance_uid", sa.Text, primary_key=True, index=True),
    _words("sop_class_uid"),
    _count("position"),
    sa.Column("failure", sa.Integer, nullable=True),
)

# Rows are never changed nor removed: triggers, made in migrations/versions/0001_initial.py, refuse it.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    _moment("at"),
    _words("event"),
    _words("series_instance_uid", index=True),
    sa.Column("job_id", sa.Integer, nullable=True, index=True),
    _words("peer"),
    _words("details"),
    _words("previous_hash"),
    _words("hash"),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    _words("hash"),
)

# How far the audit has been sent to whom: the rows behind it wait, and the table of them is the spool.
audit_cursors = sa.Table(
    "audit_cursors",
    metadata,
    _key("name"),
    sa.Column("seq", sa.BigInteger, nullable=False),
    _moment("moved_at"),
)
