"""Every frame of an enhanced CT, PET or MR instance as the single-frame image that it stands for (I10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, EnhancedMRColorImageStorage

from dicomnode.errors import SeriesUnusable
from dicomnode.iods import MODALITY_OF, tags
from dicomnode.multiframe.attributes import COPIED, NEVER_FROM_ORIGINALS, OF_MULTI_FRAME, ORIGINALS
from dicomnode.multiframe.ct_mr import ct_attributes, kind_and_time, mr_attributes
from dicomnode.multiframe.frame import Frame
from dicomnode.multiframe.pet import pet_of_frame, pet_of_instance, slices_of
from dicomnode.patient_position import patient_position
from dicomnode.source_image import (
    SINGLE_FRAME_CLASS_OF,
    FramePixels,
    SourceImage,
    read_header,
    refusing_unreadable,
    source_image_of,
)
from dicomnode.verbatim import Element

PIXEL_DATA = (0x7FE0, 0x0010)
UNDEFINED_LENGTH = 0xFFFFFFFF
PHILIPS_PET_GROUP = 0x7053
ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
ORIENTATION_CODES = ("PatientOrientationCodeSequence", "PatientEquipmentRelationshipCodeSequence")
Elements = dict[BaseTag, Element]


def source_images(path: Path) -> list[SourceImage]:
    """The images of a file: the one it is, or each frame of an enhanced instance, frame 1 first; pixels stay on disk.

    Raises SeriesUnusable for frames that are no single-frame images: several in an object without functional groups,
    or such as leave open what a single-frame image must say.
    """
    header, pixels_at = read_header(path)
    with refusing_unreadable(path):
        seen = _dataset(header, _elements_of(header))  # so that no text of the header itself is decoded
        sop_class_uid, count = str(seen.get("SOPClassUID", "")), int(seen.get("NumberOfFrames") or 1)
        if sop_class_uid in SINGLE_FRAME_CLASS_OF:
            return _frame_images(path)
    if (sop_class_uid in MODALITY_OF and count > 1) or sop_class_uid == EnhancedMRColorImageStorage:
        raise SeriesUnusable(
            "multi-frame",
            f"instance {seen.get('SOPInstanceUID', '')} holds frames without places of their own, or in colour; "
            "send the series as single-frame images",
        )
    return [source_image_of(path, header, pixels_at)]


def _frame_images(path: Path) -> list[SourceImage]:
    with path.open("rb") as file:
        root = dcmread(file, stop_before_pixels=True)
        pixels = _pixels_of(root, file)
    frames = _frames_of(root)
    whole = _without(root, OF_MULTI_FRAME)
    modality = MODALITY_OF[SINGLE_FRAME_CLASS_OF[str(root.SOPClassUID)]]
    flat = [_flattened(frame, whole) for frame in frames]
    for item in whole.get("RadiopharmaceuticalInformationSequence") or ():
        _drop_from(item, ["RadiopharmaceuticalAgentNumber"])
    for_all = source_image_of(path, whole)
    of_instance: dict[str, Any] = {"NumberOfSlices": slices_of(frames)} if modality == "PT" else {}
    if root.SOPClassUID == ENHANCED_PET:
        of_instance |= pet_of_instance(frames)
    images = []
    for frame, own in zip(frames, flat, strict=True):
        copied = source_image_of(path, own)
        image = SourceImage(
            path,
            _dataset(root, {**_elements_of(whole), **_elements_of(own)}),
            for_all.elements | copied.elements,
            frame=frame.number,
            frame_pixels=pixels,
        )
        made = _made(frame, image, modality, of_instance)
        _put(image, made)
        _say_orientation_once(image, modality)
        images.append(image)
    return images


def _pixels_of(root: FileDataset, file: BinaryIO) -> FramePixels:
    """Where the pixels begin; `file` stands at their element."""
    syntax = UID(root.file_meta.TransferSyntaxUID)
    uid, count = root.get("SOPInstanceUID", ""), int(root.get("NumberOfFrames") or 0)
    if syntax == DeflatedExplicitVRLittleEndian:
        raise SeriesUnusable(
            "multi-frame-deflated", f"instance {uid} is deflated as a whole; send it in another transfer syntax"
        )
    order = "<" if syntax.is_little_endian else ">"
    head = file.read(8 if syntax.is_implicit_VR else 12)
    if len(head) < 8 or unpack(order + "HH", head[:4]) != PIXEL_DATA:
        raise SeriesUnusable("no-pixel-data", f"instance {uid} has no PixelData; send it again")
    (length,) = unpack(order + "L", head[-4:])
    tables = tuple(root.get(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"))
    return FramePixels(
        str(syntax),
        file.tell(),
        -1 if length == UNDEFINED_LENGTH else length,
        count,
        (tables[0], tables[1]) if all(tables) else None,
    )


def _frames_of(root: Dataset) -> list[Frame]:
    count = int(root.get("NumberOfFrames") or 0)
    groups = root.get("PerFrameFunctionalGroupsSequence") or ()
    shared = root.get("SharedFunctionalGroupsSequence") or ()
    if count < 1 or len(groups) != count or len(shared) > 1:
        raise SeriesUnusable(
            "multi-frame-groups",
            f"instance {root.get('SOPInstanceUID', '')} has {len(groups)} functional groups for {count} frames and "
            f"{len(shared)} for all of them; correct the sender, or send single-frame images",
        )
    of_all = shared[0] if shared else Dataset()
    return [Frame(number, root, of_all, own) for number, own in enumerate(groups, 1)]


def _without(root: Dataset, keywords: Iterable[str]) -> Dataset:
    dropped = tags(keywords)
    return _dataset(root, {tag: element for tag, element in _elements_of(root).items() if tag not in dropped})


def _elements_of(dataset: Dataset) -> Elements:
    """The elements of a data set as they are, undecoded where nobody has read them."""
    return dict(dataset._dict)


def _dataset(root: Dataset, elements: Elements) -> Dataset:
    """Elements as a data set that reads texts and numbers as `root` does."""
    made = Dataset(elements, parent_encoding=root._character_set)
    made.set_original_encoding(root.is_implicit_VR, root.is_little_endian, root._character_set)
    return made


def _flattened(frame: Frame, whole: Dataset) -> Dataset:
    """What the functional groups say in the words of a single-frame image, byte for byte.

    What a legacy converted image kept of its sources fills what nothing else says; it never says who the patient is.
    """
    found: Elements = {}
    for macro, keywords in COPIED.items():
        items = frame.items(macro)
        for tag in map(BaseTag, sorted(tags(keywords))):
            said = [item.get_item(tag) for item in items]
            first = said[0] if said else None
            if first is not None and all(other is not None and other.value == first.value for other in said):
                found[tag] = first
    never = tags(NEVER_FROM_ORIGINALS)
    for macro in reversed(ORIGINALS):
        for item in frame.items(macro):
            for tag, element in _elements_of(item).items():
                is_kept = not tag.is_private or tag.group == PHILIPS_PET_GROUP
                in_root = whole.get_item(tag) if tag in whole else None
                if is_kept and tag not in never and tag not in found and (in_root is None or not in_root.value):
                    found[tag] = element
    return _dataset(frame.root, found | _histories(frame, whole))


def _histories(frame: Frame, whole: Dataset) -> Elements:
    """Who had a hand in the frame and what was done, from every place that tells of it: none may hide another (I13)."""
    found: Elements = {}
    for keyword in ("ContributingEquipmentSequence", "DerivationCodeSequence"):
        (tag,) = tags([keyword])
        places = [whole, *(item for macro in ("DerivationImageSequence", *ORIGINALS) for item in frame.items(macro))]
        told = [item for place in places if tag in place for item in place[tag].value or ()]
        if told:
            found[BaseTag(tag)] = DataElement(tag, "SQ", told)
    return found


def _made(frame: Frame, image: SourceImage, modality: str, of_instance: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that the enhanced object holds in other words; what is said already in these words stays."""
    root = frame.root
    filling: dict[str, Any] = {"InstanceNumber": frame.number}
    place = frame.number_of("FrameContentSequence", "TemporalPositionIndex")
    if place is not None:
        filling["TemporalPositionIdentifier"] = int(place)
    if frame.text("FrameAnatomySequence", "FrameLaterality"):
        filling["ImageLaterality"] = frame.text("FrameAnatomySequence", "FrameLaterality")
    (relationship,) = tags(["PatientEquipmentRelationshipCodeSequence"])
    if relationship in image.elements:
        filling["PatientGantryRelationshipCodeSequence"] = image.elements[relationship].value
    replacing = kind_and_time(frame, modality)
    if modality == "CT":
        filling |= ct_attributes(frame)
    elif modality == "MR":
        filling |= mr_attributes(frame)
    elif root.SOPClassUID == ENHANCED_PET:
        replacing |= of_instance
        date, time = (str(replacing.get(name) or root.get(name) or "") for name in ("SeriesDate", "SeriesTime"))
        replacing |= pet_of_frame(frame, date + time)
    else:
        duration = frame.number_of("FrameContentSequence", "FrameAcquisitionDuration")
        filling |= of_instance
        filling |= {} if duration is None else {"ActualFrameDuration": round(duration)}
    return {keyword: value for keyword, value in filling.items() if not image.texts(keyword)} | replacing


def _put(image: SourceImage, made: Mapping[str, Any]) -> None:
    for keyword, value in made.items():
        (tag,) = tags([keyword])
        element = DataElement(tag, dictionary_VR(tag), value)
        image.dataset[tag] = element
        image.elements[tag] = element


def _drop(image: SourceImage, keywords: Sequence[str]) -> None:
    for tag in tags(keywords):
        image.elements.pop(tag, None)
    _drop_from(image.dataset, keywords)


def _drop_from(dataset: Dataset, keywords: Sequence[str]) -> None:
    for tag in tags(keywords):
        if tag in dataset:
            del dataset[tag]


def _say_orientation_once(image: SourceImage, modality: str) -> None:
    """A single-frame CT or MR says in one word how the patient lay, and nothing of a rescale that changes nothing."""
    if modality != "PT":
        position = patient_position(image)
        _drop(image, (*ORIENTATION_CODES, "PatientGantryRelationshipCodeSequence"))
        _put(image, {"PatientPosition": position})
    else:
        _drop(image, ("PatientEquipmentRelationshipCodeSequence", "RescaleType"))
    if modality == "MR" and (image.number("RescaleSlope"), image.number("RescaleIntercept")) == (1.0, 0.0):
        _drop(image, ("RescaleSlope", "RescaleIntercept", "RescaleType"))
