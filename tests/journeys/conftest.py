"""What every journey has: an Orthanc as PACS and our node, each with folders of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Orthanc, RunningNode


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path / "orthanc").start()
    yield orthanc
    orthanc.stop()


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
