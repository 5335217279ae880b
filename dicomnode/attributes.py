"""What the DICOM dictionary says of an attribute: its kind of value, one or several, does it tell of the patient."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword


class Kind(StrEnum):
    """What one value of an attribute is in a rule."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"


KIND_OF_VR = {
    **dict.fromkeys(
        ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"), Kind.TEXT
    ),
    **dict.fromkeys(("IS", "SL", "SS", "SV", "UL", "US", "UV", "US or SS"), Kind.INTEGER),
    **dict.fromkeys(("DS", "FD", "FL"), Kind.NUMBER),
}
"""Sequences, binary values and tags are absent: no rule can ask for them (PS3.5 6.2)."""

FREE_TEXT_OR_NAME = frozenset({"PN", "LT", "ST", "UT", "UC"})
ORDER_NUMBERS = frozenset(
    {
        "AccessionNumber",
        "AdmissionID",
        "FillerOrderNumberImagingServiceRequest",
        "PerformedProcedureStepID",
        "PlacerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "ServiceEpisodeID",
        "StudyID",
    }
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a data set that a rule may ask for."""

    keyword: str
    tag: int
    vr: str
    kind: Kind
    is_list: bool
    """True when the dictionary allows another number of values than one: then it is a list, also with one value."""
    most_values: int | None
    """How many values the dictionary allows; None: any number."""
    identifying: bool
    """True when its values can tell who the patient is: they never enter the audit or the log."""


@lru_cache(maxsize=8192)
def attribute_at(tag: int) -> Attribute | None:
    """The attribute with that tag, or None when a rule cannot ask for it (private, unknown, sequence, binary)."""
    keyword = keyword_for_tag(tag)
    if not keyword or tag_for_keyword(keyword) != tag or tag >> 16 < 0x0008 or tag >> 16 == 0xFFFE:
        return None
    vr = dictionary_VR(tag)
    if vr not in KIND_OF_VR:
        return None
    values = dictionary_VM(tag)
    most = re.search(r"(\d+)$", values)
    return Attribute(
        keyword=keyword,
        tag=tag,
        vr=vr,
        kind=KIND_OF_VR[vr],
        is_list=values != "1",
        most_values=None if most is None else int(most.group(1)),
        identifying=tag >> 16 == 0x0010 or vr in FREE_TEXT_OR_NAME or keyword in ORDER_NUMBERS,
    )


def attribute_named(keyword: str) -> Attribute | None:
    """The attribute with that keyword, or None when a rule cannot ask for it."""
    tag = tag_for_keyword(keyword)
    return None if tag is None else attribute_at(tag)
