"""What every journey has: an Orthanc as PACS and our node, each with folders of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders_database import address, create_database
from tests.builders_stream import CountingPacs
from tests.peers import Orthanc, RunningNode


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path / "orthanc").start()
    yield orthanc
    orthanc.stop()


@pytest.fixture
def counting_pacs() -> Iterator[CountingPacs]:
    pacs = CountingPacs().start()
    yield pacs
    pacs.stop()


@pytest.fixture
def database_url(postgresql_url: sa.URL) -> str:
    """An empty database, as node.toml names it: without a password."""
    made = address(create_database(postgresql_url, "CREATE DATABASE {name}"))
    return made.replace(":@", "@")


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """Gives a node in `tmp_path/node`, not started; it is ended with the test."""
    made: list[RunningNode] = []

    def make(pacs_port: int, **options: Any) -> RunningNode:
        made.append(RunningNode(tmp_path / "node", pacs_port, **options))
        return made[-1]

    yield make
    for node in made:
        if node.process is not None and node.process.poll() is None:
            node.stop()
