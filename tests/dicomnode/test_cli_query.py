"""`dicomnode query` and `dicomnode retrieve` as an administrator types them, against Orthanc and a running node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicomnode.cli import app
from dicomnode.cli_query import Wanted
from dicomnode.errors import ConfigFault, NodeFault
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_retrieve import give, introduce
from tests.peers import Orthanc, RunningNode, wait_until

NO_RULES = ""
STUDY = "1.2.826.0.1.3680043.8.498.7"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("pacs")
    orthanc = Orthanc(folder / "orthanc").start()
    give(orthanc, write_ct_series(folder / "ct", slices=4, study_instance_uid=STUDY))
    give(orthanc, write_pet_series(folder / "pet", slices=3, study_instance_uid=STUDY))
    yield orthanc
    orthanc.stop()


@pytest.fixture(scope="module")
def node(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    running = RunningNode(tmp_path_factory.mktemp("node"), pacs.dicom_port, rules=NO_RULES).start()
    introduce(pacs, running.port)
    yield running
    running.stop()


def typed(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(config)], env={"COLUMNS": "250"}, catch_exceptions=True)


@pytest.mark.peer
def test_studies_and_series_are_shown_as_a_table_and_as_json(node: RunningNode) -> None:
    table = typed(node.config, "query", "pacs", "--patient", "PHANTOM-1", "--modality", "ct")
    assert table.exit_code == 0, table.output
    assert "2024" in table.output and "PHANTOM-1" in table.output
    found = json.loads(
        typed(node.config, "query", "pacs", "--study", STUDY, "--modality", "PT", "--level", "series", "--json").stdout
    )
    assert [(one["Modality"], one["NumberOfSeriesRelatedInstances"]) for one in found] == [("PT", 3)]
    nothing = typed(node.config, "query", "pacs", "--patient", "NOBODY")
    assert nothing.exit_code == 0 and "holds nothing" in nothing.output


@pytest.mark.peer
def test_retrieved_series_flow_through_receive_and_nothing_is_fetched_twice(node: RunningNode) -> None:
    moved = typed(node.config, "retrieve", "pacs", "--study", STUDY, "--modality", "CT", "--json")
    assert moved.exit_code == 0, moved.output
    (row,) = json.loads(moved.stdout)
    assert (row["how"], row["instances"], row["fetched"], row["failed"]) == ("C-MOVE", 4, 4, 0)
    fetched = typed(node.config, "retrieve", "pacs", "--study", STUDY, "--modality", "PT", "--get", "--json")
    assert fetched.exit_code == 0, fetched.output
    (pet,) = json.loads(fetched.stdout)
    assert (pet["how"], pet["fetched"]) == ("C-GET", 3)
    for one in (row, pet):
        uid = one["series_instance_uid"]
        closed = wait_until(lambda uid=uid: [e for e in node.audit(uid) if e["event"] == "series closed"], seconds=30)
        assert closed[0]["peer"] == "pacs"
        assert closed[0]["details"]["instances"] == one["instances"]
    again = json.loads(typed(node.config, "retrieve", "pacs", "--study", STUDY, "--json").stdout)
    assert [(one["held"], one["fetched"]) for one in again] == [(one["instances"], 0) for one in again]
    told = [entry["details"] for entry in node.audit() if entry["event"] == "series retrieved"]
    assert {entry["how"] for entry in told} == {"C-MOVE", "C-GET"}
    assert "PHANTOM" not in json.dumps(told), "who the patient is stays out of the audit"


@pytest.mark.peer
def test_a_c_move_that_nobody_would_receive_is_not_begun(node: RunningNode, tmp_path: Path) -> None:
    other = RunningNode(tmp_path, node.pacs_port, rules=NO_RULES)
    other.write_config()
    said = typed(other.config, "retrieve", "pacs", "--study", STUDY)
    assert isinstance(said.exception, NodeFault) and "start `dicomnode run`, or use --get" in str(said.exception)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("query", "nobody"), "there are scanner, pacs"),
        (("query", "scanner"), "give it host and port"),
        (("query", "pacs", "--date", "yesterday"), "no day"),
        (("query", "pacs", "--level", "image"), "study or series"),
        (("query", "pacs", "--series", "1.2"), "--study with --series"),
        (("retrieve", "pacs"), "say what to fetch"),
        (("retrieve", "pacs", "--patient", "PHANTOM-1", "--most", "1"), "narrow the question"),
    ],
)
def test_a_mistake_is_said_with_what_to_do(node: RunningNode, words: tuple[str, ...], told: str) -> None:
    said = typed(node.config, *words)
    assert said.exit_code == 1
    assert isinstance(said.exception, NodeFault | ConfigFault) and told in str(said.exception)


@pytest.mark.peer
def test_a_peer_that_does_not_know_us_is_said_with_what_to_look_at(pacs: Orthanc, tmp_path: Path) -> None:
    """Orthanc aborts without a word at the question of an AE title that it does not know."""
    stranger = RunningNode(tmp_path, pacs.dicom_port, rules=NO_RULES)
    stranger.write_config()
    file = stranger.config / "node.toml"
    file.write_text(file.read_text().replace('ae_title = "DICOMNODE"', 'ae_title = "STRANGER"'))
    said = typed(stranger.config, "query", "pacs")
    assert isinstance(said.exception, NodeFault)
    assert "check that it knows our AE title STRANGER and our address" in str(said.exception)


def test_both_commands_have_the_same_options_for_what_is_asked() -> None:
    for command in ("query", "retrieve"):
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        assert all(f"--{one.name} " in shown for one in fields(Wanted))
        assert "--wanted" not in shown


def test_help_shows_how_the_commands_are_typed() -> None:
    for command in ("query", "retrieve"):
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0 and f"dicomnode {command} pacs --" in shown.output
