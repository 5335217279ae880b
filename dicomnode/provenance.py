"""What a derived image says of where it comes from: sources, equipment, processing step, times."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicomnode.iods import CONTRIBUTING_EQUIPMENT, tags
from dicomnode.patient_position import code_item
from dicomnode.source_image import SourceImage, tag_of
from dicomnode.stored_values import SIGNED_16, UNSIGNED_12
from dicomnode.uids import CODING_SCHEME, MANUFACTURER, NODE_VERSION, device_uid
from dicomnode.verbatim import Element, items_element, made_element, raw_element
from inference.pipeline import Card

UNKNOWN = "Unknown"
OFFSET_FORM = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
"""TimezoneOffsetFromUTC that can be: PS3.3 C.12.1.1.1 knows -1200 to +1400."""
ACQUISITION_EQUIPMENT = ("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")
SYNTHESIZING_EQUIPMENT = ("109100", "DCM", "Synthesizing Equipment")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
FOR_ATTENUATION = "122403"
LONGEST_DERIVATION = 1024
LEFT_OUT = "(an earlier description, not in ASCII, is left out)"
SOURCE_SERIES = ("121323", "DCM", "Source series for image processing operation")


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the derived series takes from the job that makes it; the same facts give the same bytes.

    created_at: aware; every date and time we write comes from it. generation: raised when the same work is done anew
    with another result. parameters_sha256: of all settings; empty: made from the card's.
    """

    key: str
    created_at: datetime
    deployment_uuid: str
    generation: int = 1
    content_qualification: str = "RESEARCH"
    parameters_sha256: str = ""
    series_number_offset: int = 9000
    station_name: str = ""
    udi: str = ""
    """Unique Device Identifier of the node, when the admin has one."""
    equipment_purpose: tuple[str, str, str] = PROCESSING_EQUIPMENT
    """Code value, scheme and meaning by which the model is named as contributing equipment (C10)."""
    declared_character_set: str = ""
    """What to declare for a source that has none and holds other than ASCII (K4); empty: nothing."""
    ct_pixels: str = SIGNED_16
    """signed-16, or unsigned-12 for old receivers (T1)."""
    apart: str = ""
    """What sets this stack of the source series apart from its others, e.g. "EchoTime 80"; empty when it is alone."""
    stack: int = 0
    """Which stack of the source series this is, from 0; several stacks of one job get series numbers of their own."""
    inputs: tuple[tuple[str, str, str, str], ...] = ()
    """What was read beside the source: slot, Study and Series Instance UID, SHA-256 of the sorted instances' UIDs."""
    node_version: str = NODE_VERSION

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must be an aware time")
        if self.content_qualification not in ("RESEARCH", "PRODUCT"):
            raise ValueError(f"content_qualification is {self.content_qualification!r}, not RESEARCH or PRODUCT")
        if self.ct_pixels not in (SIGNED_16, UNSIGNED_12):
            raise ValueError(f"ct_pixels is {self.ct_pixels!r}, not {SIGNED_16} or {UNSIGNED_12}")


def parameters_sha256(card: Card, job: JobFacts) -> str:
    """SHA-256 (hex) of the settings the result depends on."""
    if job.parameters_sha256:
        return job.parameters_sha256
    settings = json.dumps([card.method, dict(card.settings)], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(settings.encode()).hexdigest()


def ascii_text(text: str, *, longest: int) -> str:
    """Printable ASCII of at most `longest` characters: what we add must be right in every character set (K1)."""
    kept = "".join(letter for letter in text if " " <= letter <= "~" and letter != "\\")
    return " ".join(kept.split())[:longest].strip()


def ascii_source_text(image: SourceImage, keyword: str) -> str:
    """A text of the source if its bytes are plain ASCII, else nothing: never a misread character."""
    value = b" ".join(image.raw(keyword).split())
    return value.decode("ascii") if all(0x20 <= byte <= 0x7E for byte in value) else ""


def local_moment(image: SourceImage, moment: datetime) -> datetime:
    """The moment in the time zone that the source declares, else in the node's (C19)."""
    offset = _declared_offset(image)
    if not offset:
        return moment.astimezone()
    sign = -1 if offset[0] == "-" else 1
    return moment.astimezone(timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))))


def _declared_offset(image: SourceImage) -> str:
    """TimezoneOffsetFromUTC, empty when the source declares none that any place has."""
    offset = image.text("TimezoneOffsetFromUTC")
    return offset if OFFSET_FORM.fullmatch(offset) else ""


def source_items(image: SourceImage, keyword: str) -> list[Dataset]:
    """The items of a sequence of the source, as received."""
    tag = tag_for_keyword(keyword)
    element = image.elements.get(tag) if tag is not None else None
    return list(element.value) if isinstance(element, DataElement) and element.VR == "SQ" and element.value else []


def contributing_equipment(image: SourceImage, card: Card, job: JobFacts) -> DicomSequence:
    """Who had a hand in the image, first to last: all the source names, the source's equipment, the model (C10)."""
    own = Dataset()
    for tag in sorted(tags(CONTRIBUTING_EQUIPMENT) & image.elements.keys()):
        element = image.elements[tag]
        if element.value:
            own[tag] = element
    own.set_original_encoding(False, True, own._character_set)
    manufacturer = tag_for_keyword("Manufacturer")
    if image.raw("Manufacturer") and manufacturer is not None:
        own[manufacturer] = image.elements[manufacturer]
    else:
        own.Manufacturer = UNKNOWN
    is_original = image.texts("ImageType")[:1] == ("ORIGINAL",)
    own.PurposeOfReferenceCodeSequence = _codes(ACQUISITION_EQUIPMENT if is_original else PROCESSING_EQUIPMENT)
    return DicomSequence([*source_items(image, "ContributingEquipmentSequence"), own, _model(image, card, job)])


def _bytes_of(item: Dataset, keyword: str) -> bytes:
    """A text of an item without decoding it: pydicom replaces the bytes of what it decodes (K1)."""
    tag = tag_for_keyword(keyword)
    element = None if tag is None else item.get_item(tag)
    value = None if element is None else element.value
    return value.strip(b" \0") if isinstance(value, bytes) else str(value or "").encode()


def _model(image: SourceImage, card: Card, job: JobFacts) -> Dataset:
    item = Dataset()
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, ascii_text(card.name, longest=64)
    item.SoftwareVersions = ascii_text(card.version, longest=64)
    item.DeviceUID = device_uid(job.deployment_uuid, card.name, card.version, card.weights_sha256)
    moment = local_moment(image, job.created_at)
    item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S") + _declared_offset(image)
    weights = f"weights sha256 {card.weights_sha256[:16]}" if card.weights_sha256 else "no learned weights"
    settings = json.dumps(dict(card.settings), sort_keys=True, default=str)
    item.ContributionDescription = ascii_text(
        f"method {card.method}; {weights}; parameters sha256 {parameters_sha256(card, job)[:16]}; "
        f"job {job.key[:16]}; settings {settings}",
        longest=1000,
    )
    item.PurposeOfReferenceCodeSequence = _codes(SYNTHESIZING_EQUIPMENT if card.synthetic else job.equipment_purpose)
    return item


def _codes(code: tuple[str, str, str]) -> DicomSequence:
    return DicomSequence([code_item(*code)])


def device_identifiers(job: JobFacts) -> DicomSequence:
    """The node's own Unique Device Identifier (C9)."""
    item = Dataset()
    item.UniqueDeviceIdentifier = job.udi
    return DicomSequence([item])


def derivation_text(image: SourceImage, card: Card, *, note: str = "") -> str:
    """What was done, after what the source says was done before (C12); the earliest is kept where room is short."""
    ours = ascii_text(f"{card.name} {card.version}, method {card.method}: {card.purpose}", longest=400)
    ours = f"{ours.rstrip('.')}. {note}" if note else ours
    said = ascii_source_text(image, "DerivationDescription")
    before = ascii_text(said, longest=LONGEST_DERIVATION - len(ours) - 2)
    if image.raw("DerivationDescription") and not said:
        before = LEFT_OUT
    return f"{before}; {ours}" if before else ours


def derivation_codes(image: SourceImage, card: Card) -> DicomSequence:
    """The processing steps as codes, the source's first: CID 7203 has no term for ours (C12)."""
    ours = code_item(ascii_text(card.token, longest=16), CODING_SCHEME, ascii_text(card.label, longest=64))
    return DicomSequence([*source_items(image, "DerivationCodeSequence"), ours])


def coding_schemes(image: SourceImage) -> DicomSequence:
    """The coding schemes the source declares, and ours, once."""
    ours = Dataset()
    ours.CodingSchemeDesignator, ours.CodingSchemeName = CODING_SCHEME, f"{MANUFACTURER} private codes"
    declared = source_items(image, "CodingSchemeIdentificationSequence")
    others = [item for item in declared if _bytes_of(item, "CodingSchemeDesignator") != CODING_SCHEME.encode()]
    return DicomSequence([*others, ours])


def source_images(images: Sequence[SourceImage]) -> Element:
    """SourceImageSequence: the source images that a derived slice was made of (C13)."""
    return items_element(tag_of("SourceImageSequence"), map(_source_image, images))


def _source_image(image: SourceImage) -> list[Element]:
    frame = [made_element(tag_of("ReferencedFrameNumber"), image.frame)] if image.frame else []
    preserved = made_element(tag_of("SpatialLocationsPreserved"), "YES")
    return [*_reference(image), *frame, preserved, _purpose(SOURCE_IMAGE)]


@cache
def _purpose(code: tuple[str, str, str]) -> Element:
    return made_element(tag_of("PurposeOfReferenceCodeSequence"), _codes(code))


def referenced_series(images: Sequence[SourceImage]) -> Element:
    """ReferencedSeriesSequence: exactly what is referenced, each instance once, under its series (C14)."""
    once = {image.sop_instance_uid: image for image in images}
    instances = items_element(tag_of("ReferencedInstanceSequence"), map(_reference, once.values()))
    series = raw_element(tag_of("SeriesInstanceUID"), "UI", images[0].text("SeriesInstanceUID").encode("ascii"))
    return items_element(tag_of("ReferencedSeriesSequence"), [[series, instances]])


def related_series(image: SourceImage, card: Card, job: JobFacts) -> DicomSequence:
    """The series that was processed, those read beside it, and the CT that corrected a PET for attenuation (C15).

    What was read beside lies on a grid of its own: no slice of it is the source of one of ours, so that the series is
    named as a whole, and SourceImageSequence names the source's slices only. It may be of an earlier study.
    """
    read = [(image.text("StudyInstanceUID"), image.text("SeriesInstanceUID"))]
    read += [(study_uid, series_uid) for _, study_uid, series_uid, _ in job.inputs]
    processed = [_processed_series(*uids) for uids in dict.fromkeys(read)]
    if card.result_modality != "PT":
        return DicomSequence(processed)
    said = source_items(image, "RelatedSeriesSequence")
    return DicomSequence([*processed, *(other for other in said if _corrects_attenuation(other, image))])


def _processed_series(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.SeriesInstanceUID = study_instance_uid, series_instance_uid
    item.PurposeOfReferenceCodeSequence = _codes(SOURCE_SERIES)
    return item


def _corrects_attenuation(related: Dataset, image: SourceImage) -> bool:
    purposes = related.get("PurposeOfReferenceCodeSequence") or []
    return _bytes_of(related, "StudyInstanceUID") == image.text("StudyInstanceUID").encode() and [
        _bytes_of(code, "CodeValue") for code in purposes
    ] == [FOR_ATTENUATION.encode()]


def _reference(image: SourceImage) -> list[Element]:
    uid = image.sop_instance_uid.encode("ascii")
    return [
        made_element(tag_of("ReferencedSOPClassUID"), image.text("SOPClassUID")),
        raw_element(tag_of("ReferencedSOPInstanceUID"), "UI", uid),
    ]
