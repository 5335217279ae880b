"""What node.toml says of TLS, looked at: files that are there, private and in date, and peers that can meet it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dicomnode.config_faults import Location, TomlFile
from dicomnode.errors import ConfigFault, TlsFault
from dicomnode.peer import Peer
from dicomnode.settings import NodeFile
from dicomnode.tls import Tls, load_authorities, load_certificate, validity

WARN_DAYS = 30


def read_tls(
    file: TomlFile, tables: NodeFile, base: Path, faults: list[ConfigFault], *, look: bool
) -> tuple[Tls | None, list[str]]:
    """The `[tls]` table and what is unusual in it. look: whether the files are opened, and mistakes in them found."""
    table = tables.tls
    if table is None:
        return None, []
    tls = Tls(
        base / table.certificate_file,
        base / table.key_file,
        base / table.authorities_file,
        port=table.port,
        clients_required=table.client_certificates == "required",
        only=table.only,
    )
    others = {"node.port": 0 if tls.only else tables.node.port, "node.http_port": tables.node.http_port}
    for key, port in others.items():
        if tls.port and tls.port == port:
            faults.append(file.fault(("tls", "port"), f"{port} is {key} already; TLS needs a port of its own"))
    if tls.port and tables.node.receive_path == "plain":
        # pynetdicom makes the handshake on the thread that accepts: one silent caller would keep everybody out.
        reason = 'the plain path knows no TLS; write "fast", or leave tls.port out'
        faults.append(file.fault(("node", "receive_path"), reason))
    warnings = []
    if tls.port and not tls.clients_required:
        warnings.append("callers over TLS show no certificate: their AE titles and networks are all that is asked")
    elif tls.port:
        nameless = [name for name, peer in tables.peers.items() if peer.tls and peer.may and not peer.certificate_names]
        if nameless:
            whose = ", ".join(nameless)
            warnings.append(f"any certificate of our authorities may call as {whose}: write certificate_names there")
    if look:
        before = len(faults)
        faults += _unusable(file, tls)
        if len(faults) == before:
            warnings += _soon_unusable(tls)
    return tls, warnings


def _unusable(file: TomlFile, tls: Tls) -> Iterator[ConfigFault]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    located: Mapping[str, Path] = {
        "certificate_file": tls.certificate,
        "key_file": tls.key,
        "authorities_file": tls.authorities,
    }
    unread = False
    for key, path in located.items():
        if (why := _unreadable(path)) is not None:
            unread = True
            yield file.fault(("tls", key), why)
    if unread:
        return
    if (mode := tls.key.stat().st_mode & 0o777) & 0o077:
        yield file.fault(("tls", "key_file"), f"{tls.key} is open to others (mode {mode:04o}); chmod 0400 it")
    try:
        begins, ends = validity(tls.certificate)
    except TlsFault as fault:
        yield file.fault(("tls", "certificate_file"), str(fault))
    else:
        yield from _out_of_date(file, ("tls", "certificate_file"), tls.certificate, begins, ends)
        try:
            load_certificate(context, tls.certificate, tls.key)
        except TlsFault as fault:
            yield file.fault(("tls", "key_file"), str(fault))
    try:
        load_authorities(context, tls.authorities)
    except TlsFault as fault:
        yield file.fault(("tls", "authorities_file"), str(fault))


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as fault:
        return f"{path} cannot be read: {fault.strerror}"


def _out_of_date(file: TomlFile, key: Location, path: Path, begins: datetime, ends: datetime) -> Iterator[ConfigFault]:
    now = datetime.now(UTC)
    if now > ends:
        yield file.fault(key, f"the certificate in {path} expired on {ends:%Y-%m-%d %H:%M} UTC; no peer accepts it")
    elif now < begins:
        yield file.fault(key, f"the certificate in {path} is good from {begins:%Y-%m-%d %H:%M} UTC only; see the clock")


def _soon_unusable(tls: Tls) -> Iterator[str]:
    ends = validity(tls.certificate)[1]
    left = ends - datetime.now(UTC)
    if left.days < WARN_DAYS:
        yield f"our certificate in {tls.certificate} expires in {left.days} days, on {ends:%Y-%m-%d}"


def peers_over_tls(file: TomlFile, peers: Mapping[str, Peer], tls: Tls | None) -> Iterator[ConfigFault]:
    """What peers wish of TLS and cannot have."""
    for name, peer in peers.items():
        if not peer.tls:
            for key, given in (("tls_name", peer.tls_name), ("certificate_names", peer.certificate_names)):
                if given:
                    yield file.fault(("peers", name, key), "means nothing without tls = true: it may call without TLS")
        elif tls is None:
            yield file.fault(("peers", name, "tls"), "needs a [tls] table with certificate_file, key_file and more")
        elif "store" in peer.may and not tls.port:
            yield file.fault(
                ("peers", name, "tls"), 'may "store" over TLS only, but tls.port is 0: it could never call'
            )
        elif peer.certificate_names and not tls.clients_required:
            reason = 'nobody shows a certificate: write client_certificates = "required" in [tls]'
            yield file.fault(("peers", name, "certificate_names"), reason)


def tls_in_words(tls: Tls) -> str:
    """Who may call over TLS, and until when we are believed."""
    begins, ends = validity(tls.certificate)
    shown = "callers must show a certificate" if tls.clients_required else "callers show no certificate"
    where = f"port {tls.port}, {shown}" if tls.port else "nobody calls us over TLS"
    return f"{where}; ours is good from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
