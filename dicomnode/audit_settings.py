"""The `[audit_export]` table of node.toml: who receives the audit as messages of PS3.15 A.5, and how it is reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicomnode.config_faults import TomlFile
from dicomnode.errors import ConfigFault, TlsFault
from dicomnode.syslog import Place, Transport
from dicomnode.tls import Tls, TlsIdentity, caller_context

KEYS = ("certificate_file", "key_file", "authorities_file")


class AuditExportSettings(BaseModel):
    """The `[audit_export]` table of node.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    host: str = Field(min_length=1, description="Name or address of the syslog receiver (audit record repository).")
    port: int = Field(default=6514, ge=1, le=65535, description="Its port; 6514 is registered for TLS, 514 for UDP.")
    transport: Transport = Field(
        default="tls",
        description="tls: RFC 5425, both sides show certificates; tcp: RFC 6587, octet counting, for networks that "
        "are protected otherwise; udp: RFC 5426, where nobody knows what arrives.",
    )
    tls_name: str = Field(
        default="", description="Host name that the receiver's certificate bears; empty: what stands in host."
    )
    certificate_file: str = Field(
        default="", description="Our certificate for the receiver (PEM), relative to the config folder; empty: [tls]'s."
    )
    key_file: str = Field(default="", description="Its key (PEM), mode 0400 or 0600; empty: [tls]'s.")
    authorities_file: str = Field(
        default="", description="Authorities that sign the receiver's certificate (PEM); empty: [tls]'s."
    )
    source_id: str = Field(
        default="", max_length=64, description="AuditSourceID of our messages; empty: the node's AE title."
    )
    enterprise_site: str = Field(
        default="", max_length=64, description="AuditEnterpriseSiteID of our messages; empty: none."
    )
    patient_id: bool = Field(
        default=False,
        description="true: messages about a series that is held name its patient by Patient ID, as PS3.15 A.5.3 wants "
        "it; false: messages name no patient, and a receiver finds the patient by the study.",
    )

    @model_validator(mode="after")
    def _certificates_are_for_tls(self) -> Self:
        given = [key for key in (*KEYS, "tls_name") if getattr(self, key)]
        if given and self.transport != "tls":
            raise ValueError(f"{given[0]} means nothing with transport = {self.transport!r}")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file stand together")
        return self

    @property
    def place(self) -> Place:
        """Where the receiver listens."""
        return Place(self.host, self.port, self.transport, self.tls_name)


@dataclass(frozen=True, slots=True)
class AuditReceiver:
    """The receiver, with who we are to it. identity: None where no TLS is spoken."""

    settings: AuditExportSettings
    identity: TlsIdentity | None = None


def read_audit_export(
    file: TomlFile,
    settings: AuditExportSettings | None,
    tls: Tls | None,
    base: Path,
    faults: list[ConfigFault],
    *,
    look: bool,
) -> AuditReceiver | None:
    """The receiver that [audit_export] names; None: there is none. look: whether the certificates are looked at."""
    if settings is None or settings.transport != "tls":
        return None if settings is None else AuditReceiver(settings)
    ours = (settings.certificate_file, settings.key_file, settings.authorities_file)
    theirs = ("", "", "") if tls is None else (str(tls.certificate), str(tls.key), str(tls.authorities))
    certificate, key, authorities = (mine or other for mine, other in zip(ours, theirs, strict=True))
    if not (certificate and key and authorities):
        reason = "TLS needs certificate_file, key_file and authorities_file, here or in a [tls] table"
        faults.append(file.fault(("audit_export", "transport"), reason))
        return None
    identity = TlsIdentity(base / certificate, base / key, base / authorities)
    if look:
        faults += _unusable(file, identity)
    return AuditReceiver(settings, identity)


def _unusable(file: TomlFile, identity: TlsIdentity) -> Iterator[ConfigFault]:
    try:
        caller_context(identity)
        mode = identity.key.stat().st_mode & 0o777
    except (TlsFault, OSError) as fault:
        yield file.fault(("audit_export", "certificate_file"), str(fault))
        return
    if mode & 0o077:
        reason = f"{identity.key} is open to others (mode {mode:04o}); chmod 0400 it"
        yield file.fault(("audit_export", "key_file"), reason)


def audit_export_in_words(settings: AuditExportSettings) -> str:
    """Who receives the audit, and what of it."""
    named = "patients by their ID" if settings.patient_id else "no patient"
    lost = "; nobody knows what arrives" if settings.transport == "udp" else ""
    plain = "" if settings.transport == "tls" else ", unencrypted"
    return f"messages to {settings.host}:{settings.port} over {settings.transport}{plain}, naming {named}{lost}"
