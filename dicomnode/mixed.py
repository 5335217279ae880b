"""What tells the images of one series apart into stacks of one kind, and what may never vary within a series."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dicomnode.errors import SeriesUnusable
from dicomnode.source_image import SourceImage
from dicomnode.stack import LARGEST_TILT_DEG

NEVER: Mapping[str, tuple[str, str]] = {
    "StudyInstanceUID": ("mixed-study", "images of several studies"),
    "SeriesInstanceUID": ("mixed-series", "images of several series"),
    "Modality": ("mixed-sop-class", "images of several modalities"),
    "PatientPosition": ("mixed-patient-position", "images of a patient who lay in several ways"),
    "RescaleType": ("mixed-units", "several rescale types"),
    "Units": ("mixed-units", "several PET units"),
    "SUVType": ("mixed-units", "several kinds of SUV"),
}
"""The series is refused where these vary, whatever the admin allows: the header contradicts itself."""
NEVER_PET: Mapping[str, tuple[str, str]] = {
    "SeriesDate": ("mixed-series-time", "several series dates, the reference of its decay correction"),
    "SeriesTime": ("mixed-series-time", "several series times, the reference of its decay correction"),
    "PatientWeight": ("mixed-weight", "several patient weights, by which SUV would be wrong"),
    "PatientSize": ("mixed-weight", "several patient sizes, by which SUV would be wrong"),
}
SAME_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber")
NUMBERS = frozenset({"PatientWeight", "PatientSize", "RadionuclideTotalDose", "RadionuclideHalfLife"})
SAME_DOSE = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)
APART: Mapping[str, tuple[str, str]] = {
    "SOPClassUID": ("mixed-sop-class", "several kinds of image"),
    "FrameOfReferenceUID": ("mixed-frame-of-reference", "several frames of reference"),
    "Rows": ("mixed-size", "several matrix sizes"),
    "Columns": ("mixed-size", "several matrix sizes"),
    "PhotometricInterpretation": ("mixed-photometric", "several photometric interpretations"),
    "KVP": ("mixed-kvp", "several tube voltages"),
    "ConvolutionKernel": ("mixed-kernel", "several convolution kernels"),
    "CorrectedImage": ("mixed-corrections", "images corrected in different ways"),
    "DecayCorrection": ("mixed-corrections", "images corrected for decay in different ways"),
    "AttenuationCorrectionMethod": ("mixed-corrections", "images corrected for attenuation in different ways"),
    "EchoTime": ("mixed-echo", "several echo times"),
    "EchoNumbers": ("mixed-echo", "several echoes"),
    "DiffusionBValue": ("mixed-diffusion", "several diffusion weightings"),
    "TemporalPositionIdentifier": ("mixed-time", "several points in time"),
    "ImageType": ("mixed-image-type", "several kinds of image"),
}
"""The series is told apart by these where the admin allows it (I4), else refused."""
APART_NEARLY: Mapping[str, str] = {"ImageOrientationPatient": "mixed-orientation", "PixelSpacing": "mixed-spacing"}
NEAR: Mapping[str, float] = {"ImageOrientationPatient": float(np.radians(LARGEST_TILT_DEG)), "PixelSpacing": 1e-4}
"""What may lie between an image and the first of its kind: for the orientation the tilt that a stack may have."""
TIMES = frozenset({"SeriesTime", "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"})
FINER = ("ImageType", "InversionTime", "FlipAngle", "TriggerTime", "AcquisitionNumber")
"""What may tell apart images that still share a position, tried one after the other."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Images of one kind. told: keyword -> its value in words, of everything the series was told apart by."""

    images: tuple[SourceImage, ...]
    told: Mapping[str, str]


def refuse_contradictions(images: Sequence[SourceImage]) -> None:
    """Raises SeriesUnusable where patient, study, unit, weight or dose varies: no splitting can mend that."""
    first = images[0]
    never = {**NEVER, **(NEVER_PET if first.text("Modality") == "PT" else {})}
    for keyword, (reason_code, what) in never.items():
        if len({_same(image.texts(keyword), keyword) for image in images}) > 1:
            raise _mixed(reason_code, what, keyword)
    for keyword in SAME_PATIENT:
        if any(image.raw(keyword) != first.raw(keyword) for image in images):
            raise SeriesUnusable(
                "mixed-patient", f"{keyword} varies within the series; have it corrected at the source"
            )
    if any(_dose(image) != _dose(first) for image in images):
        raise SeriesUnusable(
            "mixed-dose", "the radiopharmaceutical's dose or time varies within the series; send each as its own series"
        )


def one_kind(images: Sequence[SourceImage]) -> Kind:
    """All the images; raises SeriesUnusable when they are of several kinds."""
    for keyword, (reason_code, what) in APART.items():
        if len(_parted(images, keyword)) > 1:
            raise _mixed(reason_code, what, keyword)
    for keyword, reason_code in APART_NEARLY.items():
        if len(_parted(images, keyword)) > 1:
            raise SeriesUnusable(reason_code, f"{keyword} varies within the series; send each stack as its own series")
    return Kind(tuple(images), {})


def kinds_apart(images: Sequence[SourceImage]) -> list[Kind]:
    """The images told apart by all that may tell them apart, in the order of their instance numbers."""
    kinds = [Kind(tuple(images), {})]
    for keyword in (*APART, *APART_NEARLY):
        groups = _parted(images, keyword)
        if len(groups) > 1:
            kinds = [part for kind in kinds for part in _split(kind, keyword, groups)]
    return kinds


def finer_kinds(kind: Kind, is_clean: Callable[[Sequence[SourceImage]], bool]) -> list[Kind]:
    """A kind told apart by the first of FINER that leaves only clean parts; the kind itself when none does.

    A kind that is clean already is never told apart: each slice of an axial CT is an acquisition of its own.
    """
    if is_clean(kind.images):
        return [kind]
    for keyword in FINER:
        parts = _split(kind, keyword, _parted(kind.images, keyword, whole=True))
        if len(parts) > 1 and all(is_clean(part.images) for part in parts):
            return parts
    return [kind]


def words_apart(kinds: Sequence[Kind]) -> list[str]:
    """For each kind, ASCII words that say what sets it apart from the others, e.g. "EchoTime 80"."""
    keywords = list(dict.fromkeys(keyword for kind in kinds for keyword in kind.told))
    varying = [keyword for keyword in keywords if len({kind.told.get(keyword) for kind in kinds}) > 1]
    return [", ".join(f"{key} {kind.told[key]}" for key in varying if key in kind.told) for kind in kinds]


def _mixed(reason_code: str, what: str, keyword: str) -> SeriesUnusable:
    return SeriesUnusable(reason_code, f"the series holds {what} ({keyword} varies); send each as its own series")


def _dose(image: SourceImage) -> list[tuple[str, ...]]:
    """What SUV is computed from, of every radiopharmaceutical named."""
    items = image.items("RadiopharmaceuticalInformationSequence")
    return [tuple(_same((image.of_item(item, keyword),), keyword)[0] for keyword in SAME_DOSE) for item in items]


def _same(texts: Sequence[str], keyword: str) -> tuple[str, ...]:
    """Values so that two ways to write one number or one time are the same: 70 and 70.0, 102000 and 102000.000."""
    if keyword in TIMES:
        return tuple(re.sub(r"\.0*(?=[+-]|$)|(\.\d*?)0+(?=[+-]|$)", r"\1", text) for text in texts)
    if keyword in NUMBERS:
        return tuple(_number(text) for text in texts)
    return tuple(texts)


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text


def _split(kind: Kind, keyword: str, groups: Sequence[Sequence[SourceImage]]) -> list[Kind]:
    """The kind's images as they lie in the groups, which the whole series was parted into."""
    parts = []
    for nth, group in enumerate(groups, 1):
        members = {id(image) for image in group}
        if part := tuple(image for image in kind.images if id(image) in members):
            parts.append(Kind(part, {**kind.told, keyword: _words(group[0], keyword, nth)}))
    return parts


def _parted(images: Sequence[SourceImage], keyword: str, *, whole: bool = False) -> list[list[SourceImage]]:
    """The images in groups of one value each, the group of the first image first."""
    if keyword in APART_NEARLY:
        return _parted_nearly(images, keyword)
    groups: dict[Key, list[SourceImage]] = {}
    for image in images:
        groups.setdefault(_key(image, keyword, whole=whole), []).append(image)
    return list(groups.values())


def _key(image: SourceImage, keyword: str, *, whole: bool) -> Key:
    if keyword == "ImageType":
        return image.texts(keyword) if whole else image.texts(keyword)[:3]
    if keyword == "TemporalPositionIdentifier" and image.text("Modality") == "PT":
        return ()  # the time frames of a PET are one series
    return image.numbers(keyword) or image.texts(keyword)  # 12 and 12.0 are one echo time


def _parted_nearly(images: Sequence[SourceImage], keyword: str) -> list[list[SourceImage]]:
    groups: list[list[SourceImage]] = []
    firsts: list[tuple[float, ...]] = []
    for image in images:
        numbers = image.numbers(keyword)
        for first, group in zip(firsts, groups, strict=True):
            if len(first) == len(numbers) and np.allclose(numbers, first, rtol=1e-4, atol=NEAR[keyword]):
                group.append(image)
                break
        else:
            firsts.append(numbers)
            groups.append([image])
    return groups


def _words(image: SourceImage, keyword: str, nth: int) -> str:
    """A value as words; UIDs say nothing to a reader, so the groups are counted instead."""
    if keyword.endswith("UID"):
        return str(nth)
    numbers = image.numbers(keyword)
    value = "\\".join(f"{number:.6g}" for number in numbers) if numbers else "\\".join(image.texts(keyword))
    return (value or "(absent)").encode("ascii", "replace").decode()
