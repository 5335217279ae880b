"""What tests of several rooms share: a real PostgreSQL server, and how they run side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.builders_database import create_database, migrate, postgresql_server
from tests.builders_store import S3Server
from tests.builders_tls import Authority

if "PYTEST_XDIST_WORKER" in os.environ:  # several tests at once: each counts with one core, also in what it starts
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Journeys first, as many in the share of each worker: what takes long must not begin last, nor all on one."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    journeys = [item for item in items if "journeys" in item.path.parts]
    others = [item for item in items if "journeys" not in item.path.parts]
    share = -(-len(others) // workers)
    items[:] = [
        item
        for place in range(workers)
        for item in (*journeys[place::workers], *others[place * share : (place + 1) * share])
    ]


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[sa.URL]:
    """A real server with a migrated database `template_node`."""
    with postgresql_server() as server:
        create_database(server.url, "CREATE DATABASE template_node")
        migrate(server.url.set(database="template_node"))
        yield server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 interface on loopback; without moto a skip, in CI a failure."""
    server = S3Server().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that signs whatever a test asks of it."""
    return Authority(tmp_path_factory.mktemp("authority"))
