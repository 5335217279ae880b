"""The command `dicomnode export`, as an administrator types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.config import load_config
from dicomnode.errors import NodeFault
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_export import Holding
from tests.builders_routed import node_database, write_config
from tests.builders_typed import dicomnode


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node that has received a CT series of two images, one of which shows names."""
    config = write_config(tmp_path)
    database = node_database(config)

    def burned(k: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID, dataset.BurnedInAnnotation = "1.2.3", ("NO", "YES")[k]

    holding = Holding(database, InstanceFiles(load_config(config).data_folder))
    holding.receive(write_ct_series(tmp_path / "ct", slices=2, each=burned))
    database.close()
    return config


def test_help_shows_examples_and_every_option() -> None:
    answer = dicomnode("export", "--help")
    assert answer.returncode == 0
    assert "dicomnode export" in answer.stdout
    for word in ("modified-dates", "descriptors", "safe-private", "--key-list"):
        assert word in answer.stdout


def test_stored_series_are_copied_and_a_second_time_refused(config: Path, tmp_path: Path) -> None:
    command = ("export", tmp_path / "out", "--rule", "noise", "--config", config)
    first = dicomnode(*command)
    assert (first.returncode, "2 instances as they are stored" in first.stdout) == (0, True)
    again = dicomnode(*command)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert "Traceback" not in again.stderr


def test_what_was_left_out_is_shown_and_is_the_exit_code(config: Path, tmp_path: Path) -> None:
    answer = dicomnode("export", tmp_path / "out", "--series", "1.2.3", "--deidentify", "--config", config, "--json")
    assert answer.returncode == 1
    said = json.loads(answer.stdout)
    assert (said["instances"], len(said["not_exported"])) == (1, 1)
    assert "PHANTOM" not in answer.stdout + answer.stderr


def test_the_nodes_own_key_is_made_at_first_use_and_gives_the_same_pseudonyms_again(
    config: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        dicomnode("export", tmp_path / name, "--series", "1.2.3", "--deidentify", "--config", config)
    key = tmp_path / "var" / "export.key"
    assert key.stat().st_mode & 0o777 == 0o600
    one, two = (sorted((tmp_path / name).rglob("*.dcm")) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    dicomnode(
        "export", tmp_path / "three", "--series", "1.2.3", "--deidentify", "--config", config,
        "--key", tmp_path / "other.key", "--new-key",
    )  # fmt: skip
    (three,) = (tmp_path / "three").rglob("*.dcm")
    assert dcmread(three).PatientID != dcmread(one[0]).PatientID


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--retain", "uids"), "belong to --deidentify"),
        (("--deidentify", "--retain", "full-dates", "--retain", "modified-dates"), "exclude each other"),
        (("--deidentify", "--dicomdir"), "needs study dates"),
        (("--deidentify", "--new-key"), "needs --key"),
        (("--deidentify", "--key", "none.key"), "--new-key"),
        (("--deidentify", "--new-key", "--key", "OUT/one.key"), "outside the exported folder"),
        (("--rule", "none"), "there are noise"),
        (("--series", "9.9"), "not stored here"),
    ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_made(
    config: Path, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    options = [word.replace("OUT", str(tmp_path / "out")) for word in more]
    words = ["export", str(tmp_path / "out"), "--series", "1.2.3", "--config", str(config), *options]
    answer = CliRunner().invoke(app, words)
    assert isinstance(answer.exception, NodeFault)
    assert said in str(answer.exception)
    assert not (tmp_path / "out").exists()
