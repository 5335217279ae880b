"""The form in which person names are compared: without case, accents and empty components (PS3.4 C.2.2.2.1)."""

from __future__ import annotations

import unicodedata

ACCENTS = range(0x0300, 0x0370)
"""Combining marks that are taken off; those of other scripts (kana's voicing, say) make other letters."""


def name_key(text: str) -> str:
    """One component group, or a pattern for one: small letters without accents, without empty components at its end."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if ord(one) not in ACCENTS)
    components = [" ".join(part.split()) for part in unicodedata.normalize("NFC", plain.casefold()).split("^")]
    return "^".join(components).rstrip("^")


def name_keys(name: str) -> tuple[str, ...]:
    """The keys of the component groups alphabetic, ideographic, phonetic; an empty one stays in its place."""
    return tuple(name_key(group) for group in name.split("="))


def text_key(text: str) -> str:
    """Any other text as it is compared: composed characters, no blanks around it; case counts."""
    return unicodedata.normalize("NFC", text).strip()
