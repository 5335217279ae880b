"""What must hold of the header of every derived image by itself, whatever its modality."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from dicomnode import iods
from dicomnode.gate.rules import (
    Finding,
    asked,
    is_synthesized,
    items,
    model_item,
    number,
    numbers,
    purposes,
    text,
    texts,
)
from dicomnode.iod_tables import tables
from dicomnode.uids import (
    CODING_SCHEME,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MANUFACTURER,
    MODEL_NAME,
    derived_instance_uid,
    device_uid,
)

UID_FORM = re.compile(r"\d+(\.\d+)+")
"""As senders write them: some have components with leading zeros, and a study keeps its UID whatever it is."""
UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SOURCE_IMAGE, SOURCE_SERIES, FOR_ATTENUATION = "121322", "121323", "122403"
ADDED_TEXTS = ("ImageComments", "DerivationDescription", "Manufacturer", "ManufacturerModelName", "SoftwareVersions")
FORBIDDEN = iods.tags(
    iods.REMOVED - iods.MADE - {"PixelPaddingValue", "PixelPaddingRangeLimit", "UDISequence", "ReferencedImageSequence"}
)
"""True of the source's pixels or file only; padding and the node's own UDI may be written anew (C25)."""


def file_findings(dataset: Dataset) -> Iterator[Finding]:
    """The file meta group (C1), and that we wrote it (U6): asked of a file that no other program wrote again."""
    meta = dataset.file_meta
    same_class = meta.get("MediaStorageSOPClassUID") == dataset.get("SOPClassUID")
    yield asked("C1", same_class, "file meta and data set name other classes")
    same = meta.get("MediaStorageSOPInstanceUID") == dataset.get("SOPInstanceUID")
    yield asked("C1", same, "file meta names another instance")
    yield asked("U6", meta.get("ImplementationClassUID") == IMPLEMENTATION_CLASS_UID, "the implementation is not ours")
    version = meta.get("ImplementationVersionName")
    yield asked("U6", version == IMPLEMENTATION_VERSION_NAME, "the implementation's version name is not ours")


def image_findings(dataset: Dataset) -> Iterator[Finding]:
    """What every derived image must say, whatever its modality."""
    for rule in IMAGE_RULES:
        yield from rule(dataset)


def uid_finding(dataset: Dataset) -> Finding:
    """The UID is the one that node, series and source image give; asked when these were found right (U2)."""
    source = next(iter(items(dataset, "SourceImageSequence")), Dataset())
    deployment, frame = text(dataset, "DeviceSerialNumber"), text(source, "ReferencedFrameNumber")
    if UUID_FORM.fullmatch(deployment) is None:
        return Finding("U2", False, "SOPInstanceUID cannot be made again without the node's DeviceSerialNumber")
    expected = derived_instance_uid(
        deployment,
        series_instance_uid=text(dataset, "SeriesInstanceUID"),
        source_sop_instance_uid=text(source, "ReferencedSOPInstanceUID"),
        frame=int(frame) if frame.isdigit() else 0,
    )
    is_ours = text(dataset, "SOPInstanceUID") == expected
    return asked("U2", is_ours, "SOPInstanceUID is not the one that series and source image give")


def _identity(dataset: Dataset) -> Iterator[Finding]:
    modality = text(dataset, "Modality")
    known = iods.MODALITY_OF.get(text(dataset, "SOPClassUID"))
    yield asked("C1", known is not None and known == modality, "Modality and SOP Class disagree")
    own, series, study = (text(dataset, f"{name}InstanceUID") for name in ("SOP", "Series", "Study"))
    for keyword, uid in (("SOPInstanceUID", own), ("SeriesInstanceUID", series)):
        yield asked("U1", _is_uid(uid) and uid.startswith("2.25."), f"{keyword} is not one that the node makes")
    yield asked("C2", _is_uid(study), "StudyInstanceUID is missing or not a UID")
    yield asked("C3", len({own, series, study}) == 3, "instance, series and study do not have a UID each")


def _is_uid(uid: str) -> bool:
    return len(uid) <= 64 and UID_FORM.fullmatch(uid) is not None


def _geometry(dataset: Dataset) -> Iterator[Finding]:
    position, orientation = numbers(dataset, "ImagePositionPatient"), numbers(dataset, "ImageOrientationPatient")
    spacing = numbers(dataset, "PixelSpacing")
    yield asked("C4", _is_uid(text(dataset, "FrameOfReferenceUID")), "FrameOfReferenceUID is missing or not a UID")
    yield asked("C5", len(position) == 3, "ImagePositionPatient is missing")
    yield asked("C5", len(orientation) == 6, "ImageOrientationPatient is missing")
    if len(orientation) == 6:
        row, column = orientation[:3], orientation[3:]
        lengths = [sum(value**2 for value in axis) for axis in (row, column)]
        across = sum(one * other for one, other in zip(row, column, strict=True))
        is_right = all(abs(length - 1) < 0.03 for length in lengths) and abs(across) < 1e-2
        yield asked("C5", is_right, "ImageOrientationPatient is not two perpendicular unit vectors")
    yield asked("C5", len(spacing) == 2 and min(spacing, default=0) > 0, "PixelSpacing is missing or not positive")
    is_sized = (number(dataset, "Rows") or 0) > 0 and (number(dataset, "Columns") or 0) > 0
    yield asked("C5", is_sized, "Rows or Columns is missing")


def _numbers_and_words(dataset: Dataset) -> Iterator[Finding]:
    yield asked("C6", number(dataset, "InstanceNumber") is not None, "InstanceNumber is missing")
    yield asked("C7", (number(dataset, "SeriesNumber") or 0) > 0, "SeriesNumber is missing")
    description = text(dataset, "SeriesDescription")
    says_so = description.endswith("(AI)") and len(description) <= 64 and description.isascii()
    yield asked("C8", says_so, "SeriesDescription does not end with (AI), or is too long, or not ASCII")
    for keyword in ADDED_TEXTS:
        yield asked(
            "K1", all(value.isascii() for value in texts(dataset, keyword)), f"{keyword} holds other than ASCII"
        )


def _equipment(dataset: Dataset) -> Iterator[Finding]:
    yield asked("C9", text(dataset, "Manufacturer") == MANUFACTURER, "Manufacturer is not the node's")
    yield asked("C9", text(dataset, "ManufacturerModelName") == MODEL_NAME, "ManufacturerModelName is not the node's")
    yield asked("C9", len(texts(dataset, "SoftwareVersions")) == 2, "SoftwareVersions does not name node and pipeline")
    serial = text(dataset, "DeviceSerialNumber")
    is_node = UUID_FORM.fullmatch(serial) is not None and text(dataset, "DeviceUID") == device_uid(serial)
    yield asked("C9", is_node, "DeviceSerialNumber and DeviceUID are not a node's")
    named = items(dataset, "ContributingEquipmentSequence")
    model = model_item(dataset)
    yield asked("C10", len(named) >= 2 and model is not None, "scanner and model are not both contributing equipment")
    for item in named[-2:]:
        stated = purposes(item)
        yield asked("C10", text(item, "Manufacturer"), "contributing equipment without Manufacturer")
        yield asked("C10", stated and stated <= iods.EQUIPMENT_PURPOSES, "equipment with an unknown purpose")
    if model is not None:
        for keyword in ("ManufacturerModelName", "SoftwareVersions", "DeviceUID", "ContributionDescription"):
            yield asked("C10", texts(model, keyword), f"the model's {keyword} is missing")
        is_settled = not is_synthesized(dataset) or text(dataset, "SyntheticData") == "YES"
        yield asked("C23", is_settled, "the model synthesized the image, which does not say SyntheticData")


def _derivation(dataset: Dataset) -> Iterator[Finding]:
    yield asked("C11", text(dataset, "ImageType") == "DERIVED", "ImageType is not DERIVED")
    yield asked("C12", text(dataset, "DerivationDescription"), "DerivationDescription is missing")
    steps = items(dataset, "DerivationCodeSequence")
    is_ours = bool(steps) and text(steps[-1], "CodingSchemeDesignator") == CODING_SCHEME
    yield asked("C12", is_ours and text(steps[-1], "CodeValue"), "the last derivation code is not ours")
    schemes = items(dataset, "CodingSchemeIdentificationSequence")
    has_scheme = any(text(scheme, "CodingSchemeDesignator") == CODING_SCHEME for scheme in schemes)
    yield asked("C12", has_scheme, "CodingSchemeIdentificationSequence does not name our coding scheme")


def _references(dataset: Dataset) -> Iterator[Finding]:
    """Sources are named, and the series that are listed hold exactly them (C13 to C15)."""
    sources = items(dataset, "SourceImageSequence")
    yield asked("C13", sources, "no source image is named")
    named = [_reference(item) for item in sources]
    yield asked("C13", len(set(named)) == len(named), "a source image is named twice")
    for item in sources:
        yield asked("C13", _is_uid(text(item, "ReferencedSOPClassUID")), "a source image's class is missing")
        yield asked("C13", (SOURCE_IMAGE, "DCM") in purposes(item), "a source image without its purpose")
        is_said = text(item, "SpatialLocationsPreserved") in ("YES", "NO", "REORIENTED_ONLY")
        yield asked("C13", is_said, "SpatialLocationsPreserved is missing")
        frames = texts(item, "ReferencedFrameNumber")
        yield asked("C13", all(frame.isdigit() and int(frame) > 0 for frame in frames), "a frame number is below 1")
    uids = {uid for _, uid, _ in named}
    yield asked("C3", text(dataset, "SOPInstanceUID") not in uids, "the derived image has its source's UID")
    series = items(dataset, "ReferencedSeriesSequence")
    listed = {
        (text(item, "ReferencedSOPClassUID"), text(item, "ReferencedSOPInstanceUID"))
        for one in series
        for item in items(one, "ReferencedInstanceSequence")
    }
    is_same = listed == {(kind, uid) for kind, uid, _ in named}
    yield asked("C14", is_same, "ReferencedSeriesSequence lists other instances than are referenced")
    yield asked("C14", all(_is_uid(text(one, "SeriesInstanceUID")) for one in series), "a listed series has no UID")
    own = text(dataset, "SeriesInstanceUID")
    yield asked("C3", all(text(one, "SeriesInstanceUID") != own for one in series), "the series UID is the source's")
    related = items(dataset, "RelatedSeriesSequence")
    processed = {text(item, "SeriesInstanceUID") for item in related if (SOURCE_SERIES, "DCM") in purposes(item)}
    yield asked("C15", processed, "RelatedSeriesSequence does not name the series that was processed")
    of_images = {text(one, "SeriesInstanceUID") for one in series}
    yield asked("C15", not processed or of_images <= processed, "the processed series is not the one of the images")
    for item in related:
        is_known = purposes(item) <= {(SOURCE_SERIES, "DCM"), (FOR_ATTENUATION, "DCM")} and bool(purposes(item))
        yield asked("C15", is_known, "a related series with an unknown purpose")
        same_study = text(item, "StudyInstanceUID") == text(dataset, "StudyInstanceUID")
        # What was read beside the source may be of an earlier study; the source itself and its correction are not.
        is_beside = (SOURCE_SERIES, "DCM") in purposes(item) and text(item, "SeriesInstanceUID") not in of_images
        yield asked("C15", same_study or is_beside, "a related series lies in another study")


def _reference(item: Dataset) -> tuple[str, str, tuple[str, ...]]:
    kind, uid = text(item, "ReferencedSOPClassUID"), text(item, "ReferencedSOPInstanceUID")
    return kind, uid, texts(item, "ReferencedFrameNumber")


def _times(dataset: Dataset) -> Iterator[Finding]:
    """Every moment we write is the job's, once (C16, C17)."""
    moments = {}
    for name in ("Content", "InstanceCreation", "Series"):
        date, time = text(dataset, f"{name}Date"), text(dataset, f"{name}Time")
        moments[name] = date + time[:6]
        rule = "C17" if name != "Series" else "P1" if text(dataset, "Modality") == "PT" else "C16"
        is_whole = re.fullmatch(r"\d{8}", date) and re.fullmatch(r"\d{6}(\.\d{1,6})?", time)
        if name != "Series" or rule == "C16":
            yield asked(rule, is_whole, f"{name}Date or {name}Time is missing")
        else:
            yield asked(rule, date and time, "the PET lost its time base")
    same = moments["Content"] == moments["InstanceCreation"]
    yield asked("C17", same, "content and instance creation are at different times")
    if text(dataset, "Modality") != "PT":
        yield asked("C16", moments["Series"] == moments["Content"], "the series' time is not the job's")
    model = model_item(dataset)
    if model is not None:
        contributed, zone = text(model, "ContributionDateTime"), text(dataset, "TimezoneOffsetFromUTC")
        yield asked("C17", contributed[:14] == moments["Content"], "the model contributed at another time")
        stated = re.fullmatch(r"[\d.]*([+-]\d{4})?", contributed)
        yield asked("C19", stated and (stated[1] or "") in ("", zone), "a time is in another zone than the image's")


def _marks(dataset: Dataset) -> Iterator[Finding]:
    """What warns a reader."""
    lossy = text(dataset, "LossyImageCompression")
    yield asked("C20", lossy in ("", "00", "01"), "LossyImageCompression is neither 00 nor 01")
    ratio = texts(dataset, "LossyImageCompressionRatio")
    yield asked("C20", lossy != "01" or ratio, "lossy history without LossyImageCompressionRatio")
    burned = text(dataset, "BurnedInAnnotation")
    yield asked("C21", burned in ("YES", "NO"), "BurnedInAnnotation is neither YES nor NO")
    use = text(dataset, "ContentQualification")
    yield asked("C22", use in ("RESEARCH", "PRODUCT"), "ContentQualification is missing")
    says = dataset.get("SyntheticData")
    yield asked("C23", says in (None, "YES"), "SyntheticData is neither absent nor YES")
    comments = text(dataset, "ImageComments").lower()
    yield asked("C24", "not for diagnosis" in comments, "ImageComments does not warn against diagnosis")
    yield asked("C24", use != "RESEARCH" or "research" in comments, "ImageComments does not say that it is research")
    widths, centers = numbers(dataset, "WindowWidth"), numbers(dataset, "WindowCenter")
    yield asked("C27", len(widths) == len(centers), "there are not as many window widths as centres")
    yield asked("C27", all(width >= 1 for width in widths), "WindowWidth is below 1")


def _left_out(dataset: Dataset) -> Iterator[Finding]:
    """Nothing is there that is not known to be true of the derived image (C25, C26)."""
    present = {int(tag) for tag in dataset.keys()}  # noqa: SIM118 - iterating over a Dataset decodes every element
    for tag in sorted(present & FORBIDDEN):
        yield Finding("C25", False, f"{keyword_for_tag(tag)} is the source's and was not removed")
    strange = sorted(tag for tag in present if tag >> 16 & 1 and not _is_philips_pet(tag, dataset))
    yield asked("C25", not strange, "a private element was not removed")
    overlays = any(tag >> 24 in (0x50, 0x60) for tag in present)
    yield asked("C25", not overlays, "overlays or curves were not removed")
    modules = tables()["iods"].get(text(dataset, "Modality"), {})
    known = (
        {keyword for module in modules for keyword in tables()["modules"][module]} | iods.EARLIER_EDITIONS | iods.MADE
    )
    for tag in sorted(present - FORBIDDEN):
        keyword = keyword_for_tag(tag)
        if modules and keyword and not tag >> 16 & 1 and tag >> 24 not in (0x50, 0x60) and keyword not in known:
            yield Finding("C26", False, f"{keyword} belongs to no module of the object")
    yield Finding("C26", True, "")
    has_value, has_limit = ("PixelPadding" + name in dataset for name in ("Value", "RangeLimit"))
    yield asked("C25", has_value or not has_limit, "PixelPaddingRangeLimit without PixelPaddingValue")
    if has_value and has_limit:
        value, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
        is_inverse = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        fits = value is not None and limit is not None and (value >= limit if is_inverse else value <= limit)
        yield asked("C25", fits, "PixelPaddingValue lies on the wrong side of its limit")


def _is_philips_pet(tag: int, dataset: Dataset) -> bool:
    """Whether a private element is one of the two scale factors, or their creator (P6)."""
    if tag >> 16 != 0x7053 or text(dataset, "Modality") != "PT":
        return False
    slot = tag & 0xFF if tag & 0xFFFF < 0x100 else tag >> 8 & 0xFF
    creator = dataset.get(0x70530000 + slot)
    is_named = creator is not None and str(creator.value).strip() == iods.PHILIPS_PET_CREATOR
    return is_named and (tag & 0xFFFF < 0x100 or tag & 0xFF in iods.PHILIPS_PET_ELEMENTS)


IMAGE_RULES: tuple[Callable[[Dataset], Iterator[Finding]], ...] = (
    *(_identity, _geometry, _numbers_and_words, _equipment, _derivation, _references, _times, _marks, _left_out),
)
"""Each can be asked by itself."""
