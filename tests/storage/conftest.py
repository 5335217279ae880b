"""Every storage test that needs SQL runs on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.database import Database
from tests.builders_database import address, create_database, migrate


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "node.sqlite"
    migrate(sa.URL.create("sqlite", database=str(path)))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.sqlite"
    server: sa.URL = request.getfixturevalue("postgresql_url")
    return address(create_database(server, "CREATE DATABASE {name}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database with its tables, empty."""
    if request.param == "sqlite":
        path = tmp_path / "node.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        server: sa.URL = request.getfixturevalue("postgresql_url")
        url = address(create_database(server, "CREATE DATABASE {name} TEMPLATE template_node"))
    opened = Database.open(url)
    yield opened
    opened.close()
