"""A certificate authority with the certificates of node, scanner and PACS, made by the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity
from tests.peers import program

EXTENSIONS = """
[leaf]
basicConstraints = CA:FALSE
subjectAltName = {names}
extendedKeyUsage = serverAuth, clientAuth
"""

REVOCATION = """
[ca]
default_ca = own
[own]
database = {index}
certificate = {certificate}
private_key = {key}
default_md = sha256
"""


@dataclass(frozen=True)
class Certified:
    """One party: its certificate, its key, and whom it believes."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def identity(self) -> TlsIdentity:
        """As our node has it."""
        return TlsIdentity(self.certificate, self.key, self.authority)

    @property
    def dcmtk(self) -> list[str]:
        """The options with which storescu, echoscu and storescp speak TLS as this party."""
        return ["+tls", str(self.key), str(self.certificate), "+cf", str(self.authority)]

    @property
    def toml(self) -> str:
        """The `[tls]` table of a node that is this party, without port."""
        return (
            f'[tls]\ncertificate_file = "{self.certificate}"\nkey_file = "{self.key}"\n'
            f'authorities_file = "{self.authority}"\n'
        )


class Authority:
    """Signs certificates in a folder of its own.

    A node that sends over TLS to DCMTK: `storescp(port, *authority.certified("pacs").dcmtk)` on the one side,
    `peer_over_tls(port)` with `authority.certified("node").identity` on the other.
    """

    def __init__(self, folder: Path, name: str = "Hospital CA") -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.certificate, self._key = folder, folder / "authority.pem", folder / "authority.key"
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "30",
                 "-keyout", self._key, "-out", self.certificate)  # fmt: skip
        self._made: dict[tuple[str, str, int], Certified] = {}

    def certified(self, name: str, *, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 20) -> Certified:
        """The party with this common name and these alternative names; days: how long it is good from now.

        0 or fewer: it expired so many days ago, and a day.
        """
        if (known := self._made.get((name, names, days))) is not None:
            return known
        stem = self.folder / f"{name}-{len(self._made)}"
        key, request, certificate = (stem.with_suffix(end) for end in (".key", ".csr", ".pem"))
        extensions = stem.with_suffix(".cnf")
        extensions.write_text(EXTENSIONS.format(names=f"{names},DNS:{name}"))
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-days", days if days > 0 else days - 1, "-extfile", extensions, "-extensions", "leaf",
                 "-out", certificate)  # fmt: skip
        key.chmod(0o600)
        self._made[name, names, days] = Certified(certificate, key, self.certificate)
        return self._made[name, names, days]

    def revocation_list(self, *revoked: Certified) -> str:
        """A list (PEM) by which the certificates of these are revoked."""
        settings, index = self.folder / "ca.cnf", self.folder / "index.txt"
        settings.write_text(REVOCATION.format(index=index, certificate=self.certificate, key=self._key))
        index.write_text("")
        for one in revoked:
            _openssl("ca", "-config", settings, "-revoke", one.certificate)
        _openssl("ca", "-config", settings, "-gencrl", "-crldays", "5", "-out", self.folder / "list.pem")
        return (self.folder / "list.pem").read_text()


def peer_over_tls(port: int, *, ae_title: str = "PACS", tls_name: str = "localhost") -> Peer:
    """A destination on loopback that is called over TLS."""
    return Peer(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port, tls=True, tls_name=tls_name)


def _openssl(*arguments: object) -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True, timeout=60)
