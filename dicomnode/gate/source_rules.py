"""What must hold of a derived image beside the source image it was made of: what is copied, what is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from dicomnode import iods
from dicomnode.gate.rules import Finding, asked, is_synthesized, items, number, numbers, purposes, text, texts
from dicomnode.iod_tables import tables
from dicomnode.patient_position import patient_position
from dicomnode.provenance import UNKNOWN, ascii_source_text, ascii_text
from dicomnode.source_image import SourceImage
from dicomnode.verbatim import Element, encoded

ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT = ("109101", "DCM"), ("109102", "DCM")
COPIED_MODULES = (
    *("patient", "general-study", "patient-study"),
    *("clinical-trial-subject", "clinical-trial-study", "clinical-trial-series"),
)
"""Whom and which study it is about (C2)."""
COPIED: Mapping[str, str] = {
    "C4": "FrameOfReferenceUID PositionReferenceIndicator",
    "C5": "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness Rows Columns SliceLocation "
    "SpacingBetweenSlices",
    "C9": "InstitutionName",
    "C18": "AcquisitionDate AcquisitionTime AcquisitionDateTime AcquisitionUID",
    "C19": "TimezoneOffsetFromUTC",
    "C29": "RequestAttributesSequence BodyPartExamined AnatomicRegionSequence ProtocolName",
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
        "MagneticFieldStrength FlipAngle ReceiveCoilName TemporalPositionIdentifier EchoNumbers SequenceName",
        "M2": "RescaleSlope RescaleIntercept RescaleType PixelRepresentation PhotometricInterpretation",
    },
}
"""Copied where the modality stays: how the image was acquired, its time base, its stored scale."""
ASKED_OF_ALL = ("C1", "C3", "C7", "C8", "C10", "C11", "C12", "C13", "C14", "C15", "C20", "C21", "C23", "C27", "C28")


def rules_asked_of_source(modality: str) -> tuple[str, ...]:
    """Every rule that a source image is needed for."""
    of_kind = COPIED_SAME_MODALITY.get(modality, {})
    return tuple(sorted({"C2", *ASKED_OF_ALL, *COPIED, *of_kind, *(("P6",) if modality == "PT" else ())}))


@cache
def subject_tags() -> frozenset[int]:
    """The attributes of patient, study and clinical trial, which are the source's in everything that is made of it."""
    of_modules = {keyword for module in COPIED_MODULES for keyword in tables()["modules"][module]}
    found = map(tag_for_keyword, (of_modules | iods.EARLIER_EDITIONS) - iods.REMOVED)
    return frozenset(tag for tag in found if tag is not None)


@cache
def rules_of_copies(source_modality: str, target_modality: str) -> Mapping[int, str]:
    """The tag of each attribute that must be the source's, with the rule that says so."""
    held = {keyword for module in tables()["iods"][target_modality] for keyword in tables()["modules"][module]}
    of_modules = [keyword for module in COPIED_MODULES for keyword in tables()["modules"][module]]
    rules = dict.fromkeys([*of_modules, *iods.EARLIER_EDITIONS], "C2")
    same = COPIED_SAME_MODALITY.get(target_modality, {}) if source_modality == target_modality else {}
    for listed in (COPIED, same):
        for rule, keywords in listed.items():
            rules |= {word: rule for word in keywords.split() if word in held or rule == "M2"}
    found = {tag_for_keyword(keyword): rule for keyword, rule in rules.items() if keyword not in iods.REMOVED}
    return dict.fromkeys(subject_tags(), "C2") | {tag: rule for tag, rule in found.items() if tag is not None}


def source_findings(dataset: Dataset, elements: Mapping[int, Element], image: SourceImage) -> Iterator[Finding]:
    """What must be the source's is, and what must not be is not.

    elements: of the derived image, taken before a text of `dataset` was read (K1).
    """
    source_modality, modality = _modality_of(image), text(dataset, "Modality")
    if source_modality not in iods.SOP_CLASS_OF or modality not in iods.SOP_CLASS_OF:
        yield Finding("C1", False, "source or derived image is neither CT, PET nor MR")
        return
    yield asked("C1", modality in (source_modality, "CT"), f"a {modality} image cannot be made of {source_modality}")
    for tag, rule in rules_of_copies(source_modality, modality).items():
        if not is_same(elements.get(tag), image.elements.get(tag)):
            yield Finding(rule, False, f"{keyword_for_tag(tag)} is not the source's")
    for rule in sorted(set(rules_of_copies(source_modality, modality).values())):
        yield Finding(rule, True, "")
    yield asked("C28", _character_set_is_kept(elements, image), "SpecificCharacterSet is not the source's")
    yield from _identity(dataset, image)
    yield from _history(dataset, image, source_modality)
    yield from _words(dataset, image, source_modality)
    if modality == "PT":
        private = [tag for tag in image.elements if tag >> 16 == 0x7053]
        kept = all(is_same(elements.get(tag), image.elements[tag]) for tag in private)
        yield asked("P6", kept, "the private scale factors of Philips PET are not the source's")


def _modality_of(image: SourceImage) -> str:
    return iods.MODALITY_OF.get(image.image_class_uid, "")


def is_same(one: Element | None, other: Element | None) -> bool:
    """Whether two elements hold the same: byte by byte, a number by its value, a sequence item by item.

    An absent and an empty element hold the same.
    """
    if one is None or other is None:
        return _is_empty(one) and _is_empty(other)
    if isinstance(one, DataElement) and isinstance(other, DataElement) and one.VR == other.VR == "SQ":
        first, second = list(one.value or []), list(other.value or [])
        return len(first) == len(second) and all(_same_item(*pair) for pair in zip(first, second, strict=True))
    contents = _content(one), _content(other)
    if contents[0] == contents[1]:
        return True
    if one.VR in ("DS", "IS") and other.VR in ("DS", "IS"):
        return _numbers(contents[0]) == _numbers(contents[1]) is not None
    return False


def _is_empty(element: Element | None) -> bool:
    if element is None:
        return True
    return not element.value if element.VR == "SQ" else not _content(element)


def _same_item(one: Dataset, other: Dataset) -> bool:
    tags = {tag for item in (one, other) for tag in item.keys() if tag.element != 0}  # noqa: SIM118
    return all(is_same(one.get_item(tag), other.get_item(tag)) for tag in tags)


def _content(element: Element) -> bytes:
    """An element's bytes as Explicit VR Little Endian without padding, in whatever form it was received."""
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        return element.value.strip(b" \0")
    return encoded([element])[int(element.tag)][8:].strip(b" \0")


def _numbers(content: bytes) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in content.split(b"\\"))
    except ValueError:
        return None


def _character_set_is_kept(elements: Mapping[int, Element], image: SourceImage) -> bool:
    """The source's, or one that the admin declares where the source says none (K4)."""
    (tag,) = iods.tags(["SpecificCharacterSet"])
    said = image.elements.get(tag)
    return _is_empty(said) or is_same(elements.get(tag), said)


def _identity(dataset: Dataset, image: SourceImage) -> Iterator[Finding]:
    """New UIDs, and references that lead to this very image."""
    series = image.text("SeriesInstanceUID")
    yield asked("C3", text(dataset, "SeriesInstanceUID") != series, "the series UID is the source's")
    yield asked("C3", text(dataset, "SOPInstanceUID") != image.sop_instance_uid, "the instance UID is the source's")
    own = next(iter(items(dataset, "SourceImageSequence")), Dataset())
    is_own = text(own, "ReferencedSOPInstanceUID") == image.sop_instance_uid
    yield asked("C13", is_own, "the first source image is not the slice's own")
    same_class = text(own, "ReferencedSOPClassUID") == image.text("SOPClassUID")
    yield asked("C13", same_class, "the source image is referenced under another class")
    frames = (str(image.frame),) if image.frame else ()
    yield asked("C13", texts(own, "ReferencedFrameNumber") == frames, "the frame of the source is not the slice's own")
    listed = {
        text(item, "ReferencedSOPInstanceUID"): text(one, "SeriesInstanceUID")
        for one in items(dataset, "ReferencedSeriesSequence")
        for item in items(one, "ReferencedInstanceSequence")
    }
    yield asked("C14", listed.get(image.sop_instance_uid) == series, "the source is not listed under its series")
    related = {text(item, "SeriesInstanceUID") for item in items(dataset, "RelatedSeriesSequence")}
    yield asked("C15", series in related, "RelatedSeriesSequence does not name the source's series")


def _history(dataset: Dataset, image: SourceImage, source_modality: str) -> Iterator[Finding]:
    """What was done before stays said (C10 to C12, C20, C23)."""
    named, before = (
        items(dataset, "ContributingEquipmentSequence"),
        _source_items(image, "ContributingEquipmentSequence"),
    )
    is_kept = len(named) == len(before) + 2 and all(
        text(one, "Manufacturer") == text(other, "Manufacturer") and purposes(one) == purposes(other)
        for one, other in zip(named[:-2], before, strict=True)
    )
    yield asked("C10", is_kept, "the source's contributing equipment is not there as it was")
    if is_kept:
        scanner, maker = named[-2], image.raw("Manufacturer") or UNKNOWN.encode()
        # Compared where it reads the same in every character set; C28 and the verbatim copy answer for the rest.
        stated = [value.strip() for value in maker.decode("latin-1").split("\\")]
        is_its = not maker.isascii() or list(texts(scanner, "Manufacturer")) == stated
        yield asked("C10", is_its, "the contributing equipment before the model is not the source's")
        is_original = image.texts("ImageType")[:1] == ("ORIGINAL",)
        expected = {ACQUISITION_EQUIPMENT if is_original else PROCESSING_EQUIPMENT}
        yield asked("C10", purposes(scanner) == expected, "the source's equipment has another purpose")
    kind, kind_before = texts(dataset, "ImageType"), image.texts("ImageType")
    same_modality = source_modality == text(dataset, "Modality")
    if same_modality and kind_before[:1] == ("DERIVED",):
        first = {"CT": 4}.get(source_modality, 3)
        lost = [token for token in kind_before[first:] if token and token not in kind[first:]]
        yield asked("C11", not lost, "ImageType lost the steps that were done before")
    if source_modality == "MR" and same_modality and len(kind_before) > 2 and kind_before[2]:
        yield asked("C11", kind[2:3] == kind_before[2:3], "the third value of ImageType is not the source's")
    steps = [_code(item) for item in items(dataset, "DerivationCodeSequence")]
    steps_before = [_code(item) for item in _source_items(image, "DerivationCodeSequence")]
    yield asked("C12", steps[: len(steps_before)] == steps_before, "the derivation codes of earlier steps were lost")
    if image.text("LossyImageCompression") == "01":
        yield asked("C20", text(dataset, "LossyImageCompression") == "01", "lossy history was lost")
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            kept = texts(dataset, keyword)[: len(image.texts(keyword))] == image.texts(keyword)
            yield asked("C20", kept, f"{keyword} is not the source's")
    artificial = image.text("SyntheticData") == "YES" or not same_modality or is_synthesized(dataset)
    is_said = text(dataset, "SyntheticData") == "YES"
    yield asked("C23", is_said or not artificial, "a synthetic image does not say so")
    yield asked("C23", artificial or not is_said, "an image of acquired data says that it is synthetic")


def _source_items(image: SourceImage, keyword: str) -> list[Dataset]:
    tag = tag_for_keyword(keyword)
    element = image.elements.get(tag) if tag is not None else None
    return list(element.value) if isinstance(element, DataElement) and element.VR == "SQ" and element.value else []


def _code(item: Dataset) -> tuple[str, str]:
    return text(item, "CodeValue"), text(item, "CodingSchemeDesignator")


def _words(dataset: Dataset, image: SourceImage, source_modality: str) -> Iterator[Finding]:
    """Numbers, words and windows that follow from the source's."""
    before = image.number("SeriesNumber")
    is_new = before is None or number(dataset, "SeriesNumber") != before
    yield asked("C7", is_new, "SeriesNumber is the source's")
    head = ascii_text(ascii_source_text(image, "SeriesDescription"), longest=13).strip()
    yield asked("C8", text(dataset, "SeriesDescription").startswith(head), "SeriesDescription lost the source's words")
    is_burned = image.text("BurnedInAnnotation") == "YES"
    yield asked(
        "C21", (text(dataset, "BurnedInAnnotation") == "YES") == is_burned, "BurnedInAnnotation is not as it was"
    )
    side = image.text("Laterality")
    yield asked("C29", text(dataset, "Laterality") == side, "Laterality is not the source's")
    modality = text(dataset, "Modality")
    if modality != "PT":
        same = text(dataset, "PatientPosition") == patient_position(image)
        yield asked("C29", same, "PatientPosition is not the source's")
    centers, widths = image.numbers("WindowCenter"), image.numbers("WindowWidth")
    if source_modality == modality and widths and len(centers) == len(widths) and min(widths) >= 1:
        kept = (numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")) == (centers, widths)
        yield asked("C27", kept, "the window is not the source's")
    if modality == "CT" != source_modality:
        yield asked("C27", numbers(dataset, "WindowWidth"), "a synthetic CT has no window")
        for keyword in ("IrradiationEventUID", "AcquisitionNumber"):
            yield asked("C18", not text(dataset, keyword), f"{keyword} is of another modality's acquisition")
