"""The data set of a query as PS3.15 A.5.3.10 wants it in its message, without the values that could name a patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

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

    So it says what was searched by, and never whom.
    """
    asked = Dataset()
    if level := str(details.get("level", "")):
        asked.QueryRetrieveLevel = level
    for keyword in details.get("asked") or ():
        tag = tag_for_keyword(str(keyword))
        if tag is not None and tag not in asked:
            asked.add_new(tag, dictionary_VR(tag), None)
    for key, keyword in _UIDS.items():
        if uids := details.get(key):
            setattr(asked, keyword, [str(uid) for uid in uids])
    octets = DicomBytesIO()
    octets.is_little_endian, octets.is_implicit_VR = True, False
    write_dataset(octets, asked)
    return octets.getvalue()
