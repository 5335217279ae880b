"""Everything that keeps something is opened from the config alone, private, and looking makes nothing."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigFault
from dicomnode.stores import Stores


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(load_config(Path(__file__).parents[2] / "config"), data_folder=tmp_path / "var")


def test_opened_stores_hold_instances_passports_and_rows_in_a_private_folder(config: Config) -> None:
    stores = Stores.open(config)
    stores.files.keep_derived("1.2.3", b"data")
    stores.passports.keep("1.2.3", "ab", "{}")
    assert stores.files.path_of("1.2.3").read_bytes() == b"data"
    assert stores.passports.read("1.2.3", "ab") == "{}"
    assert stores.database.deployment_uuid()
    assert stat.S_IMODE(config.data_folder.stat().st_mode) == 0o700
    stores.database.close()


def test_looking_where_no_node_has_run_says_so_and_makes_nothing(config: Config) -> None:
    with pytest.raises(ConfigFault, match="no node has run yet"):
        Stores.look(config)
    assert not config.data_folder.exists()
