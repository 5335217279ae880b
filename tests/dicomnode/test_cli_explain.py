"""An administrator reads on one page why a series went where it went; a script gets the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.config import load_config
from dicomnode.errors import NodeFault
from storage import audit
from storage.database import Database
from tests.builders_routed import CHAIN, NOISE, derive, node_database, receive, route, write_config

RUNNER = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture
def kept(config: Path) -> Iterator[Database]:
    database = node_database(config)
    yield database
    database.close()


def shown(config: Path, *arguments: str) -> str:
    answer = RUNNER.invoke(app, ["explain", *arguments, "--config", str(config)], catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.stdout


def test_the_page_says_what_came_why_it_is_whole_what_was_decided_and_what_became_of_it(
    config: Path, kept: Database
) -> None:
    receive(kept, "1.2.3", KVP=80.0)
    (job,) = route(kept, load_config(config), "1.2.3")
    derive(kept, job, "9.8")
    (config / "rules.toml").write_text(NOISE.replace('"CT"', '"CT" && KVP > 100.0'))
    page = shown(config, "1.2.3")
    for words in (
        "received from scanner, 2 instances",
        "closed: nothing came for 5 s",
        "CT Image Storage",
        "KVP > 100.0: not met (KVP is 80.0)",
        "now it is otherwise",
        "9.8",
        "pacs: waiting (2 waiting)",
        "series closed (1)",
    ):
        assert words in page


def test_the_page_of_a_derived_series_names_the_job_that_made_it(config: Path, kept: Database) -> None:
    (config / "rules.toml").write_text(CHAIN)
    receive(kept, "1.2.3")
    (job,) = route(kept, load_config(config), "1.2.3")
    assert "has derived nothing of it that is here" in shown(config, "1.2.3")
    derive(kept, job, "9.8")
    page = shown(config, "9.8")
    assert "derived here" in page and "made by job 1 (ct_metal_artifact_reduction for 'metal') of series 1.2.3" in page


def test_a_script_gets_all_of_it(config: Path, kept: Database) -> None:
    receive(kept, "1.2.3")
    (job,) = route(kept, load_config(config), "1.2.3")
    derive(kept, job, "9.8")
    found = json.loads(shown(config, "1.2.3", "--json"))
    assert (found["here"], found["peer"], found["state"], found["generation"]) == (True, "scanner", "closed", 1)
    assert found["rules_now"][0]["terms"][0]["outcome"] == "met"
    assert found["rules_then"][0]["rules"][0]["rule"] == "noise" and found["rules_then"][0]["otherwise_now"] == []
    assert found["jobs"][0]["ledger"] == {"pacs": {"waiting": 2}} and found["jobs"][0]["made_series"] == ["9.8"]


def test_of_a_series_that_is_gone_the_audit_still_speaks(config: Path, kept: Database) -> None:
    with kept.begin() as connection:
        audit.append(connection, "removed", series_instance_uid="1.2.3", details={"because": "old"})
    page = shown(config, "1.2.3")
    assert "no longer here" in page and "removed (1)" in page
    found = json.loads(shown(config, "1.2.3", "--json"))
    assert not found["here"] and found["events"] == {"removed": 1}


def test_a_series_nobody_knows_is_a_fault_in_words(config: Path, kept: Database) -> None:
    with pytest.raises(NodeFault, match="nothing is known of series 9"):
        shown(config, "9")
