"""The text behind the bytes of an element, and whether it is certain (PS3.5 6.1)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.valuerep import TEXT_VR_DELIMS

CHANGEABLE_VRS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""The VRs whose character set Specific Character Set names; all others are ASCII."""
ESCAPE = b"\x1b"
CHINESE, TO_CHINESE = "ISO 2022 IR 58", b"\x1b$)A"
REPLACEMENT = "\ufffd"


def character_sets(specific_character_set: object) -> tuple[str, ...]:
    """The defined terms of a Specific Character Set value, in order; none when it is absent or empty."""
    if specific_character_set is None or specific_character_set == "":
        return ()
    if isinstance(specific_character_set, bytes):
        specific_character_set = specific_character_set.decode("ascii", "replace")
    if isinstance(specific_character_set, str):
        specific_character_set = specific_character_set.split("\\")
    if not isinstance(specific_character_set, Sequence):
        return (str(specific_character_set),)
    return tuple(str(term).strip(" \0") for term in specific_character_set)


def decoded_text(value: bytes, terms: Sequence[str]) -> tuple[str, bool]:
    """The text of a value's bytes, and whether it is certain; where it is not, keep the bytes beside it (K5).

    Not certain: bytes that the declared sets do not hold (replaced by U+FFFD), sets nobody knows, and other than
    ASCII where no set is declared (read as Latin-1 then, a guess).
    """
    value = value.rstrip(b"\0")
    if CHINESE in terms and not value.replace(TO_CHINESE, b"").count(ESCAPE):
        # pydicom 3.0.2 leaves the escape sequences in the text (K2). What they invoke, G1, holds no ASCII byte.
        text = value.replace(TO_CHINESE, b"").decode("gb2312", "replace")
        return text, REPLACEMENT not in text
    is_known = all(term in python_encoding for term in terms)
    try:
        text = decode_bytes(value, convert_encodings(list(terms) or [""]), TEXT_VR_DELIMS)
    except (LookupError, UnicodeError):
        return value.decode("ascii", "replace"), value.isascii()
    is_declared = any(term not in ("", "ISO_IR 6", "ISO 2022 IR 6") for term in terms)
    is_certain = value.isascii() or (is_known and is_declared)
    return text, is_certain and REPLACEMENT not in text and "\x1b" not in text
