"""We believe a server only with its name and our authority; files that cannot say who somebody is are named."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicomnode.errors import TlsFault
from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity, client_context, names_of, server_context, validity
from tests.builders_receive import RawPeer
from tests.builders_tls import Authority, Certified, peer_over_tls
from tests.peers import free_port, program, storescp


def test_we_believe_a_server_only_with_its_name_and_our_authority(
    authority: Authority, other_authority: Authority
) -> None:
    identity = authority.certified("node").identity
    pacs = authority.certified("pacs")
    assert shaken(identity, pacs, peer_over_tls(1)) == ""
    assert shaken(identity, pacs, peer_over_tls(1, tls_name="")) == ""  # host is the address in the certificate
    assert "Hostname mismatch" in shaken(identity, pacs, peer_over_tls(1, tls_name="pacs.example"))
    assert "has expired" in shaken(identity, authority.certified("pacs", days=0), peer_over_tls(1))
    assert "certificate verify failed" in shaken(identity, other_authority.certified("pacs"), peer_over_tls(1))


def shaken(identity: TlsIdentity, server: Certified, peer: Peer) -> str:
    return handshake(client_context(identity, peer), server_context(server.identity, clients_required=False), peer)


def handshake(calling: ssl.SSLContext, called: ssl.SSLContext, peer: Peer) -> str:
    """Why either side ends the handshake, which is made in memory; empty when none does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = calling.wrap_bio(to_client, to_server, server_hostname=peer.certificate_host)
    server = called.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as fault:
                return str(fault)
    return ""


@pytest.mark.peer
def test_storescp_over_tls_is_a_destination(authority: Authority, tmp_path: Path) -> None:
    port = free_port()
    with storescp(port, *authority.certified("pacs").dcmtk, "--output-directory", str(tmp_path)):
        context = client_context(authority.certified("node").identity, peer_over_tls(port))
        with RawPeer(port, tls=context):
            pass


def test_a_peer_without_tls_is_not_called_over_tls(authority: Authority) -> None:
    with pytest.raises(TlsFault, match="tls = true"):
        client_context(authority.certified("node").identity, Peer(name="old", ae_title="OLD", may=("store",)))


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    node, scanner = authority.certified("node"), authority.certified("scanner")
    empty, gone = tmp_path / "empty.pem", tmp_path / "gone.pem"
    empty.write_text("nothing\n")
    locked = tmp_path / "locked.key"
    command = [
        program("openssl"),
        "rsa",
        "-aes128",
        "-passout",
        "pass:secret",
        "-in",
        str(node.key),
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    for identity, words in (
        (TlsIdentity(node.certificate, scanner.key, node.authority), "is not the key of the certificate"),
        (TlsIdentity(empty, node.key, node.authority), "no certificate and key in PEM"),
        (TlsIdentity(gone, node.key, node.authority), "cannot be read: No such file"),
        (TlsIdentity(node.certificate, locked, node.authority), "is encrypted"),
        (TlsIdentity(node.certificate, node.key, empty), "holds no certificate in PEM"),
        (TlsIdentity(node.certificate, node.key, gone), "cannot be read: No such file"),
    ):
        with pytest.raises(TlsFault, match=words):
            server_context(identity, clients_required=True)


def test_the_time_of_a_certificate_is_read_from_its_file(authority: Authority, tmp_path: Path) -> None:
    begins, ends = validity(authority.certified("node").certificate)
    assert ends - begins == timedelta(days=20)
    assert abs(datetime.now(UTC) - begins) < timedelta(hours=1)
    for wrong in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "wrong.pem").write_text(wrong)
        with pytest.raises(TlsFault, match="holds no certificate"):
            validity(tmp_path / "wrong.pem")


def test_a_revoked_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    lists = tmp_path / "authorities.pem"
    lists.write_text(authority.certificate.read_text() + authority.revocation_list(authority.certified("scanner")))
    node = authority.certified("node")
    strict = TlsIdentity(node.certificate, node.key, lists)
    assert "certificate revoked" in shaken_by(strict, authority.certified("scanner"))
    assert shaken_by(strict, authority.certified("viewer")) == ""


def shaken_by(identity: TlsIdentity, caller: Certified) -> str:
    peer = peer_over_tls(1)
    return handshake(client_context(caller.identity, peer), server_context(identity, clients_required=True), peer)


def test_names_are_common_and_alternative_ones_in_small_letters() -> None:
    certificate = {
        "subject": ((("organizationName", "Hospital"),), (("commonName", "CT 1"),)),
        "subjectAltName": (("DNS", "CT1.example"), ("IP Address", "10.1.2.3"), ("DirName", "x")),
    }
    assert names_of(certificate) == {"ct 1", "ct1.example", "10.1.2.3"}
    assert names_of(None) == names_of({}) == frozenset()
