"""What highdicom built, as an instance of the source's study: patient, study, equipment, times, UIDs, file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode import iods, provenance
from dicomnode.companions.derivation import Derivation
from dicomnode.companions.pixel_element import PIXELS, Pixels
from dicomnode.companions.references import check_references, check_texts, references_of, settle_uids
from dicomnode.derived_instance import DerivedInstance
from dicomnode.description import image_comments, laterality, series_number_beside
from dicomnode.errors import OutputFault
from dicomnode.iod_tables import tables
from dicomnode.source_image import SourceImage
from dicomnode.verbatim import Element, encoded, part10_file, verbatim_elements

MASK, CHANGE_MAP, UNCERTAINTY_MAP = "mask", "change-map", "uncertainty-map"
REPORT, TEXT_REPORT, KEY_IMAGE, KEY_SELECTION, BANNER = "report", "text-report", "key-image", "key-selection", "banner"
ROLES = (MASK, CHANGE_MAP, UNCERTAINTY_MAP, REPORT, TEXT_REPORT, KEY_IMAGE, KEY_SELECTION, BANNER)
"""The series that may stand beside a derived one, in the order of their numbers; a new one goes to the end."""

MODALITY_OF: Mapping[str, str] = {
    SegmentationStorage: "SEG",
    ParametricMapStorage: "OT",
    Comprehensive3DSRStorage: "SR",
    EnhancedSRStorage: "SR",
    SecondaryCaptureImageStorage: "OT",
    KeyObjectSelectionDocumentStorage: "KO",
    GrayscaleSoftcopyPresentationStateStorage: "PR",
}
IMAGES = frozenset({SegmentationStorage, ParametricMapStorage, SecondaryCaptureImageStorage})
WITH_FRAME_OF_REFERENCE = frozenset({SegmentationStorage, ParametricMapStorage})
WITH_GENERAL_SERIES = IMAGES | {GrayscaleSoftcopyPresentationStateStorage}

SUBJECT_MODULES = (
    "patient",
    "clinical-trial-subject",
    "general-study",
    "patient-study",
    "clinical-trial-study",
    "clinical-trial-series",
)
"""Whom and which study it is about: byte for byte the source's in every object (C2, S4)."""


def _tags(keywords: str) -> frozenset[int]:
    return iods.tags(keywords.split())


NEUTRAL_COPIES = _tags(
    """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType SeriesNumber
    InstanceNumber NumberOfFrames Rows Columns PixelSpacing SliceThickness SpacingBetweenSlices SliceLocation
    ImagePositionPatient ImageOrientationPatient SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored
    HighBit PixelRepresentation RescaleSlope RescaleIntercept LossyImageCompression LossyImageCompressionRatio
    LossyImageCompressionMethod"""
)
NEUTRAL_TEXTS = {
    "PatientName": "Neutral^Neutral",
    "PatientID": "NEUTRAL",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "StudyID": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
}
"""What highdicom wants to see of patient and study; `harmonise` puts the source's own in its place."""

OF_THE_DERIVED = _tags(
    """Manufacturer ManufacturerModelName SoftwareVersions DeviceSerialNumber DeviceUID StationName UDISequence
    InstanceCreationDate InstanceCreationTime ContentQualification SyntheticData"""
)
"""What the node says of itself and of the job, as it said it in the derived images: ASCII."""

OF_THE_SOURCE = ("TimezoneOffsetFromUTC", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName")
OF_THE_SOURCE_SERIES = ("BodyPartExamined", "RequestAttributesSequence")
HISTORY = ("ContributingEquipmentSequence", "CodingSchemeIdentificationSequence")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
LONGEST_DESCRIPTION = 64


def neutral_dataset(image: SourceImage) -> Dataset:
    """A header of the image that highdicom takes whatever the character set: places and UIDs, no text (K3)."""
    return _neutral(image.dataset)


def neutral_derived(dataset: Dataset) -> Dataset:
    """The same of a derived image's header."""
    return _neutral(dataset)


def _neutral(dataset: Dataset) -> Dataset:
    neutral = Dataset()
    for tag in sorted(NEUTRAL_COPIES):
        if tag in dataset:
            neutral[tag] = deepcopy(dataset.get_item(tag))
    for keyword, value in NEUTRAL_TEXTS.items():
        setattr(neutral, keyword, value)
    return neutral


def harmonise(
    made: Dataset,
    derivation: Derivation,
    *,
    role: str,
    description: str,
    number: int = 1,
    companions: Sequence[DerivedInstance] = (),
    pixels: Pixels | None = None,
) -> DerivedInstance:
    """The object, built over neutral headers, as the number-th instance of its role's series; `made` is used up.

    `description` ends the Series Description. `companions`: the other objects of the job that it refers to. `pixels`:
    those that the file gets in place of its own. The same object gives the same bytes, also where highdicom put random
    UIDs. Raises OutputFault when the object would not be the source's patient and study, or refers to what it was not
    made of.
    """
    series_uid, instance_uid = derivation.series_uid(role), derivation.instance_uid(role, number=number)
    sop_class_uid = str(made.SOPClassUID)
    if made.get("Modality") != MODALITY_OF.get(sop_class_uid):
        raise OutputFault("C1", f"an object of class {sop_class_uid} has Modality {made.get('Modality')!r}")
    _forget_what_highdicom_says(made)
    said = {"SOPInstanceUID": instance_uid, "SeriesInstanceUID": series_uid, "InstanceNumber": number}
    said |= _said_of_every_object(derivation, sop_class_uid, role=role, words=description)
    if sop_class_uid in IMAGES and references_of(made) & burned_in(derivation):
        said["BurnedInAnnotation"] = "YES"  # what stands in the pixels of an image may stand in what it was made to
    for keyword, value in said.items():
        setattr(made, keyword, value)
    settle_uids(made, derivation)
    check_references(made, derivation, companions)
    check_texts(made)
    if pixels is not None:
        for tag in iods.tags(PIXELS) & set(made.keys()):
            del made[tag]
    correct_ambiguous_vr(made, True)
    elements = encoded(made) | encoded(_of_the_source(derivation, sop_class_uid))
    head = part10_file(elements, sop_class_uid=sop_class_uid, sop_instance_uid=instance_uid)
    _check_subject(head, derivation)
    content = head if pixels is None else pixels.behind(head)
    return DerivedInstance(instance_uid, series_uid, sop_class_uid, str(ExplicitVRLittleEndian), content)


def _forget_what_highdicom_says(made: Dataset) -> None:
    """Takes away the neutral patient and study, private elements, and highdicom's word on the equipment."""
    taken = _subject_tags() | OF_THE_DERIVED | iods.tags(["SpecificCharacterSet", *HISTORY])
    for tag in [tag for tag in list(made.keys()) if tag in taken]:
        del made[tag]
    made.remove_private_tags()


@cache
def _subject_tags() -> frozenset[int]:
    modules = tables()["modules"]
    keywords = {keyword for module in SUBJECT_MODULES for keyword in modules[module]} | iods.EARLIER_EDITIONS
    found = map(tag_for_keyword, keywords - iods.REMOVED)
    return frozenset(tag for tag in found if tag is not None)


def _said_of_every_object(derivation: Derivation, sop_class_uid: str, *, role: str, words: str) -> dict[str, Any]:
    """What the node says: of the series, of itself, of the job's time."""
    first, job = derivation.images[0], derivation.job
    moment = provenance.local_moment(first, job.created_at)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    header = derivation.derived[0]
    said: dict[str, Any] = {keyword_for_tag(tag): header[tag].value for tag in OF_THE_DERIVED if tag in header}
    said |= {
        "SeriesNumber": series_number(derivation, role),
        "SeriesDescription": series_description(derivation, words),
        "SeriesDate": date,
        "SeriesTime": time,
    }
    if sop_class_uid == GrayscaleSoftcopyPresentationStateStorage:
        said |= {"PresentationCreationDate": date, "PresentationCreationTime": time}
    else:
        said |= {"ContentDate": date, "ContentTime": time}
    if sop_class_uid in WITH_GENERAL_SERIES:
        said |= _side(first, sop_class_uid)
    if sop_class_uid in IMAGES:
        said["ImageComments"] = image_comments(
            derivation.card, replace(job, content_qualification=derivation.content_qualification)
        )
    return said


def burned_in(derivation: Derivation) -> set[str]:
    """The source and derived images that say that something identifying may stand in their pixels (C21)."""
    sources = {i.sop_instance_uid for i in derivation.images if i.text("BurnedInAnnotation") == "YES"}
    return sources | {str(h.SOPInstanceUID) for h in derivation.derived if h.get("BurnedInAnnotation") == "YES"}


def _side(first: SourceImage, sop_class_uid: str) -> dict[str, str]:
    """Which side of the body it is of (S2)."""
    side = laterality(first)
    if sop_class_uid == SegmentationStorage:  # dciodvfy forbids Laterality there, even of a paired part
        return {"ImageLaterality": side} if side else {}
    if side is None and sop_class_uid not in IMAGES and not iods.is_unpaired(first.text("BodyPartExamined")):
        of_image = first.text("ImageLaterality")
        side = of_image if of_image in ("L", "R") else ""
    return {} if side is None else {"Laterality": side}


def series_number(derivation: Derivation, role: str) -> int:
    """A number that no other series of the job has, whichever stack, time frame and role it is of (C7)."""
    return series_number_beside(
        derivation.images[0], derivation.card, derivation.job, frame=derivation.part, place=ROLES.index(role)
    )


def series_description(derivation: Derivation, words: str) -> str:
    """The source's words and the pipeline's, cut, and the object's (C8)."""
    tail = f"{words} (AI)"
    label = provenance.ascii_text(derivation.card.label, longest=LONGEST_DESCRIPTION - 1 - len(tail))
    tail = f"{label} {tail}"
    source = provenance.ascii_source_text(derivation.images[0], "SeriesDescription")
    head = provenance.ascii_text(source, longest=max(LONGEST_DESCRIPTION - 1 - len(tail), 0))
    return f"{head} {tail}".strip()


def _of_the_source(derivation: Derivation, sop_class_uid: str) -> list[Element]:
    """What every object keeps of the source byte for byte, and the history that begins with the source's."""
    first = derivation.images[0]
    wanted = set(_subject_tags() | iods.tags(OF_THE_SOURCE))
    if sop_class_uid in WITH_GENERAL_SERIES:
        wanted |= iods.tags(OF_THE_SOURCE_SERIES)
    if sop_class_uid in IMAGES:
        wanted |= iods.tags(["ImageLaterality"])
    if sop_class_uid in WITH_FRAME_OF_REFERENCE:
        wanted |= iods.tags(["PositionReferenceIndicator"])
    optional = iods.optional_tags(derivation.card.modality)
    elements = {
        tag: element
        for tag, element in first.elements.items()
        if tag in wanted and (element.value or tag not in optional)
    }
    for tag in iods.tags(NEUTRAL_TEXTS) - elements.keys():
        elements[tag] = DataElement(tag, dictionary_VR(tag), None)
    if sop_class_uid in IMAGES:
        elements |= _lossy_history(derivation.images)
    return [*elements.values(), *_character_set(derivation), *_history(derivation)]


def _character_set(derivation: Derivation) -> list[Element]:
    """The source's SpecificCharacterSet; where it has none, what the derived images declare (K1, K4)."""
    (tag,) = iods.tags(["SpecificCharacterSet"])
    own = derivation.images[0].elements.get(tag)
    declared = own if own is not None and own.value else derivation.derived[0].get_item(tag)
    return [declared] if declared is not None and declared.value else []


def _lossy_history(images: Sequence[SourceImage]) -> dict[int, Element]:
    """That pixels were compressed lossily once is said of all that is made of them (C20)."""
    lossy = next((image for image in images if image.text("LossyImageCompression") == "01"), None)
    return {} if lossy is None else {tag: lossy.elements[tag] for tag in iods.tags(LOSSY) if tag in lossy.elements}


def _history(derivation: Derivation) -> list[Element]:
    first, card, job = derivation.images[0], derivation.card, derivation.job
    equipment = provenance.contributing_equipment(first, card, job)
    values = (equipment, provenance.coding_schemes(first))
    return [
        DataElement(tag, "SQ", value)
        for keyword, value in zip(HISTORY, values, strict=True)
        for tag in iods.tags([keyword])
    ]


def _check_subject(content: bytes, derivation: Derivation) -> None:
    """The finished file is of the source's patient and study, and says no other class than its head."""
    wanted = [*_subject_tags(), *iods.tags(["SOPClassUID", "SOPInstanceUID"])]
    dataset = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=wanted)
    meta = dataset.file_meta
    found = verbatim_elements(dataset)
    source = derivation.images[0].elements
    tags = [tag for tag in _subject_tags() if source.get(tag) is not None and source[tag].value]
    ours, theirs = encoded(found[tag] for tag in tags if tag in found), encoded(source[tag] for tag in tags)
    differing = sorted(tag for tag in tags if ours.get(tag) != theirs[tag])
    if differing:
        names = ", ".join(keyword_for_tag(tag) for tag in differing)
        raise OutputFault("C2", f"patient or study would not be the source's: {names}")
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (dataset.SOPClassUID, dataset.SOPInstanceUID):
        raise OutputFault("C1", "the file's head names another object than the file holds")
