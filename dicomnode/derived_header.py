"""The header of a derived image: what is kept of its source, what is made, what must be there and may be empty."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence as DicomSequence

from dicomnode import description, iods, provenance
from dicomnode.iods import SOP_CLASS_OF
from dicomnode.patient_position import orientation_codes, patient_position
from dicomnode.provenance import JobFacts
from dicomnode.source_image import SourceImage, tag_of
from dicomnode.stored_values import StoredSlice
from dicomnode.uids import MANUFACTURER, MODEL_NAME, device_uid
from dicomnode.verbatim import TEXT_VRS, Element, holds_more_than_ascii, made_element
from inference.pipeline import Card

UNCHANGED = "This slice was passed through unchanged."


@dataclass(slots=True)
class Known:
    """Sequences made for an image before; one that says the same in all that they are made of has the same ones."""

    _made: dict[str, tuple[Sequence[Hashable], Element]] = field(default_factory=dict)

    def of(self, keyword: str, said: Sequence[Hashable], make: Callable[[], DicomSequence]) -> Element:
        """The sequence; said: all of the image that it is made of."""
        known = self._made.get(keyword)
        if known is None or known[0] != said:
            known = self._made[keyword] = (said, made_element(tag_of(keyword), make()))
        return known[1]


@dataclass(frozen=True, slots=True, eq=False)
class DerivedSeries:
    """What all instances of a derived series go by.

    stacks: the source images, stack after stack, each in slice order. window: to show values of another unit by.
    is_synthetic: whether the images are made artificially, or of ones that were (C23). character_set: what images of
    sources that name none declare; empty: nothing.
    """

    card: Card
    job: JobFacts
    series_uid: str
    stacks: tuple[tuple[SourceImage, ...], ...]
    window: Mapping[str, str]
    is_synthetic: bool
    character_set: str = ""
    known: Known = field(default_factory=Known)

    @property
    def first(self) -> SourceImage:
        """The image that speaks for the source series."""
        return self.stacks[0][0]

    @property
    def keeps_modality(self) -> bool:
        """Whether the result is the same kind of image as its source."""
        return self.card.modality == self.card.result_modality


@dataclass(frozen=True, slots=True, eq=False)
class DerivedSlice:
    """What one instance goes by.

    sources: the images it was made of, its own first; number, index: its Instance Number and PET Image Index;
    unchanged: whether its values are its source's own; padding: the stored value of what lies outside, if it has one.
    """

    instance_uid: str
    sources: Sequence[SourceImage]
    number: int
    index: int
    slices: int
    stored: StoredSlice
    padding: int | None
    unchanged: bool


def settled_facts(job: JobFacts, images: Sequence[SourceImage]) -> JobFacts:
    """The job's facts as they hold for these images: what is made of an image for research is for research (C22)."""
    is_research = any(image.text("ContentQualification") == "RESEARCH" for image in images)
    return replace(job, content_qualification="RESEARCH") if is_research else job


def is_made_of_synthetic(images: Sequence[SourceImage]) -> bool:
    """Whether one of the source series' images says that it is synthetic: then all that is derived of it is (C23)."""
    return any(image.text("SyntheticData") == "YES" for image in images)


def character_set_to_declare(images: Sequence[SourceImage], card: Card, job: JobFacts) -> str:
    """The admin's character set, when a source without one has bytes to copy that no character set explains (K4)."""
    if not job.declared_character_set:
        return ""
    of_series, of_image = iods.kept_tags(card.modality, card.result_modality)
    copied = of_series | of_image | iods.tags({*iods.CONTRIBUTING_EQUIPMENT, *iods.HISTORY})
    needs = any(
        holds_more_than_ascii([element for tag, element in image.elements.items() if tag in copied])
        for image in images
        if not image.raw("SpecificCharacterSet")
    )
    return job.declared_character_set if needs else ""


def series_elements(series: DerivedSeries, image: SourceImage) -> list[Element]:
    """Patient, study, series, frame of reference, equipment of the image that is derived of `image`.

    What is copied comes of each image's own source, not of the first: its bytes are in its own character set (K1).
    """
    card, job, first = series.card, series.job, series.first
    target = card.result_modality
    date, time = _date_and_time(series)
    made: dict[str, Any] = {
        "SOPClassUID": SOP_CLASS_OF[target],
        "Modality": target,
        "SeriesInstanceUID": series.series_uid,
        "SeriesNumber": description.series_number(first, card, job),
        "SeriesDescription": description.series_description(first, card, job),
        "RelatedSeriesSequence": series.known.of(
            "RelatedSeriesSequence", [], lambda: provenance.related_series(first, card, job)
        ),
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": MODEL_NAME,
        "SoftwareVersions": [job.node_version, f"{card.name} {card.version}"[:64]],
        "DeviceSerialNumber": job.deployment_uuid,
        "DeviceUID": device_uid(job.deployment_uuid),
        "ContentDate": date,
        "ContentTime": time,
        "InstanceCreationDate": date,
        "InstanceCreationTime": time,
        "ContentQualification": job.content_qualification,
    }
    if job.station_name:
        made["StationName"] = job.station_name[:16]
    if job.udi:
        made["UDISequence"] = provenance.device_identifiers(job)
    if series.is_synthetic:
        made["SyntheticData"] = "YES"
    side = description.laterality(image)
    if side is not None:
        made["Laterality"] = side
    if target == "PT":
        made |= _of_pet(series, image)
    else:
        made |= {"SeriesDate": date, "SeriesTime": time, "PatientPosition": patient_position(image)}
    kept, _ = iods.kept_tags(card.modality, target)
    wanted, _ = iods.kept_tags(target, target)
    return _merged(image, kept, wanted, made, left_out=not_copied(image, card.modality, target), target=target)


def image_elements(series: DerivedSeries, one: DerivedSlice) -> list[Element]:
    """What differs from image to image, but for the pixels."""
    card, image, target = series.card, one.sources[0], series.card.result_modality
    kept, wanted = (iods.kept_tags(modality, target)[1] for modality in (card.modality, target))
    made, left_out = _made_for_image(series, one), not_copied(image, card.modality, target)
    if series.character_set and not image.raw("SpecificCharacterSet"):
        made["SpecificCharacterSet"] = series.character_set.split("\\")
    if left_out.issuperset(description.WINDOW):
        made |= series.window
    elements = _merged(image, kept, wanted, made, left_out=left_out, target=target)
    if target == "MR":  # the stored scale is the source's, so is the way back from it (M2)
        elements += _of_the_stored_scale(image)
    if target == "PT":  # Philips' scale factors, the only private elements there are (P6)
        elements += [element for tag, element in image.elements.items() if tag >> 16 == 0x7053]
    return elements


def _made_for_image(series: DerivedSeries, one: DerivedSlice) -> dict[str, Any]:
    """What is said of each image by itself, its pixels among it; history too, as a chain's slices can differ."""
    card, job, image, stored = series.card, series.job, one.sources[0], one.stored
    comments = description.image_comments(card, job)
    made: dict[str, Any] = {
        "SOPInstanceUID": one.instance_uid,
        "InstanceNumber": one.number,
        "ImageType": description.image_type(image, card),
        "ImageComments": f"{UNCHANGED} {comments}" if one.unchanged else comments,
        "ContributingEquipmentSequence": _equipment(series, image),
        "DerivationDescription": provenance.derivation_text(image, card, note=UNCHANGED if one.unchanged else ""),
        "DerivationCodeSequence": _continued(
            series, image, "DerivationCodeSequence", lambda: provenance.derivation_codes(image, card)
        ),
        "CodingSchemeIdentificationSequence": _continued(
            series, image, "CodingSchemeIdentificationSequence", lambda: provenance.coding_schemes(image)
        ),
        "SourceImageSequence": provenance.source_images(one.sources),
        "ReferencedSeriesSequence": provenance.referenced_series(one.sources),
        "BurnedInAnnotation": "YES" if image.text("BurnedInAnnotation") == "YES" else "NO",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": _photometric_interpretation(image, card),
        "BitsAllocated": 16,
        "BitsStored": stored.bits,
        "HighBit": stored.bits - 1,
        "PixelRepresentation": int(stored.is_signed),
        **stored.rescale,
    }
    if card.result_modality == "PT":
        made |= {"NumberOfSlices": one.slices, "ImageIndex": one.index}
    if one.padding is not None:
        (tag,) = iods.tags(["PixelPaddingValue"])
        made["PixelPaddingValue"] = DataElement(tag, "SS" if stored.is_signed else "US", one.padding)
    return made


def _continued(series: DerivedSeries, image: SourceImage, keyword: str, make: Callable[[], DicomSequence]) -> Element:
    """The source's own sequence and what is added to it, which is the same for all images."""
    return series.known.of(keyword, [_said(image, keyword)], make)


def _equipment(series: DerivedSeries, image: SourceImage) -> Element:
    read = ("Manufacturer", "ContributingEquipmentSequence", *sorted(iods.CONTRIBUTING_EQUIPMENT))
    said = [image.texts("ImageType"), image.text("TimezoneOffsetFromUTC"), *(_said(image, keyword) for keyword in read)]
    return series.known.of(
        "ContributingEquipmentSequence",
        said,
        lambda: provenance.contributing_equipment(image, series.card, series.job),
    )


def _said(image: SourceImage, keyword: str) -> Hashable:
    """The bytes of an attribute as received; None where it is absent; of a sequence something like nothing else."""
    element = image.elements.get(tag_of(keyword))
    if element is None:
        return None
    return (element.VR, element.value) if isinstance(element.value, bytes) else object()


def _photometric_interpretation(image: SourceImage, card: Card) -> str:
    # PS3.3 C.7.6.3.1.2: HU and activity are shown bright where they are high; an MR keeps the scale it came with
    return image.text("PhotometricInterpretation") if card.result_modality == "MR" else "MONOCHROME2"


def _date_and_time(series: DerivedSeries) -> tuple[str, str]:
    moment = provenance.local_moment(series.first, series.job.created_at)
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")


def _of_pet(series: DerivedSeries, image: SourceImage) -> dict[str, Any]:
    """What a PET series must say and its source may not."""
    made: dict[str, Any] = {}
    if not image.dataset.get("PatientOrientationCodeSequence"):
        made |= orientation_codes(image.text("PatientPosition"))
    if image.text("SeriesType") == "DYNAMIC" and not image.number("NumberOfTimeSlices"):
        made["NumberOfTimeSlices"] = len(series.stacks)
    if image.text("SeriesType") == "GATED" and not image.text("BeatRejectionFlag"):
        made["BeatRejectionFlag"] = None  # Type 2 of the one module that only a gated PET has
    return made


def not_copied(image: SourceImage, modality: str, target: str) -> frozenset[str]:
    """What a derived image of `target` does not take over as it is, though its source of `modality` may have it."""
    left_out = {"Laterality", "PatientPosition"} | _conditions_not_met(image, target)
    if target != "PT":  # PS3.3 C.7.3.1.1.2: either the position or the codes
        left_out |= {"PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"}
    if modality != target or not description.keeps_window(image):
        left_out |= set(description.WINDOW)
    return frozenset(left_out)


def _of_the_stored_scale(image: SourceImage) -> list[Element]:
    """What senders add to the MR Image object, without what is empty.

    Of slope and intercept both or none (PS3.3 C.11.1): the one that the source does not say changes nothing, and is
    written, or both are left out where neither changes anything.
    """
    kept = {tag: image.elements[tag] for tag in iods.tags(iods.MR_EXTENDED) & image.elements.keys()}
    kept = {tag: element for tag, element in kept.items() if _says_something(element)}
    (slope,), (intercept,) = iods.tags(["RescaleSlope"]), iods.tags(["RescaleIntercept"])
    if (slope in kept) != (intercept in kept):
        if image.number("RescaleSlope") in (None, 1.0) and not image.number("RescaleIntercept"):
            kept.pop(slope, None)
            kept.pop(intercept, None)
        else:
            kept.setdefault(slope, DataElement(slope, "DS", "1"))
            kept.setdefault(intercept, DataElement(intercept, "DS", "0"))
    return [kept[tag] for tag in sorted(kept)]


def _says_something(element: Element) -> bool:
    value = element.value
    return bool(value.strip(b" \0") if isinstance(value, bytes) and element.VR in TEXT_VRS else value)


def _conditions_not_met(image: SourceImage, target: str) -> set[str]:
    """Conditional attributes that the standard forbids here, though senders write them."""
    if target == "PT":
        kind = image.text("SeriesType")
        beats = set() if image.text("BeatRejectionFlag") == "Y" else {"LowRRValue", "HighRRValue"}
        return beats | {keyword for keyword, kinds in iods.PET_CONDITIONS.items() if kind not in kinds}
    needless = set()
    if target == "MR":
        if "IR" not in image.texts("ScanningSequence") and not image.number("InversionTime"):
            needless.add("InversionTime")
        if not image.text("TriggerTime"):
            needless.add("TriggerTime")
    return needless


def _merged(
    image: SourceImage,
    kept: frozenset[int],
    wanted: frozenset[int],
    made: Mapping[str, Any],
    *,
    left_out: frozenset[str],
    target: str,
) -> list[Element]:
    """What is kept of the source and what is made, with the empty attributes that the object wants present."""
    dropped, optional = iods.tags(left_out), iods.optional_tags(target)
    copied = kept - dropped
    elements: dict[int, Element] = {
        tag: element
        for tag, element in image.elements.items()
        if tag in copied and (element.value or tag not in optional)
    }
    for tag in (iods.type_two_tags(target) & wanted) - dropped - elements.keys():
        elements[tag] = made_element(tag, [] if dictionary_VR(tag) == "SQ" else None)
    for keyword, value in made.items():
        tag = tag_of(keyword)
        elements[tag] = value if isinstance(value, Element) else made_element(tag, value)
    return list(elements.values())
