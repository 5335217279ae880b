"""PatientPosition of CT and MR, and the orientation codes of PET: one said in the words of the other."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicomnode.source_image import SourceImage

LYING = {
    "40199007": "S", "F-10340": "S",
    "1240000": "P", "F-10310": "P",
    "102535000": "DR", "F-10317": "DR",
    "102536004": "DL", "F-10319": "DL",
}  # fmt: skip
"""Patient orientation modifiers (SCT and the older SRT codes) as the end of a PatientPosition."""
ENTERING = {"102540008": "HF", "F-10470": "HF", "102541007": "FF", "F-10480": "FF"}
"""Patient gantry relationships as the beginning of a PatientPosition."""
MEANINGS = {
    "S": ("40199007", "supine"),
    "P": ("1240000", "prone"),
    "DR": ("102535000", "right lateral decubitus"),
    "DL": ("102536004", "left lateral decubitus"),
    "HF": ("102540008", "headfirst"),
    "FF": ("102541007", "feet-first"),
}


def patient_position(image: SourceImage) -> str:
    """The source's PatientPosition, or what its orientation codes say; empty when neither speaks or both disagree."""
    said, coded = image.text("PatientPosition"), _from_codes(image.dataset)
    return "" if said and coded and said != coded else said or coded


def _from_codes(dataset: Dataset) -> str:
    """A position of CS for someone lying down; empty when the codes do not say it."""
    lying, entering = "", ""
    for orientation in dataset.get("PatientOrientationCodeSequence") or []:
        for modifier in orientation.get("PatientOrientationModifierCodeSequence") or []:
            lying = LYING.get(str(modifier.get("CodeValue", "")), "")
    for relationship in dataset.get("PatientGantryRelationshipCodeSequence") or []:
        entering = ENTERING.get(str(relationship.get("CodeValue", "")), "")
    return entering + lying if lying and entering else ""


def orientation_codes(position: str) -> dict[str, DicomSequence]:
    """The two code sequences of PET for a PatientPosition; both empty for one that is not known."""
    entering, lying = position[:2], position[2:]
    if entering not in MEANINGS or lying not in MEANINGS:
        return {
            name: DicomSequence()
            for name in ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence")
        }
    recumbent = code_item("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = DicomSequence([_item(lying)])
    return {
        "PatientOrientationCodeSequence": DicomSequence([recumbent]),
        "PatientGantryRelationshipCodeSequence": DicomSequence([_item(entering)]),
    }


def _item(name: str) -> Dataset:
    value, meaning = MEANINGS[name]
    return code_item(value, "SCT", meaning)


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
