"""Which attributes of a derived image are its source's, byte for byte, and what came of each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode import iods
from dicomnode.derived_header import not_copied
from dicomnode.gate.rules import Finding, asked
from dicomnode.iod_tables import tables
from dicomnode.source_image import SourceImage
from dicomnode.verbatim import Element, content_of

COPIED_MODULES = (
    *("patient", "general-study", "patient-study"),
    *("clinical-trial-subject", "clinical-trial-study", "clinical-trial-series"),
)
"""Whom and which study it is about (C2)."""
OTHERWISE = "C26"
"""The rule that names every copied attribute which no other rule names."""
COPIED: Mapping[str, str] = {
    "C4": "FrameOfReferenceUID PositionReferenceIndicator",
    "C5": "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness Rows Columns SliceLocation "
    "SpacingBetweenSlices",
    "C9": "InstitutionName InstitutionAddress InstitutionalDepartmentName",
    "C18": "AcquisitionDate AcquisitionTime AcquisitionDateTime AcquisitionUID",
    "C19": "TimezoneOffsetFromUTC",
    "C20": "LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod",
    "C29": "RequestAttributesSequence BodyPartExamined AnatomicRegionSequence ProtocolName ImageLaterality",
}
"""Copied for every derived image, whatever its modality."""
COPIED_SAME_MODALITY: Mapping[str, Mapping[str, str]] = {
    "CT": {
        "C18": "AcquisitionNumber IrradiationEventUID",
        "T2": "KVP XRayTubeCurrent ExposureTime Exposure ConvolutionKernel FilterType FocalSpots GantryDetectorTilt "
        "TableHeight RotationDirection DataCollectionDiameter ReconstructionDiameter CTDIvol SpiralPitchFactor "
        "CTDIPhantomTypeCodeSequence ScanOptions",
    },
    "PT": {
        "C18": "AcquisitionNumber IrradiationEventUID",
        "P1": "SeriesDate SeriesTime FrameReferenceTime ActualFrameDuration DecayCorrection DecayFactor",
        "P2": "Units CountsSource SeriesType CorrectedImage RandomsCorrectionMethod AttenuationCorrectionMethod "
        "ScatterCorrectionMethod ReconstructionMethod DoseCalibrationFactor SUVType CollimatorType",
        "P5": "RadiopharmaceuticalInformationSequence",
    },
    "MR": {
        "C18": "AcquisitionNumber IrradiationEventUID",
        "M1": "ScanningSequence SequenceVariant ScanOptions MRAcquisitionType EchoTime EchoTrainLength RepetitionTime "
        "MagneticFieldStrength FlipAngle ReceiveCoilName TemporalPositionIdentifier EchoNumbers SequenceName "
        "InversionTime TriggerTime ImagingFrequency PixelBandwidth DiffusionBValue DiffusionDirectionality "
        "DiffusionGradientOrientation DiffusionBMatrixSequence",
        "M2": "RescaleType PixelRepresentation PhotometricInterpretation",
    },
}
"""Copied where the modality stays: how the image was acquired, its time base, its stored scale."""
SAID_ANEW = frozenset(
    ("Laterality", "PatientPosition", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
)
"""Not copied, but said by rules of their own (C27, C29)."""


@cache
def subject_tags() -> frozenset[int]:
    """The attributes of patient, study and clinical trial, which are the source's in everything that is made of it."""
    of_modules = {keyword for module in COPIED_MODULES for keyword in tables()["modules"][module]}
    found = map(tag_for_keyword, (of_modules | iods.EARLIER_EDITIONS) - iods.REMOVED)
    return frozenset(tag for tag in found if tag is not None)


@cache
def rules_of_copies(source_modality: str, target_modality: str) -> Mapping[int, str]:
    """The tag of each attribute that must be the source's, with the rule that says so."""
    of_series, of_image = iods.kept_tags(source_modality, target_modality)
    rules = dict.fromkeys(of_series | of_image, OTHERWISE)
    same = COPIED_SAME_MODALITY.get(target_modality, {}) if source_modality == target_modality else {}
    stays = iods.tags(iods.MR_EXTENDED | {"PixelRepresentation", "PhotometricInterpretation"}) if same else frozenset()
    for listed in (COPIED, same):
        for rule, keywords in listed.items():
            named = iods.tags(keywords.split())
            rules |= {tag: rule for tag in named if tag in rules or (target_modality == "MR" and tag in stays)}
    (character_set,) = iods.tags(["SpecificCharacterSet"])  # C28 asks for it: an admin may declare one (K4)
    rules.pop(character_set, None)
    return rules | dict.fromkeys(subject_tags(), "C2")


def copy_findings(
    elements: Mapping[int, Element], image: SourceImage, source_modality: str, modality: str
) -> Iterator[Finding]:
    """All that is copied is the source's, and what is left out on purpose is not there.

    elements: of the derived image, taken before a text of it was read (K1).
    """
    rules = rules_of_copies(source_modality, modality)
    left_out = iods.tags(not_copied(image, source_modality, modality))
    said_by_us = iods.tags(SAID_ANEW | _written_where_missing(image, modality))
    for tag in sorted((elements.keys() | image.elements.keys()) & rules.keys() - said_by_us):
        if tag in left_out:
            continue
        if not is_same(elements.get(tag), image.elements.get(tag)):
            yield Finding(rules[tag], False, f"{keyword_for_tag(tag)} is not the source's")
    for tag in sorted(left_out & rules.keys() & elements.keys() - said_by_us):
        yield asked(rules[tag], is_empty(elements[tag]), f"{keyword_for_tag(tag)} does not belong to this image")
    wanted = iods.type_two_tags(modality) & frozenset[int]().union(*iods.kept_tags(modality, modality))
    for tag in sorted(wanted - elements.keys()):
        yield Finding(rules.get(tag, OTHERWISE), False, f"{keyword_for_tag(tag)} is not there, not even empty")
    for rule in sorted(set(rules.values())):
        yield Finding(rule, True, "")


def _written_where_missing(image: SourceImage, modality: str) -> set[str]:
    """What a PET must say, and what its source does not."""
    if modality != "PT":
        return set()
    written = {"BeatRejectionFlag"} if not image.text("BeatRejectionFlag") else set()
    if not image.number("NumberOfTimeSlices"):
        written.add("NumberOfTimeSlices")
    if not image.dataset.get("PatientOrientationCodeSequence"):
        written |= {"PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"}
    return written


def is_same(one: Element | None, other: Element | None) -> bool:
    """Whether two elements hold the same: byte by byte, a number by its value, a sequence item by item.

    An absent and an empty element hold the same. Nothing is decoded.
    """
    if one is None or other is None:
        return is_empty(one) and is_empty(other)
    if isinstance(one, DataElement) and isinstance(other, DataElement) and one.VR == other.VR == "SQ":
        first, second = list(one.value or []), list(other.value or [])
        return len(first) == len(second) and all(is_same_item(*pair) for pair in zip(first, second, strict=True))
    contents = content_of(one), content_of(other)
    if contents[0] == contents[1]:
        return True
    if one.VR in ("DS", "IS") and other.VR in ("DS", "IS"):
        return _numbers(contents[0]) == _numbers(contents[1]) is not None
    return False


def is_same_item(one: Dataset, other: Dataset) -> bool:
    """Whether two items of a sequence hold the same elements."""
    tags = {tag for item in (one, other) for tag in item.keys() if tag.element != 0}  # noqa: SIM118
    return all(is_same(one.get_item(tag), other.get_item(tag)) for tag in tags)


def is_empty(element: Element | None) -> bool:
    """Whether an element says nothing, as if it were not there."""
    if element is None:
        return True
    return not element.value if element.VR == "SQ" else not content_of(element)


def content_in(item: Dataset, keyword: str) -> bytes:
    """The bytes of an attribute of a sequence's item; the item stays as it was received (K1)."""
    tag = tag_for_keyword(keyword)
    return b"" if tag is None else content_of(item.get_item(tag))


def items_of(elements: Mapping[int, Element], keyword: str) -> list[Dataset]:
    """The items of a sequence among elements, as received."""
    tag = tag_for_keyword(keyword)
    element = None if tag is None else elements.get(tag)
    return list(element.value) if isinstance(element, DataElement) and element.VR == "SQ" and element.value else []


def items_in(item: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence inside an item, as received."""
    tag = tag_for_keyword(keyword)
    element = None if tag is None else item.get_item(tag)
    return list(element.value) if isinstance(element, DataElement) and element.VR == "SQ" and element.value else []


def _numbers(content: bytes) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in content.split(b"\\"))
    except ValueError:
        return None
