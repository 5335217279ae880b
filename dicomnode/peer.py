"""A remote application entity: name, AE title, host, port, and what it may do to us."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

AE_TITLE_LENGTH = 16


def checked_ae_title(title: str) -> str:
    """An AE title as PS3.5 6.2 wants it: 1 to 16 printable ASCII characters, no backslash, no blanks around it."""
    if not 1 <= len(title) <= AE_TITLE_LENGTH:
        raise ValueError(f"an AE title has 1 to {AE_TITLE_LENGTH} characters, {title!r} has {len(title)}")
    if not all(" " <= character <= "~" for character in title) or "\\" in title or title != title.strip():
        raise ValueError(
            f"an AE title is printable ASCII without backslash and without blanks around it, not {title!r}"
        )
    return title


def checked_network(network: str) -> str:
    """A network in CIDR form, or a single address."""
    try:
        ipaddress.ip_network(network)
    except ValueError as fault:
        raise ValueError(f"expected a network such as 10.1.2.0/24 or one address ({fault})") from None
    return network


AETitle = Annotated[str, AfterValidator(checked_ae_title)]
Network = Annotated[str, AfterValidator(checked_network)]
Right = Literal["store", "query", "retrieve"]
Compression = Literal["none", "jpeg-ls", "jpeg-2000", "rle"]


class PeerTable(BaseModel):
    """One `[peers.NAME]` table of node.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ae_title: AETitle = Field(description="How the peer calls itself, and how we call it; no two peers share one.")
    host: str = Field(default="", description="Name or address where the peer listens; empty: it only calls us.")
    port: int = Field(default=0, ge=0, le=65535, description="Port where the peer listens; 0: it only calls us.")
    may: Annotated[tuple[Right, ...], Field(strict=False)] = Field(
        default=(), description='What the peer may do to us: "store", "query", "retrieve".'
    )
    move_to: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Names of the peers to which this one may have instances sent by C-MOVE; empty: only to itself. "
        'Needs "retrieve" in may.',
    )
    networks: Annotated[tuple[Network, ...], Field(strict=False)] = Field(
        default=(), description="Networks (CIDR) or addresses from which the peer may call; empty: from anywhere."
    )
    quiet_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without a new instance after which a series of this peer is whole; "
        "absent: quiet_seconds of [node].",
    )
    compression: Compression = Field(
        default="none",
        description="How images are sent where the peer takes it, always lossless; "
        "none: uncompressed, and compressed only for a peer that takes nothing else.",
    )
    associations: int = Field(
        default=1,
        ge=1,
        le=8,
        description="How many associations to the peer may be open at once; more send several series side by side.",
    )
    declare_character_set: str = Field(
        default="",
        pattern=r"^(ISO_IR [0-9]{1,3}|GB18030|GBK)?$",
        description="SpecificCharacterSet that derived images declare when this peer's images hold other than ASCII "
        'and declare none, e.g. "ISO_IR 100"; empty: they stay as they came.',
    )
    commitment: bool = Field(
        default=False,
        description="true: a delivery to the peer ends only when it has committed to keep every instance (Storage "
        "Commitment); it must know our AE title, host and port, because it may report over an association of its own.",
    )
    commitment_report_s: float = Field(
        default=900.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds in which the peer reports what it commits to; after them it is asked again.",
    )
    commitment_wait_s: float = Field(
        default=2.0,
        ge=0,
        le=60,
        description="Seconds for which our association stays open after the request, for peers that report on it.",
    )
    tls: bool = Field(
        default=False,
        description="true: we call the peer over TLS, and it may call us over TLS only; needs a [tls] table.",
    )
    tls_name: str = Field(
        default="", description="Host name that the peer's server certificate bears; empty: what stands in host."
    )
    certificate_names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = Field(
        default=(),
        description="Names (common name or alternative name), one of which the certificate must bear with which the "
        "peer calls; empty: any certificate that our authorities signed. Needs tls = true.",
    )

    @model_validator(mode="after")
    def _who_is_asked_listens(self) -> Self:
        if self.commitment and not (self.host and self.port):
            raise ValueError("commitment = true needs host and port: the peer is called to ask it")
        return self


class Peer(PeerTable):
    """A remote application entity with the name that rules, audit and command line use."""

    name: str

    @property
    def reachable(self) -> bool:
        """Whether we know where it listens, so that series can be sent to it."""
        return bool(self.host and self.port)

    @property
    def certificate_host(self) -> str:
        """The host name that its server certificate must bear when we call it over TLS."""
        return self.tls_name or self.host

    def shows(self, names: frozenset[str]) -> bool:
        """Whether a certificate with these names (in small letters) is one with which the peer may call."""
        return not self.certificate_names or any(name.strip().lower() in names for name in self.certificate_names)

    def calls_from(self, address: str) -> bool:
        """Whether the peer may call from that address; what is no address is refused when networks are given."""
        if not self.networks:
            return True
        try:
            caller = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(caller, "ipv4_mapped", None)  # ::ffff:10.1.2.3 on a socket that hears both kinds
        places = (caller,) if mapped is None else (caller, mapped)
        return any(place in ipaddress.ip_network(network) for place in places for network in self.networks)
