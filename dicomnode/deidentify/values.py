"""Values of single elements: dummies, moved dates, and whether a value is of its representation at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta


def words(text: str) -> frozenset[str]:
    """The words of a list, as they are written in a source file."""
    return frozenset(text.split())


DUMMY_TEXT = "REMOVED"
DUMMIES: dict[str, object] = {
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "UR": "urn:uuid:00000000-0000-0000-0000-000000000000",
    "DS": "0",
    "IS": "0",
    **dict.fromkeys(["AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"], 0),
}
_FORMS = {
    "DA": r"\d{8}|\d{4}\.\d{2}\.\d{2}",
    "TM": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?|\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?",
    "DT": r"\d{4}(\d{2}){0,5}(\.\d{1,6})?([+-]\d{4})?",
    "AS": r"\d{3}[DWMY]",
    "CS": r"[A-Z0-9 _]{0,16}",
    "DS": r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?",
    "IS": r"[+-]?\d{1,12}",
    "UI": r"\d+(\.\d+)*",
}
FORMS = {vr: re.compile(form) for vr, form in _FORMS.items()}
"""PS3.5 6.2; what has another form may hold words."""
CODE_STRING_AS_WRITTEN = re.compile(r"[A-Za-z0-9 _.+\-/%\[\]:]{0,32}")
"""Code strings that real devices write, with small letters and signs."""
WELL_KNOWN = "1.2.840.10008."
PUBLIC_CODES = "2.16.840.1.113883.6."
"""HL7's arc of public terminologies, e.g. SNOMED CT and LOINC."""
OLDEST_TOLD_YEARS = 89
"""Ages above it are told as 90: there are too few people of them."""
BYTES = words("OB UN OW OF OD OL OV") | {"OB or OW"}


def dummy(vr: str) -> object:
    """A value of the representation that says nothing."""
    if vr in BYTES:
        return b"\0\0"
    return DUMMIES.get(vr, DUMMY_TEXT)


def of_its_form(vr: str, values: Sequence[str]) -> bool:
    """Whether every value has a form that its representation allows; representations without a form allow all."""
    form = CODE_STRING_AS_WRITTEN if vr == "CS" else FORMS.get(vr)
    return form is None or all(not value.strip(" \0") or form.fullmatch(value.strip(" \0")) for value in values)


def told_age(value: str) -> str:
    """An age as it is told to strangers."""
    years = value.strip(" \0")
    above = years[:3].isdigit() and years.endswith("Y") and int(years[:3]) > OLDEST_TOLD_YEARS
    return f"{OLDEST_TOLD_YEARS + 1:03d}Y" if above else value


def moved(vr: str, value: str, *, days: int) -> str:
    """A date or date and time so many days earlier, a time as it is; empty where it is no full date."""
    value = value.strip(" \0")
    if vr == "TM":
        return value if FORMS["TM"].fullmatch(value) else ""
    digits = value.replace(".", "") if vr == "DA" else value
    if not FORMS[vr].fullmatch(value) or not digits[:8].isdigit() or len(digits[:8]) < 8:
        return ""
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{day.year:04d}{day.month:02d}{day.day:02d}" + digits[8:]
