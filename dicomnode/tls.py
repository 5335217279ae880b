"""TLS as PS3.15 B.12 wants it: who we are, contexts for both directions, and the names in a peer's certificate."""

# BCP 195 (RFC 8996 and RFC 9325): TLS 1.2 or later, ephemeral keys, authenticated encryption, no compression.

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from dicomnode.errors import TlsFault
from dicomnode.peer import Peer

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; all those of TLS 1.3 are as good."""
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_NAMES = ("DNS", "IP Address", "URI", "email")


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """Who we are and whom we believe: PEM files."""

    certificate: Path
    """Ours, with the certificates between it and the authority."""
    key: Path
    authorities: Path
    """Whose signature under a peer's certificate counts; revocation lists in it are heeded."""


@dataclass(frozen=True, slots=True)
class Tls(TlsIdentity):
    """What `[tls]` of node.toml says: who we are, and where and how peers call us over TLS."""

    port: int = 0
    """0: nobody calls us over TLS."""
    clients_required: bool = True
    """Whether a caller must show a certificate."""
    only: bool = False
    """Whether the port without TLS stays closed."""


def server_context(identity: TlsIdentity, *, clients_required: bool) -> ssl.SSLContext:
    """For connections to us. Raises TlsFault when a file cannot be used.

    clients_required: a caller without a certificate that one of our authorities signed gets no connection.
    """
    context = _strict(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # every connection shows its certificate anew
    context.options |= ssl.OP_NO_TICKET
    context.verify_mode = ssl.CERT_REQUIRED if clients_required else ssl.CERT_NONE
    load_certificate(context, identity.certificate, identity.key)
    load_authorities(context, identity.authorities)
    return context


def client_context(identity: TlsIdentity, peer: Peer) -> ssl.SSLContext:
    """For connections of ours to the peer; wrap a socket with `server_hostname=peer.certificate_host`.

    Its certificate must be signed by our authorities and bear that name. Raises TlsFault when a file cannot be used.
    """
    if not peer.tls:
        raise TlsFault(f"{peer.name} is not called over TLS: node.toml does not say tls = true")
    return caller_context(identity)


def caller_context(identity: TlsIdentity) -> ssl.SSLContext:
    """For connections of ours to whoever bears the name that the socket is wrapped with.

    Raises TlsFault when a file cannot be used.
    """
    context = _strict(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = True, ssl.CERT_REQUIRED
    load_certificate(context, identity.certificate, identity.key)
    load_authorities(context, identity.authorities)
    return context


def _strict(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Our certificate and its key. Raises TlsFault when they are none or do not belong together."""

    def no_password() -> NoReturn:
        raise TlsFault(f"{key} is encrypted; the node cannot ask for its password: store the key without one")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as fault:
        if fault.reason == "KEY_VALUES_MISMATCH":
            raise TlsFault(f"{key} is not the key of the certificate in {certificate}") from fault
        raise TlsFault(f"{certificate} and {key} are no certificate and key in PEM: {_words(fault)}") from fault
    except OSError as fault:
        raise TlsFault(f"{certificate} or {key} cannot be read: {fault.strerror}") from fault


def load_authorities(context: ssl.SSLContext, authorities: Path) -> None:
    """Whom we believe. Raises TlsFault when the file holds no certificate."""
    try:
        context.load_verify_locations(authorities)
    except ssl.SSLError as fault:
        raise TlsFault(f"{authorities} holds no certificate in PEM: {_words(fault)}") from fault
    except OSError as fault:
        raise TlsFault(f"{authorities} cannot be read: {fault.strerror}") from fault
    held = context.cert_store_stats()
    if not held["x509"]:
        raise TlsFault(f"{authorities} holds no certificate in PEM")
    if held["crl"]:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The names in a certificate as `getpeercert()` gives it: common names and alternative names, in small letters."""
    if not certificate:
        return frozenset()
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    alternative = [value for kind, value in certificate.get("subjectAltName", ()) if kind in _NAMES]
    return frozenset(name.strip().lower() for name in [*common, *alternative])


def validity(pem: Path) -> tuple[datetime, datetime]:
    """When the first certificate in the file begins and ends to be good. Raises TlsFault when there is none."""
    try:
        text = pem.read_text(encoding="utf-8", errors="replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----", begin)
        der = ssl.PEM_cert_to_DER_cert(text[begin:end] + "-----END CERTIFICATE-----\n")
        return _validity(der)
    except OSError as fault:
        raise TlsFault(f"{pem} cannot be read: {fault.strerror}") from fault
    except (ValueError, IndexError) as fault:
        raise TlsFault(f"{pem} holds no certificate in PEM") from fault


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """RFC 5280 4.1: Certificate { tbs { [version], serialNumber, signature, issuer, validity, ..."""
    _, certificate, _ = _element(der, 0)
    _, tbs, _ = _element(certificate, 0)
    kind, _, after = _element(tbs, 0)
    at = after if kind == _VERSION else 0
    for _ in range(3):
        _, _, at = _element(tbs, at)
    kind, times, _ = _element(tbs, at)
    if kind != _SEQUENCE:
        raise ValueError("no validity")
    _, _, second = _element(times, 0)
    return _time(times, 0), _time(times, second)


def _time(octets: bytes, at: int) -> datetime:
    kind, value, _ = _element(octets, at)
    text = value.decode("ascii")
    if kind == _UTC_TIME:  # RFC 5280 4.1.2.5.1: 50 to 99 are of the last century
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _element(octets: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and end of a DER element."""
    kind, length, begin = octets[at], octets[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(octets[begin : begin + count], "big"), begin + count
    return kind, octets[begin : begin + length], begin + length


def in_words(fault: OSError) -> str:
    """Why a handshake failed, without anything that the peer has chosen."""
    if isinstance(fault, TimeoutError):
        return "the handshake did not end in time"
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {fault.verify_message}"
    if isinstance(fault, ssl.SSLError):
        return f"the handshake failed: {_words(fault)}"
    return f"the connection ended in the handshake: {fault.strerror or type(fault).__name__}"


def _words(fault: ssl.SSLError) -> str:
    return (fault.reason or "unknown fault").replace("_", " ").lower()
