"""Security, character sets and parameters are told by default and as one node has them, and no secret with them."""

from __future__ import annotations

from pathlib import Path

from dicomnode.config_reference import TABLES
from dicomnode.conformance.surroundings import character_sets, parameters, security
from tests.builders_routed import NOISE, config_of


def test_every_key_of_every_table_is_told() -> None:
    text = parameters(None)
    for name, model in TABLES.items():
        assert f"#### `{name}`" in text
        for key, field in model.model_fields.items():
            assert f"| `{field.alias or key}` |" in text


def test_a_node_tells_its_own_values_beside_the_defaults(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    text = parameters(config)
    assert '| `ae_title` | `"DICOMNODE"` | `"DICOMNODE"` |' in text
    assert '`"SCANNER"`, `"PACS"`, `"ARCHIVE"`' in text
    assert '| `database_password_file` | `""` | not told |' in text


def test_a_node_without_tls_says_so(tmp_path: Path) -> None:
    assert "configured without TLS" in security(config_of(tmp_path))
    assert "TLS 1.2 and 1.3" in security(None) and "ECDHE" in security(None)


def test_the_character_sets_that_are_read_are_told() -> None:
    text = character_sets()
    assert "ISO_IR 100" in text and "ISO_IR 192" in text and "GB18030" in text


def test_conditions_of_rules_which_may_name_patients_are_not_told(tmp_path: Path) -> None:
    rules = NOISE.replace('Modality == "CT"', 'PatientID == "SECRET-7"')
    assert "SECRET-7" not in parameters(config_of(tmp_path, rules))


def test_what_leaves_the_node_beside_dicom_is_told() -> None:
    text = security(None)
    assert "PS3.15 A.5" in text and "Basic Application Confidentiality Profile" in text and "113110" in text
