"""A node whose certificates cannot be used does not start, and is told which file, which key and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dicomnode.config import Config, keep_in_force, load_config
from dicomnode.config_words import describe
from dicomnode.errors import ConfigFault
from tests.builders_tls import Authority, Certified

NODE = """
[node]
port = 11112
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
tls = true
certificate_names = ["ct1.example"]
[peers.pacs]
ae_title = "PACS"
host = "10.0.0.1"
port = 2762
tls = true
tls_name = "pacs.example"
[tls]
port = 2762
certificate_file = "node.pem"
key_file = "node.key"
authorities_file = "authorities.pem"
"""


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    return with_files(tmp_path / "config", authority.certified("node", days=90))


def with_files(folder: Path, party: Certified) -> Path:
    folder.mkdir()
    for source, name in (
        (party.certificate, "node.pem"),
        (party.key, "node.key"),
        (party.authority, "authorities.pem"),
    ):
        shutil.copy(source, folder / name)
    (folder / "rules.toml").write_text("")
    return folder


def load(folder: Path, text: str = NODE) -> Config:
    (folder / "node.toml").write_text(text)
    return load_config(folder, environment={})


def fault(folder: Path, text: str = NODE) -> str:
    with pytest.raises(ConfigFault) as caught:
        load(folder, text)
    return str(caught.value)


def test_the_files_lie_beside_the_config_and_words_say_who_may_call_how(folder: Path) -> None:
    config = load(folder)
    assert config.tls is not None
    assert (config.tls.certificate, config.tls.key) == (folder / "node.pem", folder / "node.key")
    assert (config.tls.port, config.tls.clients_required, config.tls.only) == (2762, True, False)
    words = dict(describe(config))
    assert words["node"].startswith("DICOMNODE listens on 127.0.0.1:11112 and 127.0.0.1:2762 over TLS;")
    assert words["tls"].startswith("port 2762, callers must show a certificate; ours is good from 20")
    assert words["peer pacs"].startswith("PACS at 10.0.0.1:2762 over TLS")
    assert config.warnings == ("there are no rules: series are received and nothing is done with them",)


def test_a_node_that_only_calls_over_tls_needs_no_port_and_one_that_is_only_called_so_no_other(folder: Path) -> None:
    calling = NODE.replace('may = ["store"]\n', "").replace("[tls]\nport = 2762", "[tls]")
    assert "nobody calls us over TLS" in dict(describe(load(folder, calling)))["tls"]
    only = dict(describe(load(folder, NODE + "only = true\n")))["node"]
    assert only.startswith("DICOMNODE listens on 127.0.0.1:2762 over TLS;")


def test_without_a_table_there_is_no_tls(folder: Path) -> None:
    assert load(folder, NODE.partition("[peers")[0]).tls is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('key_file = "node.key"', 'key_file = "gone.key"', "node.toml:18: tls.key_file: "),
        ('key_file = "node.key"', "", "tls.key_file: is missing: Its key"),
        ('key_file = "node.key"', 'keyfile = "node.key"', "tls.keyfile: unknown key; did you mean key_file?"),
        ('"authorities.pem"', '"node.key"', "tls.authorities_file: "),
        ('certificate_file = "node.pem"', 'certificate_file = "rules.toml"', "holds no certificate in PEM"),
        ("[tls]\nport = 2762", "[tls]\nport = 11112", "node.toml:16: tls.port: 11112 is node.port already"),
        ("[tls]\nport = 2762", "[tls]\nonly = true", "only = true, but port is 0"),
        ("[tls]\nport = 2762", "[tls]", 'peers.scanner.tls: may "store" over TLS only, but tls.port is 0: it could'),
        ("[node]", '[node]\nreceive_path = "plain"', "node.receive_path: the plain path knows no TLS"),
        ("tls = true\ncert", "cert", "peers.scanner.certificate_names: means nothing without tls = true"),
        ("[tls]", '[tls]\nclient_certificates = "none"', "scanner.certificate_names: nobody shows a certificate"),
        ("[tls]", '[tls]\nclient_certificates = "some"', "should be 'required' or 'none', not 'some'"),
    ],
)
def test_a_mistake_names_line_key_and_what_is_expected(folder: Path, old: str, new: str, message: str) -> None:
    assert old in NODE
    assert message in fault(folder, NODE.replace(old, new))


def test_a_peer_over_tls_needs_a_table(folder: Path) -> None:
    message = fault(folder, NODE.partition("[tls]")[0])
    assert "peers.scanner.tls: needs a [tls] table" in message
    assert "peers.pacs.tls: needs a [tls] table" in message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o660])
def test_a_key_that_others_can_read_is_refused(folder: Path, mode: int) -> None:
    (folder / "node.key").chmod(mode)
    assert f"node.key is open to others (mode {mode:04o}); chmod 0400 it" in fault(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path, authority: Authority) -> None:
    shutil.copy(authority.certified("scanner").key, folder / "node.key")
    assert "tls.key_file: " in fault(folder)
    assert "is not the key of the certificate" in fault(folder)


def test_an_expired_certificate_is_refused_and_one_that_soon_expires_is_a_warning(
    tmp_path: Path, authority: Authority
) -> None:
    expired = with_files(tmp_path / "expired", authority.certified("node", days=0))
    assert "tls.certificate_file: the certificate in" in fault(expired)
    assert "expired on 20" in fault(expired)
    soon = with_files(tmp_path / "soon", authority.certified("node", days=20))
    assert any("expires in 19 days" in warning for warning in load(soon).warnings)


def test_a_process_of_a_running_node_starts_though_the_files_have_become_unfit(folder: Path) -> None:
    config = load(folder)
    kept = keep_in_force(config)
    (folder / "node.key").unlink()
    again = load_config(kept, environment={}, relative_to=folder)
    assert again.tls == config.tls


def test_callers_without_certificates_are_a_warning(folder: Path) -> None:
    text = NODE.replace('certificate_names = ["ct1.example"]\n', "") + 'client_certificates = "none"\n'
    assert "callers over TLS show no certificate" in load(folder, text).warnings[0]


def test_a_peer_as_which_any_certificate_may_call_is_a_warning(folder: Path) -> None:
    words = "any certificate of our authorities may call as scanner: "
    assert not any(warning.startswith(words) for warning in load(folder).warnings)
    text = NODE.replace('certificate_names = ["ct1.example"]\n', "")
    assert any(warning.startswith(words) for warning in load(folder, text).warnings)
