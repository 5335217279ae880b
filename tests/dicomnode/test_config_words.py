"""The config in words says what a reader of node.toml could miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import load_config
from dicomnode.config_words import describe

PEER = '[peers.scanner]\nae_title = "CT1"\nmay = ["store"]\n'


@pytest.mark.parametrize(
    ("table", "what", "words"),
    [
        ("", "retention", "nothing goes by age"),
        ("[retention]\nkeep_days = 30\n", "retention", "goes in 30 days"),
        ("[node]\nhttp_port = 8042\n", "monitor", "/metrics"),
        ("", "peer scanner", "only calls us"),
        (
            '[audit_export]\nhost = "arr"\nport = 514\ntransport = "udp"\n',
            "audit export",
            "arr:514 over udp, unencrypted, naming no patient; nobody knows what arrives",
        ),
        (
            '[audit_export]\nhost = "arr"\nport = 601\ntransport = "tcp"\npatient_id = true\n',
            "audit export",
            "naming patients by their ID",
        ),
    ],
)
def test_every_choice_is_said_in_a_line_of_its_own(tmp_path: Path, table: str, what: str, words: str) -> None:
    (tmp_path / "node.toml").write_text(table + PEER)
    (tmp_path / "rules.toml").write_text("")
    assert words in dict(describe(load_config(tmp_path)))[what]


def test_nothing_is_said_of_an_export_that_is_off(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(PEER)
    (tmp_path / "rules.toml").write_text("")
    assert "audit export" not in dict(describe(load_config(tmp_path)))
