"""Every attribute of the objects that stand beside a derived series: segmentations, maps, reports, key objects."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.datadict import keyword_for_tag
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode import iods
from dicomnode.companions import harmonise
from dicomnode.companions.harmonise import MODALITY_OF
from dicomnode.conformance.tables import name_of, table, tag_of
from dicomnode.iod_tables import tables

SEG, PM, SC = str(SegmentationStorage), str(ParametricMapStorage), str(SecondaryCaptureImageStorage)
SR, TEXT = str(Comprehensive3DSRStorage), str(EnhancedSRStorage)
KO, PR = str(KeyObjectSelectionDocumentStorage), str(GrayscaleSoftcopyPresentationStateStorage)
WORDS: Mapping[str, str] = {
    SEG: "`segmentation`: one object for each mask that holds anything, BINARY, one segment",
    PM: "`change_map` (result minus source) and `uncertainty_map` (one standard deviation): 32-bit float",
    SR: "`measurement_report`: TID 1500 Measurement Report",
    TEXT: "`text_report`: TID 2000 Basic Diagnostic Imaging Report",
    SC: "`key_images`: source, result and difference of one slice side by side, RGB, 8 bit",
    KO: "`key_images`: refers to the derived slices shown",
    PR: '`banner`: "not for diagnosis" over the derived images',
}
"""What each is for and the word of `also` in node.toml that asks for it."""

MOMENT = "when the job was made, as in the derived images"
COMMON: Mapping[str, str] = {
    "SOPClassUID": "by the object",
    "SOPInstanceUID": "from deployment, derived series, role and number: the same work gives the same UID",
    "SeriesInstanceUID": "the same; one series for each kind of object",
    "InstanceNumber": "1 to N",
    "SeriesNumber": "1000 x the derived series' + 500 + 10 x time frame + the kind's place; else of a range of its own",
    "SeriesDescription": "the source's where it is ASCII, cut, the pipeline's label, the object's kind and (AI)",
    "SeriesDate": MOMENT,
    "SeriesTime": MOMENT,
    "SpecificCharacterSet": "the source's; where it has none, what the derived images declare",
    "ContributingEquipmentSequence": "as in the derived images",
    "CodingSchemeIdentificationSequence": "as in the derived images",
}
_PIXELS_OF_IMAGES = {
    "Rows": "the derived image's; the picture's for Secondary Capture",
    "Columns": "the derived image's; the picture's for Secondary Capture",
    "SamplesPerPixel": "1; 3 for Secondary Capture",
    "PhotometricInterpretation": "MONOCHROME2; RGB for Secondary Capture",
    "ImageComments": "as in the derived images",
    "SourceImageSequence": "the images it was made of",
    "ReferencedSeriesSequence": "exactly the instances it refers to",
    "BitsAllocated": "1 for Segmentation, 32 for Parametric Map, 8 for Secondary Capture",
    "ImageType": "DERIVED, PRIMARY; of a map also VOLUME, QUANTITY; DERIVED, SECONDARY for Secondary Capture",
}
_FRAMES = {
    "FrameOfReferenceUID": "the source's",
    "NumberOfFrames": "slices that are shown",
    "ContentLabel": "the mask's name, CHANGE or UNCERTAINTY",
    "ContentDescription": "what it shows, in words",
    "ContentCreatorName": "empty",
    "DimensionIndexSequence": "by position, for Segmentation by segment too",
    "DimensionOrganizationSequence": "one organization, its UID from that of the object",
    "DimensionOrganizationType": "3D where the frames are evenly spaced without a gap; else absent",
    "SharedFunctionalGroupsSequence": "pixel measures, orientation and what all frames share",
    "PerFrameFunctionalGroupsSequence": "position of each frame and the images it was made of",
    "LossyImageCompression": "01 where a source image says so, else 00",
    "LossyImageCompressionRatio": "the source's, where it was compressed lossily",
    "LossyImageCompressionMethod": "the source's, where it was compressed lossily",
    "PresentationLUTShape": "IDENTITY",
    "AcquisitionContextSequence": "empty",
}
_STORED_WHOLE = {
    "BitsStored": "BitsAllocated",
    "HighBit": "BitsStored - 1",
    "PixelRepresentation": "0",
    "PixelData": "native",
}
_REPORT = {
    "ValueType": "CONTAINER",
    "ContinuityOfContent": "CONTINUOUS",
    "ConceptNameCodeSequence": "the document's title",
    "ContentTemplateSequence": "the template's number",
    "ContentSequence": "the document's content",
    "CurrentRequestedProcedureEvidenceSequence": "every instance that the document refers to",
    "ReferencedPerformedProcedureStepSequence": "empty",
}
OWN: Mapping[str, Mapping[str, str]] = {
    SEG: _PIXELS_OF_IMAGES
    | _FRAMES
    | _STORED_WHOLE
    | {
        "SegmentationType": "BINARY",
        "SegmentSequence": "one segment: label, category and type, AUTOMATIC, the pipeline as algorithm, tracking UID",
        "SegmentsOverlap": "NO",
        "BurnedInAnnotation": "YES where an image it was made of says YES; else absent",
    },
    PM: _PIXELS_OF_IMAGES
    | _FRAMES
    | {
        "FloatPixelData": "the map's values",
        "BurnedInAnnotation": "NO; a map of images with burned in annotation is not made",
        "RecognizableVisualFeatures": "NO for body parts known to hold no face, else YES",
        "PixelPresentation": "MONOCHROME",
    },
    SC: _PIXELS_OF_IMAGES
    | _STORED_WHOLE
    | {
        "ConversionType": "WSD",
        "PlanarConfiguration": "0",
        "DateOfSecondaryCapture": MOMENT,
        "TimeOfSecondaryCapture": MOMENT,
        "DerivationDescription": "what is shown side by side, by which pipeline, and that it is RESEARCH where it is",
        "PatientOrientation": "that of the slice shown",
        "BurnedInAnnotation": "YES where an image shown says YES; else NO",
        "LossyImageCompression": "01 where a source image says so; else absent",
        "LossyImageCompressionRatio": "the source's, where it was compressed lossily",
        "LossyImageCompressionMethod": "the source's, where it was compressed lossily",
    },
    SR: _REPORT
    | {
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED",
        "PreliminaryFlag": "FINAL",
        "PerformedProcedureCodeSequence": "empty",
    },
    KO: _REPORT,
    PR: {
        "PresentationCreationDate": MOMENT,
        "PresentationCreationTime": MOMENT,
        "ContentLabel": "AI_BANNER",
        "ContentDescription": "what it shows, in words",
        "ContentCreatorName": "empty",
        "ReferencedSeriesSequence": "the derived images",
        "RescaleSlope": "the derived images', where they have one",
        "RescaleIntercept": "the derived images', where they have one",
        "RescaleType": "the derived images', where they have one",
        "SoftcopyVOILUTSequence": "the derived images' window",
        "PresentationLUTShape": "IDENTITY",
        "DisplayedAreaSelectionSequence": "the whole image",
        "GraphicAnnotationSequence": "the banner's text",
        "GraphicLayerSequence": "one layer",
    },
}


def attributes_of(sop_class_uid: str) -> dict[str, str]:
    """Attribute -> how it gets its value, of all that the object may have beside patient and study."""
    said = dict(COMMON)
    said["Modality"] = MODALITY_OF[sop_class_uid]
    said |= dict.fromkeys(map(keyword_for_tag, harmonise.OF_THE_DERIVED), "as in the derived images")
    said |= dict.fromkeys(harmonise.OF_THE_SOURCE, "source")
    if sop_class_uid != PR:
        said |= {"ContentDate": MOMENT, "ContentTime": MOMENT}
    if sop_class_uid in harmonise.WITH_GENERAL_SERIES:
        said |= dict.fromkeys(harmonise.OF_THE_SOURCE_SERIES, "source")
        said["Laterality"] = "the source's; else empty where the body part may have sides"
    if sop_class_uid in harmonise.IMAGES:
        said["ImageLaterality"] = "source"
    if sop_class_uid == SEG:
        del said["Laterality"]
        said["ImageLaterality"] = "the source's Laterality or ImageLaterality"
    if sop_class_uid in harmonise.WITH_FRAME_OF_REFERENCE:
        said["PositionReferenceIndicator"] = "source"
    return {**said, **OWN[SR if sop_class_uid == TEXT else sop_class_uid]}


def subject_keywords() -> list[str]:
    """The attributes of patient and study that every object copies."""
    modules = tables()["modules"]
    found = {keyword for module in harmonise.SUBJECT_MODULES for keyword in modules[module]}
    return sorted((found | iods.EARLIER_EDITIONS) - iods.REMOVED)


def beside_sections() -> str:
    """The section on objects beside a derived series."""
    modules = ", ".join(name.replace("-", " ") for name in harmonise.SUBJECT_MODULES)
    parts = [
        f"Every object copies the modules {modules} from the source, as a derived image does. Beside them:\n",
    ]
    for sop_class_uid, words in WORDS.items():
        parts.append(f"#### {name_of(sop_class_uid)}\n\n{words}.\n")
        rows = [(key, tag_of(key), how) for key, how in attributes_of(sop_class_uid).items()]
        parts.append(table(("attribute", "tag", "how"), sorted(rows, key=lambda row: row[1])))
    return "\n".join(parts)
