"""The tables, the migrations that make them, and what the column types promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import storage.database
from storage.database import NEWEST, Database
from storage.schema import clean_text, deployment, metadata
from tests.storage.builders_storage import NOW


def test_the_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_version_is_that_of_the_last_migration() -> None:
    migrations = ScriptDirectory(str(Path(storage.database.__file__).parent / "migrations"))
    assert migrations.get_heads() == [NEWEST]


def test_the_comparison_would_notice_a_missing_column(database: Database) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE deployment DROP COLUMN uuid")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert [change[0] for change in compare_metadata(context, metadata)] == ["add_column"]


def test_times_come_back_as_the_same_moment_in_utc_to_the_microsecond(database: Database) -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    with database.begin() as connection:
        connection.execute(sa.insert(deployment).values(id=1, uuid="u", created_at=local))
    with database.read() as connection:
        found: datetime | None = connection.scalar(sa.select(deployment.c.created_at))
    assert found == NOW
    assert found is not None and found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(sa.exc.StatementError, match="without a time zone"), database.begin() as connection:
        connection.execute(sa.insert(deployment).values(id=1, uuid="u", created_at=naive))


def test_words_of_others_are_made_fit_for_both_databases() -> None:
    assert clean_text("a\0b\udcffc") == "a b?c"
    assert len(clean_text("x" * 5000)) == 2000
