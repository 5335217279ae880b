"""Which instances of a series are images of one stack, and whether they may be processed at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from dicomnode.acquisition import check_corrections
from dicomnode.errors import SeriesUnusable
from dicomnode.iods import MODALITY_OF
from dicomnode.mr_kind import undeclared_mr
from dicomnode.source_image import SourceImage
from dicomnode.uids import CODING_SCHEME, MODEL_NAME

LOCALIZERS = frozenset({"LOCALIZER", "SCOUT"})
LOSSY_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})
EITHER_SYNTAXES = frozenset({JPEG2000, JPEG2000MC, HTJ2K})
"""Transfer syntaxes whose pixels have lost something, and those that leave it open."""
WANTED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
LONGEST_UID = 64
UID_FORM = re.compile(r"\d+(\.\d+)+")
"""As senders write them: a component may begin with noughts."""
LAYOUT = (
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "Rows",
    "Columns",
)
NAMED = 3
"""How many instances a sentence names by their UID."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the admin or the pipeline's card allows beyond one regular stack of images as they were acquired."""

    accept_lossy: bool = False
    slicewise: bool = False
    """The pipeline's card: slices that are unevenly spaced or tilted run together, each in its own place."""
    split_mixed: bool = False
    """A series of several kinds of image is run kind by kind."""
    split_uneven: bool = False
    """An unevenly spaced series is run part by part."""
    accept_own: bool = False
    """The rule is a link of a chain: it runs on what this node derived."""


def fit_images(instances: Sequence[SourceImage], *, allowed: Allowed) -> tuple[list[SourceImage], tuple[str, ...]]:
    """The images that may be processed, each once, and a sentence for each kind of instance that is left out.

    Raises SeriesUnusable where one of them must not be processed or has no place.
    """
    for instance in instances:
        _refuse_forbidden(instance, allowed)
    images = [instance for instance in instances if _is_image(instance) and not _is_localizer(instance)]
    if not images:
        raise SeriesUnusable(
            "no-images", "the series has no CT, PET or MR images besides localizers and reports; correct the rule"
        )
    others = [instance for instance in instances if not _is_image(instance)]
    localizers = [instance for instance in instances if _is_image(instance) and _is_localizer(instance)]
    placed = [image for image in images if _is_placed(image)]
    if not placed:
        raise SeriesUnusable(
            "no-positions",
            "no image has ImagePositionPatient and ImageOrientationPatient; send the original images, which have them",
        )
    if len(placed) < len(images):
        raise SeriesUnusable(
            "positions-missing",
            f"{len(images) - len(placed)} of {len(images)} images have no position; send the series again complete",
        )
    for image in placed:
        _refuse_unfit(image, allowed)
    single = _without_doubles(placed)
    undeclared = {id(image): fault for image in single if (fault := undeclared_mr(image)) is not None}
    if undeclared and (len(undeclared) == len(single) or not allowed.split_mixed):
        raise next(iter(undeclared.values()))
    left_out = (
        _counted(localizers, "localizer"),
        _counted(others, "instance that is no CT, PET or MR image", "instances that are no CT, PET or MR images"),
        _counted(
            [image for image in single if id(image) in undeclared],
            "image that no pipeline takes (phase, real or imaginary part, calculated map, diffusion weighted)",
        ),
    )
    kept = [image for image in single if id(image) not in undeclared]
    return kept, tuple(sentence for sentence in left_out if sentence)


def _counted(instances: Sequence[SourceImage], one: str, several: str = "") -> str:
    """A sentence on what is left out; empty for nothing."""
    if not instances:
        return ""
    named = ", ".join(_name(instance) for instance in instances[:NAMED])
    more = f" and {len(instances) - NAMED} more" if len(instances) > NAMED else ""
    what = one if len(instances) == 1 else several or one.replace("image", "images", 1).replace("izer", "izers")
    return f"{len(instances)} {what} left out ({named}{more})"


def _name(image: SourceImage) -> str:
    return f"{image.sop_instance_uid} frame {image.frame}" if image.frame else image.sop_instance_uid


def _is_image(image: SourceImage) -> bool:
    return image.image_class_uid in MODALITY_OF


def _is_localizer(image: SourceImage) -> bool:
    return bool(LOCALIZERS & _kinds(image))


def _kinds(image: SourceImage) -> set[str]:
    """The words of ImageType in capitals, as the standard has them and some senders do not."""
    return {word.upper() for word in image.texts("ImageType")}


def _is_placed(image: SourceImage) -> bool:
    return len(image.numbers("ImagePositionPatient")) == 3 and len(image.numbers("ImageOrientationPatient")) == 6


def _refuse_forbidden(image: SourceImage, allowed: Allowed) -> None:
    """What must not be processed, whichever instance of the series says so."""
    uid = image.sop_instance_uid
    if not image.text("SOPClassUID"):
        raise SeriesUnusable("missing-uid", "an instance has no SOPClassUID; correct the sender")
    if image.text("QualityControlImage").upper() == "YES":
        raise SeriesUnusable(
            "quality-control-image", f"instance {uid} is a quality control image; correct the rule, or send it apart"
        )
    if not allowed.accept_own and made_by_a_node(image):
        raise SeriesUnusable(
            "own-output", f"instance {uid} was derived by a node of this kind; correct the rule, or send the original"
        )


def made_by_a_node(image: SourceImage) -> bool:
    """Whether a node of this kind had its hands on the image (I13): it is the equipment, or one that contributed.

    In a multi-frame image that another made of ours, the derivation stands in the frame's functional group.
    """
    contributors = image.items("ContributingEquipmentSequence")
    derivations = list(image.items("DerivationCodeSequence"))
    for group in image.items("DerivationImageSequence"):
        derivations += image.items("DerivationCodeSequence", of=group)
    return (
        image.text("ManufacturerModelName") == MODEL_NAME
        or any(
            MODEL_NAME in (image.of_item(item, "Manufacturer"), image.of_item(item, "ManufacturerModelName"))
            for item in contributors
        )
        or any(image.of_item(item, "CodingSchemeDesignator") == CODING_SCHEME for item in derivations)
    )


def _without_doubles(images: Sequence[SourceImage]) -> list[SourceImage]:
    """Each image once; the same UID over other content is refused (I1). Frames of one instance are images apart."""
    seen: dict[tuple[str, int], SourceImage] = {}
    compared: set[tuple[Path, Path]] = set()
    for image in images:
        first = seen.setdefault((image.sop_instance_uid, image.frame), image)
        if first is image or (first.path, image.path) in compared:
            continue
        if first.path.read_bytes() != image.path.read_bytes():
            raise SeriesUnusable(
                "instance-conflict", f"instance {image.sop_instance_uid} came twice with other content; send it again"
            )
        compared.add((first.path, image.path))
    if len(single := {uid for uid, frame in seen if not frame} & {uid for uid, frame in seen if frame}):
        raise SeriesUnusable(
            "instance-conflict", f"instance {single.pop()} came as one image and as several frames; send it again"
        )
    return list(seen.values())


def _refuse_unfit(image: SourceImage, allowed: Allowed) -> None:
    uid = image.sop_instance_uid
    missing = [keyword for keyword in WANTED_UIDS if not image.text(keyword)]
    if missing:
        raise SeriesUnusable("missing-uid", f"an image has no {', '.join(missing)}; correct the sender")
    for keyword in WANTED_UIDS:
        said = "\\".join(image.texts(keyword))
        if len(said) > LONGEST_UID or not UID_FORM.fullmatch(said):
            raise SeriesUnusable(
                "uid-invalid", f"instance {uid}: {keyword} is no UID of 1 to 64 characters; correct the sender"
            )
    if "PatientID" not in image.dataset:
        raise SeriesUnusable("patient-id-missing", f"instance {uid} has no PatientID attribute; correct the sender")
    if image.text("Modality") != MODALITY_OF[image.image_class_uid]:
        raise SeriesUnusable(
            "modality-contradicts", f"instance {uid}: Modality and SOP Class disagree; correct the sender"
        )
    if image.number("SamplesPerPixel") != 1 or image.text("PhotometricInterpretation") not in (
        "MONOCHROME2",
        "MONOCHROME1" if image.text("Modality") != "PT" else "MONOCHROME2",
    ):
        raise SeriesUnusable("not-grey", f"instance {uid} is not a grey image; send the original grey images")
    _refuse_pixel_layout(image)
    if len(image.numbers("PixelSpacing")) != 2 or min(image.numbers("PixelSpacing")) <= 0:
        raise SeriesUnusable("pixel-spacing-missing", f"instance {uid} has no usable PixelSpacing; correct the sender")
    _refuse_unsaid_loss(image)
    if image.text("LossyImageCompression") == "01" and not allowed.accept_lossy:
        raise SeriesUnusable(
            "lossy", f"instance {uid} was compressed with loss; send the original, or allow lossy sources in the config"
        )
    if image.text("LossyImageCompression") == "01" and not image.numbers("LossyImageCompressionRatio"):
        raise SeriesUnusable("lossy", f"instance {uid} is lossy and does not say by what ratio; send the original")
    if image.text("Modality") == "PT":
        _refuse_pet(image)


def _refuse_unsaid_loss(image: SourceImage) -> None:
    """PS3.3 C.7.6.1.1.5: an image in a lossy transfer syntax says so; without it the result could not say it either."""
    said, syntax = image.text("LossyImageCompression"), image.transfer_syntax_uid
    if said != "01" and (syntax in LOSSY_SYNTAXES or (syntax in EITHER_SYNTAXES and said != "00")):
        raise SeriesUnusable(
            "lossy-unsaid",
            f"instance {image.sop_instance_uid} came in a transfer syntax that can lose data ({UID(syntax).name}) and "
            "LossyImageCompression does not say whether it did; have the sender write it, or send it uncompressed",
        )


def _refuse_pixel_layout(image: SourceImage) -> None:
    uid, bits = image.sop_instance_uid, image.number("BitsStored") or 0
    if several := [keyword for keyword in LAYOUT if len(image.texts(keyword)) > 1]:
        raise SeriesUnusable(
            "pixel-layout", f"instance {uid}: {', '.join(several)} with several values; correct the sender"
        )
    if image.number("BitsAllocated") != 16:
        raise SeriesUnusable(
            "bits-allocated",
            f"instance {uid} has {image.text('BitsAllocated') or 'no'} bits a pixel; send the original with 16",
        )
    is_usual = 1 <= bits <= 16 and image.number("HighBit") == bits - 1 and image.number("PixelRepresentation") in (0, 1)
    if not is_usual or not image.number("Rows") or not image.number("Columns"):
        raise SeriesUnusable(
            "pixel-layout",
            f"instance {uid} does not say, or not in a known way, how its pixels are laid out; correct the sender",
        )


def _refuse_pet(image: SourceImage) -> None:
    check_corrections(image)
    if image.text("CountsSource") not in ("", "EMISSION"):
        raise SeriesUnusable(
            "not-emission",
            f"instance {image.sop_instance_uid} is a PET of CountsSource {image.text('CountsSource')}, not of the "
            "patient's activity; send the emission images",
        )
    if not image.text("SeriesDate") or not image.text("SeriesTime"):
        raise SeriesUnusable(
            "series-time-missing",
            "the PET has no SeriesDate and SeriesTime, the reference of its decay correction; correct the sender",
        )
