"""The tables take what they say and nothing else; nothing is converted silently."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dicomnode.settings import NodeFile, NodeSettings, PipelineTable, RulesFile, RuleTable, WorkerSettings


def test_the_defaults_are_safe() -> None:
    node = NodeSettings()
    assert node.host == "127.0.0.1"
    assert node.content_qualification == "RESEARCH"
    assert not node.accept_lossy
    assert (node.maximum_associations, node.maximum_pdu, node.crash_attempts) == (64, 131072, 3)
    assert NodeFile().workers == (WorkerSettings(device="auto"),)
    assert NodeFile().peers == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "11112"},
        {"port": True},
        {"port": 1.0},
        {"accept_lossy": "no"},
        {"accept_lossy": 0},
        {"quiet_seconds": "5"},
        {"quiet_seconds": 0},
        {"quiet_seconds": float("nan")},
        {"content_qualification": "research"},
        {"log_level": "verbose"},
        {"ae_title": "x" * 17},
        {"maximum_associations": 0},
        {"retry_first_s": 60.0, "retry_longest_s": 30.0},
        {"database": "sqlite:///x"},
        {"database": "postgresql+psycopg://user:password@host/db"},
        {"unknown": 1},
        {"conflict_status": "ignore"},
        {"ct_pixels": "signed-12"},
        {"station_name": "x" * 17},
        {"unique_device_identifier": "\u00e9"},
        {"equipment_purpose": ["109102", "DCM"]},
        {"equipment_purpose": ["109102", "DCM", ""]},
        {"equipment_purpose": ["113087", "DCM", "Smoothing"]},
    ],
    ids=str,
)
def test_what_is_not_meant_is_refused_and_not_converted(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NodeSettings(**wrong)


@pytest.mark.parametrize("database", ["", "postgresql+psycopg://user@host/db", "postgresql+psycopg://host:5432/db"])
def test_a_database_without_a_password_is_taken(database: str) -> None:
    assert NodeSettings(database=database).database == database


def test_whole_numbers_may_stand_for_seconds() -> None:
    assert NodeSettings.model_validate({"quiet_seconds": 5}).quiet_seconds == 5.0


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_of_torch_are_taken(device: str) -> None:
    assert WorkerSettings(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(ValidationError):
        WorkerSettings(device=device)


def test_the_other_keys_of_a_pipelines_table_are_its_own() -> None:
    table = PipelineTable.model_validate({"limit_s": 10, "method": "nmar", "strength": 0.5})
    assert table.limit_s == 10
    assert table.settings == {"method": "nmar", "strength": 0.5}


@pytest.mark.parametrize("missing", ["name", "when", "run"])
def test_a_rule_without_its_parts_is_refused(missing: str) -> None:
    rule = {"name": "a", "when": "true", "run": ""}
    assert RuleTable.model_validate(rule).priority == "routine"
    with pytest.raises(ValidationError):
        RuleTable.model_validate({key: value for key, value in rule.items() if key != missing})


def test_a_peers_name_is_a_plain_word() -> None:
    with pytest.raises(ValidationError):
        NodeFile.model_validate({"peers": {"../pacs": {"ae_title": "PACS"}}})


def test_what_is_in_the_files_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        NodeSettings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        RulesFile().rules = ()  # type: ignore[misc]
