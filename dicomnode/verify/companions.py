"""What must hold of the objects beside a derived series: segmentations, maps, reports, key images, banners."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode.gate.copy_rules import is_same, subject_tags
from dicomnode.gate.image_rules import UUID_FORM
from dicomnode.gate.rules import Finding, asked, text
from dicomnode.source_image import SourceImage
from dicomnode.uids import MANUFACTURER, MODEL_NAME, device_uid
from dicomnode.verbatim import Element
from dicomnode.verify.files import FoundInstance, references_of

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
MODALITIES: Mapping[str, tuple[str, ...]] = {
    str(SegmentationStorage): ("SEG",),
    LABEL_MAP: ("SEG",),
    str(ParametricMapStorage): ("OT", "CT", "PT", "MR", "RWV"),
    str(Comprehensive3DSRStorage): ("SR",),
    str(EnhancedSRStorage): ("SR",),
    str(SecondaryCaptureImageStorage): ("OT",),
    str(KeyObjectSelectionDocumentStorage): ("KO",),
    str(GrayscaleSoftcopyPresentationStateStorage): ("PR",),
}
NOT_INSTANCES = (
    *("ReferencedStudySequence", "ReferencedPatientSequence", "ReferencedPerformedProcedureStepSequence"),
    *("ReferencedRequestSequence", "PerformedProcedureCodeSequence", "ReferencedPatientPhotoSequence"),
)
EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
WITH_QUALIFICATION = frozenset(map(str, (SegmentationStorage, LABEL_MAP, ParametricMapStorage)))
IMAGES = WITH_QUALIFICATION | {str(SecondaryCaptureImageStorage)}
ASKED_OF_SOURCE = ("C2", "C28")
ASKED_OF_DERIVED = ("C21", "C22", "C23")


def companion_findings(dataset: Dataset) -> Iterator[Finding]:
    """What is asked of the object alone: class, UIDs, equipment, times, evidence."""
    sop_class_uid = text(dataset, "SOPClassUID")
    known = text(dataset, "Modality") in MODALITIES.get(sop_class_uid, ())
    yield asked("C1", known, "Modality and SOP Class disagree, or the node makes no such object")
    meta = dataset.file_meta
    named = (meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID"))
    same = named == (dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID"))
    yield asked("C1", same, "file meta and data set name other objects")
    uids = [text(dataset, f"{name}InstanceUID") for name in ("SOP", "Series", "Study")]
    yield asked("U1", all(uid.startswith("2.25.") for uid in uids[:2]), "a UID is not one that the node makes")
    yield asked("C3", len(set(uids)) == 3 and all(uids), "instance, series and study do not have a UID each")
    is_ours = (text(dataset, "Manufacturer"), text(dataset, "ManufacturerModelName")) == (MANUFACTURER, MODEL_NAME)
    yield asked("C9", is_ours, "the equipment is not the node's")
    serial = text(dataset, "DeviceSerialNumber")
    is_node = UUID_FORM.fullmatch(serial) is not None and text(dataset, "DeviceUID") in ("", device_uid(serial))
    yield asked("C9", is_node, "DeviceSerialNumber and DeviceUID are not a node's")
    yield asked("C7", text(dataset, "SeriesNumber"), "SeriesNumber is missing")
    is_banner = sop_class_uid == str(GrayscaleSoftcopyPresentationStateStorage)
    name = "PresentationCreation" if is_banner else "Content"
    date, time = text(dataset, f"{name}Date"), text(dataset, f"{name}Time")
    is_whole = re.fullmatch(r"\d{8}", date) and re.fullmatch(r"\d{6}(\.\d{1,6})?", time)
    yield asked("C17", is_whole, f"{name}Date or {name}Time is missing")
    created = text(dataset, "InstanceCreationDate") + text(dataset, "InstanceCreationTime")
    yield asked("C17", not created or created == date + time, "it was created at another time than its content")
    if sop_class_uid in WITH_QUALIFICATION:
        use = text(dataset, "ContentQualification")
        yield asked("C22", use in ("RESEARCH", "PRODUCT"), "ContentQualification is missing")
    if sop_class_uid in IMAGES:
        warned = "not for diagnosis" in text(dataset, "ImageComments").lower()
        yield asked("C24", warned, "ImageComments does not warn against diagnosis")
    if "ContentSequence" in dataset:
        yield from _evidence(dataset)


def series_findings_beside(dataset: Dataset, derived: Dataset) -> Iterator[Finding]:
    """What an object says of itself as the derived images beside it do (C21 to C24)."""
    for rule, keyword in (("C22", "ContentQualification"), ("C23", "SyntheticData")):
        same = text(dataset, keyword) == text(derived, keyword)
        yield asked(rule, same, f"{keyword} is not that of the derived images")
    if "BurnedInAnnotation" in dataset:
        burned = text(dataset, "BurnedInAnnotation")
        is_so = burned == "NO" or (burned == text(derived, "BurnedInAnnotation") == "YES")
        yield asked("C21", is_so, "BurnedInAnnotation is not as in the derived images")


def _evidence(dataset: Dataset) -> Iterator[Finding]:
    """All that a document refers to is listed as its evidence (S5)."""
    content, evidence = Dataset(), Dataset()
    content.ContentSequence = dataset.ContentSequence
    for keyword in EVIDENCE:
        if keyword in dataset:
            evidence[keyword] = dataset[keyword]
    missing = set(references_of(content)) - set(references_of(evidence))
    yield asked("S5", not missing, f"{len(missing)} instances it refers to are not among its evidence")


def subject_findings(elements: Mapping[int, Element], source: SourceImage) -> Iterator[Finding]:
    """Patient and study are the source's, byte for byte (C2).

    elements: of the object, taken before a text of it was read (K1).
    """
    differing = [tag for tag in subject_tags() if not is_same(elements.get(tag), source.elements.get(tag))]
    names = ", ".join(keyword_for_tag(tag) for tag in sorted(differing))
    yield asked("C2", not differing, f"not the source's: {names}")
    said = source.elements.get(0x00080005)
    kept = said is None or not said.value or is_same(elements.get(0x00080005), said)
    yield asked("C28", kept, "SpecificCharacterSet is not the source's")


def reference_findings(references: Mapping[str, str], instances: Mapping[str, FoundInstance]) -> Iterator[Finding]:
    """What is referred to and is here has the class and the study that it is referred to by (C14)."""
    for uid, sop_class_uid in references.items():
        there = instances.get(uid)
        if there is not None:
            yield asked("C14", there.sop_class_uid == sop_class_uid, f"{uid} is referred to under another class")


def companion_references(dataset: Dataset) -> dict[str, str]:
    """SOP Instance UID -> class of every instance the object refers to."""
    return references_of(dataset, passed_over=NOT_INSTANCES)
