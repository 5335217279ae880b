"""What must hold of a result before anything of it is kept; also what validators of other makers do not see."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset

from dicomnode.acquisition import unit_of
from dicomnode.errors import OutputFault
from dicomnode.iods import CHECKED_COPIES, MODALITY_OF, SOP_CLASS_OF, tags
from dicomnode.source_image import SourceImage
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from dicomnode.verbatim import encoded
from inference.pipeline import Card, Outcome
from inference.volume import Unit

LOWEST_HU, HIGHEST_HU = -1100.0, 30000.0
POSITION_TOLERANCE_MM = 0.1
PIXEL_RULE = {"CT": "T1", "PT": "P3", "MR": "M2"}
EQUIPMENT_PURPOSES = frozenset(
    {*(str(code) for code in range(109100, 109107)), "DOCD", "FILMD", "MEDIM", "VIDD", "Newcode1"}
)
"""CID 7005, and the purpose that IHE AIR writes for an algorithm."""


def check_outcome(outcome: Outcome, card: Card, images: Sequence[SourceImage]) -> None:
    """The outcome as a whole: unit, grid, order of the sources, finite values in range."""
    volume = outcome.volume
    if card.result_modality not in SOP_CLASS_OF or not images:
        raise OutputFault(
            "C1", f"there is no image object for modality {card.result_modality!r} and {len(images)} images"
        )
    if images[0].text("Modality") != card.modality:
        raise OutputFault("C1", f"{card.name} is for {card.modality}, its source is {images[0].text('Modality')}")
    if card.makes is not None and volume.unit != card.makes:
        raise OutputFault("C1", f"{card.name} promised {card.makes} and made {volume.unit}")
    if (card.result_modality == "CT") != (volume.unit == Unit.HU):
        raise OutputFault("T1", f"a {card.result_modality} image cannot hold values in {volume.unit}")
    if card.result_modality == card.modality and volume.unit != unit_of(images[0]):
        raise OutputFault("P2", f"the result is in {volume.unit}, the header that is copied says {unit_of(images[0])}")
    shape = (len(images), int(images[0].dataset.Rows), int(images[0].dataset.Columns))
    if volume.values.shape != shape:
        raise OutputFault("C5", f"the result has shape {volume.values.shape}, its sources {shape}")
    if len({image.sop_instance_uid for image in images}) != len(images):
        raise OutputFault("C13", "a source image is there twice")
    _check_geometry(outcome, images)
    if not np.isfinite(volume.values).all():
        raise OutputFault("T5", "the result holds values that are not finite")


def _check_geometry(outcome: Outcome, images: Sequence[SourceImage]) -> None:
    geometry = outcome.volume.geometry
    if geometry.frame_of_reference_uid != images[0].text("FrameOfReferenceUID"):
        raise OutputFault("C4", "the result lies in another frame of reference than its source")
    affine = geometry.affine
    for k, image in enumerate(images):
        expected = np.array(image.numbers("ImagePositionPatient"))
        if np.abs(affine[:3, 3] + k * affine[:3, 0] - expected).max() > max(
            POSITION_TOLERANCE_MM, 0.01 * float(np.linalg.norm(affine[:3, 0]))
        ):
            raise OutputFault("C5", f"slice {k} of the result does not lie where its source image lies")
    orientation, spacing = images[0].numbers("ImageOrientationPatient"), images[0].numbers("PixelSpacing")
    for axis, direction, step in ((2, orientation[:3], spacing[1]), (1, orientation[3:], spacing[0])):
        expected = np.array(direction) / np.linalg.norm(direction) * step
        if np.abs(affine[:3, axis] - expected).max() > 1e-3 * step:
            raise OutputFault("C5", "rows or columns of the result do not run as those of its source")


def check_instance(
    content: bytes,
    card: Card,
    image: SourceImage,
    *,
    values: NDArray[np.float32],
    outside: NDArray[np.bool_] | None = None,
) -> None:
    """One finished file, read back as a receiver would: its pixels are the values, its header holds the rules.

    outside: where the values are the source's own padding, which no range is asked of.
    """
    if card.result_modality == "CT":
        _check_range(values, card, image, outside)
    dataset = dcmread(BytesIO(content))
    check_header(dataset)
    _check_against_source(dataset, card, image)
    stored = np.frombuffer(dataset.PixelData, "<i2" if dataset.PixelRepresentation else "<u2").reshape(values.shape)
    if card.result_modality == "MR":
        slope, intercept = image.slope, image.intercept
    else:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    off = np.abs(stored * slope + intercept - values.astype(np.float64))
    if card.result_modality == "MR" and not dataset.PixelRepresentation:
        off = off[stored > 0]  # what lies below the unsigned scale is cut off at 0
    if off.size and off.max() > abs(slope) * 0.5001 + 1e-6 * float(np.abs(values).max()):
        raise OutputFault(PIXEL_RULE[card.result_modality], "the stored pixels do not give the values")


def _check_range(
    values: NDArray[np.float32], card: Card, image: SourceImage, outside: NDArray[np.bool_] | None
) -> None:
    """HU that can be (T5), or that the source itself has where it is a CT."""
    low, high = (image.lowest, image.highest) if card.modality == "CT" else (LOWEST_HU, HIGHEST_HU)
    wrong = (values < min(LOWEST_HU, low)) | (values > max(HIGHEST_HU, high))
    count = int((wrong if outside is None else wrong & ~outside).sum())
    if count:
        raise OutputFault("T5", f"{count} voxels of {card.name}'s result lie outside -1100..30000 HU")


def check_header(dataset: FileDataset | Dataset) -> None:
    """Own asserts for what dciodvfy says nothing of (G3)."""
    modality, image_type = str(dataset.get("Modality", "")), list(dataset.get("ImageType") or [""])
    _hold("C1", MODALITY_OF.get(str(dataset.SOPClassUID)) == modality, "Modality and SOP Class disagree")
    meta = dataset.file_meta
    _hold("C1", meta.MediaStorageSOPClassUID == dataset.SOPClassUID, "file meta and data set name other classes")
    _hold("C1", meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID, "file meta names another instance")
    _hold("U6", meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID, "the implementation is not ours")
    _hold("C11", image_type[0] == "DERIVED", "ImageType is not DERIVED")
    _hold("C11", modality != "PT" or image_type[1] == "PRIMARY", "a PET ImageType must be PRIMARY")
    rescale_type = dataset.get("RescaleType")
    _hold("T1", modality != "CT" or rescale_type == "HU", "a CT's RescaleType is not HU")
    _hold("P7", modality != "PT" or rescale_type is None, "a PET image has no RescaleType")
    _hold("C23", dataset.get("SyntheticData") in (None, "YES"), "SyntheticData is neither absent nor YES")
    _hold("C22", dataset.get("ContentQualification") in ("RESEARCH", "PRODUCT"), "ContentQualification is missing")
    _hold("C25", "PixelPaddingValue" not in dataset, "PixelPaddingValue was not established anew")
    if dataset.get("LossyImageCompression") == "01":
        has_ratio = bool(dataset.get("LossyImageCompressionRatio"))
        _hold("C20", has_ratio, "lossy history without LossyImageCompressionRatio")
    _check_references(dataset)
    if modality == "PT":
        _check_pet(dataset)


def _check_pet(dataset: Dataset) -> None:
    corrected = list(dataset.get("CorrectedImage") or [])
    corrected = [corrected] if isinstance(corrected, str) else corrected
    has_method = bool(dataset.get("AttenuationCorrectionMethod"))
    _hold("P2", not has_method or "ATTN" in corrected, "AttenuationCorrectionMethod without ATTN")
    is_decayed = dataset.get("DecayCorrection", "NONE") != "NONE"
    _hold("P2", is_decayed == ("DECY" in corrected), "DecayCorrection and CorrectedImage disagree")
    _hold("P1", bool(dataset.get("SeriesDate")) and bool(dataset.get("SeriesTime")), "the PET lost its time base")
    _hold("P3", float(dataset.RescaleIntercept) == 0, "a PET's RescaleIntercept is not 0")
    _hold("P4", int(dataset.ImageIndex) >= 1, "ImageIndex is below 1")
    _hold("P7", "PatientPosition" not in dataset, "PatientPosition beside the orientation codes")


def _check_references(dataset: Dataset) -> None:
    """Sources are named, and the series that are listed hold exactly them (C13, C14); purposes are known codes."""
    sources = {str(item.ReferencedSOPInstanceUID) for item in dataset.get("SourceImageSequence") or []}
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or []
        for instance in series.ReferencedInstanceSequence
    }
    _hold("C13", bool(sources), "no source image is named")
    _hold("C14", sources == listed, "ReferencedSeriesSequence lists other instances than are referenced")
    own = str(dataset.SOPInstanceUID)
    _hold("C3", own not in sources, "the derived image has its source's UID")
    for item in dataset.get("ContributingEquipmentSequence") or []:
        purposes = {str(code.CodeValue) for code in item.get("PurposeOfReferenceCodeSequence") or []}
        _hold("C10", bool(item.get("Manufacturer")), "contributing equipment without Manufacturer")
        _hold("C10", bool(purposes) and purposes <= EQUIPMENT_PURPOSES, "equipment with an unknown purpose")


def _check_against_source(dataset: Dataset, card: Card, image: SourceImage) -> None:
    """What must be the source's is; what must not be is not."""
    for tag in tags(CHECKED_COPIES):
        same = _content(dataset.get_item(tag)) == _content(image.elements.get(tag))
        _hold("C2" if tag >> 16 == 0x0010 else "C5", same, f"{keyword_for_tag(tag)} is not the source's")
    sources = [str(item.ReferencedSOPInstanceUID) for item in dataset.SourceImageSequence]
    _hold("C13", sources[0] == image.sop_instance_uid, "the first source image is not the slice's own")
    _hold("C3", str(dataset.SeriesInstanceUID) != image.text("SeriesInstanceUID"), "the series UID is the source's")
    if card.synthetic:
        _hold("C23", dataset.get("SyntheticData") == "YES", "a synthetic image does not say so")
    if image.text("LossyImageCompression") == "01":
        _hold("C20", dataset.get("LossyImageCompression") == "01", "lossy history was lost")
    if card.modality == card.result_modality == "PT":
        for keyword in ("SeriesDate", "SeriesTime", "Units", "DecayCorrection", "FrameReferenceTime"):
            _hold("P1", dataset.get(keyword) == image.dataset.get(keyword), f"{keyword} is not the source's")


def _content(element: DataElement | RawDataElement | None) -> bytes:
    """An element's bytes as Explicit VR Little Endian without padding, in whatever form it was received."""
    return b"" if element is None else encoded([element])[int(element.tag)][8:].strip(b" \0")


def _hold(rule: str, holds: bool, message: str) -> None:
    if not holds:
        raise OutputFault(rule, message)
