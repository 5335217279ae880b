"""Databases for tests: made, migrated and named."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from storage.database import Database


def address(url: sa.URL) -> str:
    """The URL in full, password included."""
    return url.render_as_string(hide_password=False)


def migrate(url: sa.URL) -> None:
    """The database at that URL has its tables."""
    database = Database.open(address(url))
    database.migrate()
    database.close()


def create_database(server: sa.URL, statement: str) -> sa.URL:
    """A new database of the server, by a statement that says {name}."""
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.format(name=name))
    engine.dispose()
    return server.set(database=name)
