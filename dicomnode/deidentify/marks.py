"""What a de-identified instance says of itself: that it is one, by which options, and who stands for the patient."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicomnode.deidentify.profile import BASIC_CODE, CODES, Option
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, NODE_VERSION

MARKS = (
    "PatientName",
    "PatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)


def mark(dataset: Dataset, *, pseudonym: str, options: frozenset[Option]) -> None:
    """The root of the data set tells how it was de-identified (PS3.15 E.2, PS3.3 C.7.1.1, C.12.1)."""
    before = [item for item in dataset.get("DeidentificationMethodCodeSequence") or () if _of_the_standard(item)]
    own = [BASIC_CODE, *(CODES[option] for option in sorted(options, key=lambda one: CODES[one][0]))]
    known = {code for code, _ in own}
    for keyword in MARKS:
        if keyword in dataset:
            del dataset[keyword]  # it may have been written with another representation
    dataset.PatientName = pseudonym
    dataset.PatientID = pseudonym
    dataset.PatientIdentityRemoved = "YES"
    told = [f"dicom-ai-node {NODE_VERSION}, PS3.15 Annex E", *(meaning for _, meaning in own)]
    dataset.DeidentificationMethod = [text[:64] for text in told]
    dataset.DeidentificationMethodCodeSequence = [
        *(_code(value, meaning) for value, meaning in own),
        *(item for item in before if item.CodeValue not in known),
    ]
    modified = {Option.FULL_DATES: "UNMODIFIED", Option.MODIFIED_DATES: "MODIFIED"}
    dataset.LongitudinalTemporalInformationModified = next(
        (word for option, word in modified.items() if option in options), "REMOVED"
    )


def fresh_meta(dataset: Dataset, former: Dataset) -> FileMetaDataset:
    """File Meta Information with nothing in it of who sent or made the original file."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = former.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _of_the_standard(item: Dataset) -> bool:
    """Whether an earlier de-identification is named by a code of CID 7050."""
    value = str(item.get("CodeValue", ""))
    return item.get("CodingSchemeDesignator") == "DCM" and len(value) == 6 and value.startswith("1131")


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
