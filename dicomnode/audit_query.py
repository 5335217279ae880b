"""The data set of a query as PS3.15 A.5.3.10 wants it in its message, without the values that could name a patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import STANDARD_VR

PATIENT_ROOT_FIND, STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
TRANSFER_SYNTAX_UID = str(ExplicitVRLittleEndian)
_UIDS = {
    "study_instance_uids": "StudyInstanceUID",
    "series_instance_uids": "SeriesInstanceUID",
    "sop_instance_uids": "SOPInstanceUID",
}


def sop_class_of(details: Mapping[str, Any]) -> str:
    """The SOP class that was queried; Study Root where the row does not say."""
    return PATIENT_ROOT_FIND if details.get("model") == "patient root" else STUDY_ROOT_FIND


def query_of(details: Mapping[str, Any]) -> bytes:
    """Level, named UIDs and the keys that had values, in explicit VR little endian; of the others the value is empty.

    So it says what was searched by, and never whom. Whatever a peer asked gives a data set: one row that could not be
    told would hold back every row behind it.
    """
    asked = Dataset()
    if level := str(details.get("level", "")):
        asked.QueryRetrieveLevel = _plain(level)
    for keyword in details.get("asked") or ():
        tag = tag_for_keyword(str(keyword))
        if tag is not None and tag not in asked and (vr := dictionary_VR(tag)[:2]) in STANDARD_VR:
            asked.add_new(tag, vr, None)  # of "US or SS", which no file may say, the first: there is no value
    for key, keyword in _UIDS.items():
        if uids := details.get(key):
            setattr(asked, keyword, [_plain(str(uid)) for uid in uids])
    octets = DicomBytesIO()
    octets.is_little_endian, octets.is_implicit_VR = True, False
    write_dataset(octets, asked)
    return octets.getvalue()


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")
