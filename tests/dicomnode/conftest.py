"""What tests of several rooms arrange with: an empty database with its tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    yield database
    database.close()
