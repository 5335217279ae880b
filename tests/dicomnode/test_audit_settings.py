"""The receiver of the audit is named whole, or the mistake is: nothing is exported unless the administrator says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigFault
from tests.builders_tls import Authority

HOST = '[audit_export]\nhost = "arr.hospital"\n'


def load(folder: Path, text: str) -> Config:
    (folder / "node.toml").write_text(text)
    (folder / "rules.toml").write_text("")
    return load_config(folder)


def test_nothing_is_exported_unless_the_administrator_says_so(tmp_path: Path) -> None:
    assert load(tmp_path, "").audit_export is None


def test_without_more_words_it_is_tls_on_its_registered_port_and_names_no_patient(
    tmp_path: Path, authority: Authority
) -> None:
    node = authority.certified("node")
    receiver = load(tmp_path, node.toml + HOST).audit_export
    assert receiver is not None and receiver.identity == node.identity
    place = receiver.settings.place
    assert (place.host, place.port, place.transport) == ("arr.hospital", 6514, "tls")
    assert not receiver.settings.patient_id


def test_it_may_have_a_certificate_of_its_own(tmp_path: Path, authority: Authority) -> None:
    node, other = authority.certified("node"), authority.certified("auditor")
    own = f'{HOST}certificate_file = "{other.certificate}"\nkey_file = "{other.key}"\n'
    receiver = load(tmp_path, node.toml + own).audit_export
    assert receiver is not None and receiver.identity == other.identity
    alone = load(tmp_path, f'{own}authorities_file = "{authority.certificate}"\n').audit_export
    assert alone is not None and alone.identity == other.identity


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "TLS needs certificate_file, key_file and authorities_file"),
        ('transport = "tcp"\ntls_name = "x"', "tls_name means nothing"),
        ('certificate_file = "a.pem"', "certificate_file and key_file stand together"),
        ('certificate_file = "a.pem"\nkey_file = "a.key"\nauthorities_file = "b.pem"', "cannot be read"),
        ("port = 0", "audit_export.port"),
        ('transport = "smtp"', "audit_export.transport"),
        ("patient = true", "audit_export.patient"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(ConfigFault, match=words):
        load(tmp_path, f"{HOST}{lines}\n")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, authority: Authority) -> None:
    node = authority.certified("node", names="DNS:open")
    key = tmp_path / "open.key"
    key.write_bytes(node.key.read_bytes())
    key.chmod(0o644)
    files = f'certificate_file = "{node.certificate}"\nkey_file = "{key}"\nauthorities_file = "{node.authority}"\n'
    with pytest.raises(ConfigFault, match="chmod 0400"):
        load(tmp_path, HOST + files)
