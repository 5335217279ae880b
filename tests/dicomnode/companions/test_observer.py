"""The node as observer."""

from dataclasses import replace
from pathlib import Path

from dicomnode.companions.observer import node_as_observer
from dicomnode.uids import device_uid
from tests.builders_companions import phantom_derivation


def test_the_observer_is_the_node_by_its_device_uid(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    values = {item.name.meaning: item.value for item in node_as_observer(derivation)}
    assert values["Observer Type"].meaning == "Device"
    assert values["Device Observer UID"] == device_uid(derivation.job.deployment_uuid)
    assert values["Device Observer Serial Number"] == derivation.job.deployment_uuid
    assert "Device Observer Name" not in values


def test_the_station_is_named_when_the_admin_named_it_in_plain_ascii(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    named = replace(derivation, job=replace(derivation.job, station_name="NÖDE1"))
    values = {item.name.meaning: item.value for item in node_as_observer(named)}
    assert values["Device Observer Name"] == "NDE1"
