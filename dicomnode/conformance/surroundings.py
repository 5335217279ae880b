"""Security, character sets and configuration parameters, as the node has them or as this one is configured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydicom.charset import python_encoding

from dicomnode.config_reference import TABLES
from dicomnode.conformance.tables import table
from dicomnode.deidentify.profile import BASIC_CODE, CODES
from dicomnode.tls import CIPHERS

if TYPE_CHECKING:
    from dicomnode.config import Config

HIDDEN = ("password",)
"""A key with one of these words in its name is not told the value of."""
NOT_FOR_OTHERS = ("[pipelines.NAME]", "[[rules]]", "[needs.NAME]", "[[retrieve]]")
"""Tables of which a node's statement gives the keys and no values: their conditions may name patients."""


def security(config: Config | None) -> str:
    """Who is let in, and the secure transport (PS3.15 B)."""
    options = [f"{meaning} ({value})" for value, meaning in CODES.values()]
    if config is None:
        here = "This is the node's behaviour; whether it is configured, node.toml says.\n"
    elif config.tls is None:
        here = "This node is configured without TLS.\n"
    else:
        port = f"at port {config.tls.port}" if config.tls.port else "to peers only"
        shown = "must" if config.tls.clients_required else "need not"
        only = "; the port without TLS is not opened" if config.tls.only else ""
        here = f"This node speaks TLS {port}; who calls {shown} show a certificate{only}.\n"
    return f"""Only peers of `node.toml` may associate, by calling AE title and, where given, by network. What a
peer may do stands in its `may` ("store", "query", "retrieve"). User identity is neither asked for
nor evaluated.

Secure transport: TLS 1.2 and 1.3 (PS3.15 B.12, BCP 195) at the port of `[tls]`, and to peers with `tls = true`, whose
certificate must bear their host name (or `tls_name`). Callers must show a certificate that one of our authorities
signed, unless `client_certificates = "none"`; a peer with `certificate_names` must show one of them; one with `tls =
true` is refused on the port without TLS. Revocation lists in `authorities_file` are heeded.

{here}
Cipher suites: of TLS 1.2 `{CIPHERS}` (ephemeral keys, authenticated encryption), and those of TLS 1.3.

Audit trail: every event is kept in a hash-chained table; with `[audit_export]` each is sent as a message of PS3.15 A.5
to a syslog receiver (RFC 5424) over TLS (RFC 5425), TCP (RFC 6587) or UDP (RFC 5426). [docs/AUDIT.md](docs/AUDIT.md)
says which message tells of which event.

De-identification: `dicomnode export --deidentify` applies {_words(BASIC_CODE)} (PS3.15 Annex E), with the
options {", ".join(options)} where asked. For research only; nothing on the clinical path is de-identified.
"""


def _words(code: tuple[str, str]) -> str:
    """A code of CID 7050 in words."""
    return f"the {code[1]} ({code[0]} DCM)"


def character_sets() -> str:
    """What is read, and what is written."""
    known = ", ".join(sorted({name.replace("ISO 2022 IR", "ISO_IR") for name in python_encoding if name}))
    return f"""Every data set is kept byte for byte as received, whatever its character set. Attributes that rules
ask for, and that queries match, are decoded with: {known}, and with ISO 2022 code extensions of
these. Where a text's decoding is not certain its bytes are kept beside it.

Texts of patient and study in what the node makes are the source's bytes under the source's Specific Character Set
(0008,0005); what the node adds is ASCII. For sources that declare no character set and hold other than ASCII, a
peer's `declare_character_set` is declared.
"""


def parameters(config: Config | None) -> str:
    """Every key of node.toml and rules.toml, with its default, or with the value that this node has."""
    parts = []
    for name, model in TABLES.items():
        tells = config is not None and name not in NOT_FOR_OTHERS
        values = _values(config, name) if tells and config is not None else [None]
        if not values:
            continue
        rows = []
        for key, field in model.model_fields.items():
            default = "(required)" if field.is_required() else _json(field.default)
            cells = [", ".join(dict.fromkeys(_shown(one, key) for one in values))] if tells else []
            rows.append((f"`{field.alias or key}`", default, *cells))
        head = ("key", "default", "here") if tells else ("key", "default")
        parts.append(f"#### `{name}`\n\n{table(head, rows)}")
    return "\n".join(parts)


def _values(config: Config, name: str) -> list[Any]:
    """What the config holds of that table: one for a table, several for a list of them."""
    attribute = name.strip("[]").partition(".")[0]
    held = getattr(config, attribute, None)
    if held is None:
        return []
    if isinstance(held, BaseModel):
        return [held]
    return list(held.values()) if hasattr(held, "values") else list(held) if isinstance(held, tuple) else [held]


def _shown(held: Any, key: str) -> str:
    if any(word in key for word in HIDDEN):
        return "not told"
    return _json(getattr(held, key)) if hasattr(held, key) else "as node.toml says"


def _json(value: Any) -> str:
    text = json.dumps(value, default=str)
    return "absent" if value is None else f"`{text}`"
