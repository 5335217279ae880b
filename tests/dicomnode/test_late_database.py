"""A receiving process opens its database at the first request that needs it, and once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomnode.late_database import LateDatabase
from storage import catalog
from storage.database import Database
from storage.errors import DatabaseAway


def test_nothing_is_opened_before_it_is_asked_for_and_one_serves_all(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    asked: list[int] = []

    def url() -> str:
        asked.append(1)
        return f"sqlite:///{path}"

    late = LateDatabase(url)
    assert not asked and not path.exists()
    late.open().migrate()
    with late.begin() as connection:
        assert catalog.list_series(connection) == []
    with late.read() as connection:
        assert catalog.list_series(connection) == []
    assert late.open() is late.open() and asked == [1]
    late.close()
    with late.read() as connection:
        assert catalog.list_series(connection) == []
    assert asked == [1, 1]
    late.close()


def test_a_database_that_was_away_is_tried_anew(tmp_path: Path) -> None:
    late = LateDatabase(lambda: f"sqlite:///{tmp_path}/node.sqlite")
    with pytest.raises(DatabaseAway), late.read() as connection:
        connection.execute(sa.text("SELECT * FROM series"))
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    database.close()
    with late.read() as connection:
        assert catalog.list_series(connection) == []
    late.close()


def test_importing_it_imports_no_sql() -> None:
    code = "import sys, dicomnode.late_database, dicomnode.service; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
