"""Where things lie follows from node.toml alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dicomnode.config import load_config
from dicomnode.places import open_passports, open_places
from dicomnode.store_settings import StoreSettings
from storage.instance_files import InstanceFiles
from storage.object_files import ObjectFiles, ObjectPassports
from storage.passport_files import PassportFiles
from tests.builders_store import S3Server


def test_without_a_store_everything_lies_in_the_data_folder(tmp_path: Path) -> None:
    config = replace(load_config(Path(__file__).parents[2] / "config"), data_folder=tmp_path)
    places = open_places(config)
    assert type(places.files) is InstanceFiles and type(places.passports) is PassportFiles
    assert not (tmp_path / "cache").exists()


def test_with_a_store_instances_and_passports_lie_there_and_arrivals_in_the_data_folder(
    tmp_path: Path, s3_server: S3Server
) -> None:
    config = replace(
        load_config(Path(__file__).parents[2] / "config"),
        data_folder=tmp_path,
        store=StoreSettings(url="s3://bucket/prefix"),
        bucket=s3_server.bucket(),
    )
    places = open_places(config)
    assert isinstance(places.files, ObjectFiles) and isinstance(open_passports(config), ObjectPassports)
    places.files.keep_arrival("1.2.3", [b"data"])
    assert len(list((tmp_path / "arrivals").glob("*.dcm"))) == 1
    places.files.settle("1.2.3")
    places.passports.keep("1.2.3", "ab", "{}")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == list((tmp_path / "cache").rglob("*.dcm"))
