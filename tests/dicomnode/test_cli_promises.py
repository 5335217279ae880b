"""An administrator sees which peers asked us to keep what, and which of them were not told yet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.config import load_config
from storage import promises
from storage.database import Database
from storage.references import Reference

NOW = datetime.now(UTC)


def printed(config: Path, *more: str) -> str:
    answer = CliRunner().invoke(app, ["promises", "--config", str(config), *more])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_every_request_is_shown_with_what_was_told_and_why_not(tmp_path: Path) -> None:
    for name in ("config", "var"):
        (tmp_path / name).mkdir()
    config = tmp_path / "config"
    (config / "node.toml").write_text('[node]\ndata_folder = "../var"\n')
    (config / "rules.toml").write_text("")
    database = Database.open(load_config(config).database_url)
    database.migrate()
    assert "no peer has asked" in printed(config)
    wanted = [Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}") for number in range(3)]
    with database.begin() as connection:
        for transaction_uid in ("2.25.1", "2.25.2"):
            promises.open_promise(connection, "scanner", transaction_uid, wanted, report_at=NOW, now=NOW)
        promises.record_check(connection, 1, {"1.2.0": 0x0112})
        promises.finish_promise(connection, promises.get_promise(connection, 1), now=NOW)
        promises.postpone_promise(connection, promises.get_promise(connection, 2), reason="away [x]", next_try_at=NOW)
    database.close()
    newest, told = json.loads(printed(config, "--json"))
    assert (newest["state"], newest["reason"], newest["tries"]) == ("waiting", "away [x]", 1)
    assert (told["state"], told["instances"], told["failed"]) == ("reported", 3, 1)
    assert "away [x]" in printed(config) and "reported" in printed(config)
