"""What new rules would change is shown to an administrator, told to a script, and nothing is written by asking."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.config import IN_FORCE
from dicomnode.errors import ConfigFault
from storage.database import Database
from tests.builders_routed import NOISE, node_database, receive, write_config

RUNNER = CliRunner()
NARROW = NOISE.replace('"CT"', '"CT" && KVP > 100.0')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture
def kept(config: Path) -> Iterator[Database]:
    database = node_database(config)
    yield database
    database.close()


def asked(config: Path, rules: str, *arguments: str) -> tuple[int, str]:
    new = config.parent / "new.toml"
    new.write_text(rules)
    answer = RUNNER.invoke(app, ["replay", str(new), "--config", str(config), *arguments], catch_exceptions=False)
    return answer.exit_code, answer.stdout


def test_the_exit_code_says_whether_anything_changes(config: Path, kept: Database) -> None:
    receive(kept, "1.2.3", KVP=80.0)
    assert asked(config, NOISE)[0] == 0
    assert asked(config, NARROW)[0] == 2


def test_the_table_says_what_changes_how_often_and_why_term_by_term(config: Path, kept: Database) -> None:
    for number in range(3):
        receive(kept, f"1.2.{number}", KVP=80.0)
    receive(kept, "1.3", KVP=120.0)
    code, table = asked(config, NARROW)
    assert code == 2 and "4 series: 3 change, 1 do not" in table
    for words in (
        "- ct_denoising to pacs",
        "KVP > 100.0: not met (KVP is 80.0)",
        'Modality == "CT": met',
        "1.2.0",
        "-3",
    ):
        assert words in table


def test_a_script_gets_every_changed_series_with_both_verdicts(config: Path, kept: Database) -> None:
    for number in range(3):
        receive(kept, f"1.2.{number}", KVP=80.0)
    receive(kept, "1.3", KVP=120.0)
    found = json.loads(asked(config, NARROW, "--json")[1])
    assert (found["series"], found["changed"], found["cannot_be_said"]) == (4, 3, 0)
    assert found["flows"] == [{"pipelines": "ct_denoising", "to": "pacs", "series_now": 4, "series_new": 1}]
    assert [one["series_instance_uid"] for one in found["changes"]] == ["1.2.0", "1.2.1", "1.2.2"]
    first = found["changes"][0]
    assert first["changes"] == [{"what": "ends", "pipelines": ["ct_denoising"], "details": ["pacs"]}]
    (because,) = first["because"]
    assert because["now"]["met"] and not because["new"]["met"]
    assert because["new"]["terms"][1] == {"term": "KVP > 100.0", "outcome": "not met", "detail": "KVP is 80.0"}


def test_only_what_came_since_then_or_from_a_peer_is_asked(config: Path, kept: Database) -> None:
    receive(kept, "1.2.3", KVP=80.0, peer="scanner")
    receive(kept, "1.2.4", KVP=80.0, peer="archive")
    assert json.loads(asked(config, NARROW, "--json", "--peer", "archive")[1])["series"] == 1
    assert json.loads(asked(config, NARROW, "--json", "--since", "2024-05-08")[1])["series"] == 0
    assert json.loads(asked(config, NARROW, "--json", "--since", "2024-05-01")[1])["series"] == 2
    with pytest.raises(ConfigFault, match="there are scanner, pacs, archive"):
        asked(config, NARROW, "--peer", "scaner")


def test_the_rules_of_a_running_node_are_those_compared_with_also_when_the_file_is_edited_in_place(
    config: Path, kept: Database
) -> None:
    receive(kept, "1.2.3", KVP=80.0)
    in_force = config.parent / "var" / IN_FORCE
    in_force.mkdir()
    (in_force / "rules.toml").write_text(NOISE)
    (config / "rules.toml").write_text(NARROW)
    answer = RUNNER.invoke(
        app, ["replay", str(config / "rules.toml"), "--config", str(config), "--json"], catch_exceptions=False
    )
    assert answer.exit_code == 2
    assert json.loads(answer.stdout)["compared_with"] == str(in_force / "rules.toml")


def test_a_mistake_in_the_new_rules_names_their_file_and_line(config: Path, kept: Database) -> None:
    with pytest.raises(ConfigFault, match=r"new\.toml:4.*Modalty"):
        asked(config, NOISE.replace("Modality", "Modalty"))


def test_nothing_is_written(config: Path, kept: Database) -> None:
    receive(kept, "1.2.3", KVP=80.0)
    kept.close()
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in config.parent.rglob("*.*") if path.is_file()}
    asked(config, NARROW)
    after = {path: hashlib.sha256(path.read_bytes()).digest() for path in before}
    assert after == before
