"""Which instances of a series are images of one stack, and whether they may be processed at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dicomnode.acquisition import check_corrections
from dicomnode.errors import SeriesUnusable
from dicomnode.iods import MODALITY_OF
from dicomnode.source_image import SourceImage
from dicomnode.uids import CODING_SCHEME, MODEL_NAME

ENHANCED = frozenset(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("2.1", "2.2", "4.1", "4.3", "4.4", "128.1", "130"))
NOT_MAGNITUDE = frozenset({"P", "PHASE", "PHASE MAP", "VELOCITY", "R", "REAL", "I", "IMAGINARY"})
WANTED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")

SAME_FOR_ALL: Mapping[str, tuple[str, str]] = {
    "SOPClassUID": ("mixed-sop-class", "several kinds of image"),
    "StudyInstanceUID": ("mixed-study", "images of several studies"),
    "SeriesInstanceUID": ("mixed-series", "images of several series"),
    "FrameOfReferenceUID": ("mixed-frame-of-reference", "several frames of reference"),
    "Rows": ("mixed-size", "several matrix sizes"),
    "Columns": ("mixed-size", "several matrix sizes"),
    "PhotometricInterpretation": ("mixed-photometric", "several photometric interpretations"),
    "KVP": ("mixed-kvp", "several tube voltages"),
    "ConvolutionKernel": ("mixed-kernel", "several convolution kernels"),
    "RescaleType": ("mixed-units", "several rescale types"),
    "Units": ("mixed-units", "several PET units"),
    "SUVType": ("mixed-units", "several kinds of SUV"),
    "CorrectedImage": ("mixed-corrections", "images corrected in different ways"),
    "DecayCorrection": ("mixed-corrections", "images corrected for decay in different ways"),
    "EchoTime": ("mixed-echo", "several echo times"),
    "DiffusionBValue": ("mixed-diffusion", "several diffusion weightings"),
    "TemporalPositionIdentifier": ("mixed-time", "several points in time"),
}
SAME_FOR_ALL_PET: Mapping[str, tuple[str, str]] = {
    "SeriesDate": ("mixed-series-time", "several series dates, the reference of its decay correction"),
    "SeriesTime": ("mixed-series-time", "several series times, the reference of its decay correction"),
    "PatientWeight": ("mixed-weight", "several patient weights, by which SUV would be wrong"),
    "PatientSize": ("mixed-weight", "several patient sizes, by which SUV would be wrong"),
    "AttenuationCorrectionMethod": ("mixed-corrections", "images corrected for attenuation in different ways"),
}
SAME_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber")
SAME_DOSE = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)


def images_of_one_stack(instances: Sequence[SourceImage], *, accept_lossy: bool) -> list[SourceImage]:
    """The images that make the stack: localizers and reports left out; refused if mixed or partly without place."""
    for instance in instances:
        _refuse_forbidden(instance)
    images = [instance for instance in instances if _is_stack_image(instance)]
    if not images:
        raise SeriesUnusable(
            "no-images", "the series has no CT, PET or MR images besides localizers and reports; correct the rule"
        )
    placed = [image for image in images if _is_placed(image)]
    if not placed:
        raise SeriesUnusable(
            "no-positions",
            "no image has ImagePositionPatient and ImageOrientationPatient; a volume cannot be made of them",
        )
    if len(placed) < len(images):
        raise SeriesUnusable(
            "positions-missing",
            f"{len(images) - len(placed)} of {len(images)} images have no position; send the series again complete",
        )
    for image in placed:
        _refuse_unfit(image, accept_lossy=accept_lossy)
    single = _without_doubles(placed)
    _refuse_mixed(single)
    return single


def _is_stack_image(image: SourceImage) -> bool:
    image_type = image.texts("ImageType")
    return image.text("SOPClassUID") in MODALITY_OF and not {"LOCALIZER", "SCOUT"} & set(image_type)


def _is_placed(image: SourceImage) -> bool:
    return len(image.numbers("ImagePositionPatient")) == 3 and len(image.numbers("ImageOrientationPatient")) == 6


def _refuse_forbidden(image: SourceImage) -> None:
    """What must not be processed, whichever instance of the series says so."""
    uid = image.sop_instance_uid
    if not image.text("SOPClassUID"):
        raise SeriesUnusable("missing-uid", "an instance has no SOPClassUID; the sender must be corrected")
    if image.text("QualityControlImage") == "YES":
        raise SeriesUnusable("quality-control-image", f"instance {uid} is a quality control image; it is not processed")
    if made_by_a_node(image):
        raise SeriesUnusable("own-output", f"instance {uid} was derived by a node of this kind; never processed again")
    frames = image.number("NumberOfFrames") or 1
    if image.text("SOPClassUID") in ENHANCED or (frames > 1 and image.text("SOPClassUID") in MODALITY_OF):
        raise SeriesUnusable(
            "multi-frame", f"instance {uid} is a multi-frame image; send the series as single-frame images"
        )


def made_by_a_node(image: SourceImage) -> bool:
    """Whether a node of this kind had its hands on the image (I13): it is the equipment, or one that contributed."""
    contributors = image.dataset.get("ContributingEquipmentSequence") or []
    derivations = image.dataset.get("DerivationCodeSequence") or []
    return (
        image.text("ManufacturerModelName") == MODEL_NAME
        or any(str(item.get("Manufacturer", "")) == MODEL_NAME for item in contributors)
        or any(str(item.get("CodingSchemeDesignator", "")) == CODING_SCHEME for item in derivations)
    )


def _without_doubles(images: Sequence[SourceImage]) -> list[SourceImage]:
    """Each instance once; the same UID over other content is refused (I1)."""
    seen: dict[str, SourceImage] = {}
    for image in images:
        first = seen.setdefault(image.sop_instance_uid, image)
        if first is not image and first.path.read_bytes() != image.path.read_bytes():
            raise SeriesUnusable(
                "instance-conflict", f"instance {image.sop_instance_uid} came twice with other content; send it again"
            )
    return list(seen.values())


def _refuse_unfit(image: SourceImage, *, accept_lossy: bool) -> None:
    uid = image.sop_instance_uid
    missing = [keyword for keyword in WANTED_UIDS if not image.text(keyword)]
    if missing:
        raise SeriesUnusable("missing-uid", f"an image has no {', '.join(missing)}; the sender must be corrected")
    if "PatientID" not in image.dataset:
        raise SeriesUnusable("patient-id-missing", f"instance {uid} has no PatientID attribute; correct the sender")
    if image.text("Modality") != MODALITY_OF[image.text("SOPClassUID")]:
        raise SeriesUnusable(
            "modality-contradicts", f"instance {uid}: Modality and SOP Class disagree; correct the sender"
        )
    if image.number("SamplesPerPixel") != 1 or image.text("PhotometricInterpretation") not in (
        "MONOCHROME2",
        "MONOCHROME1" if image.text("Modality") != "PT" else "MONOCHROME2",
    ):
        raise SeriesUnusable("not-grey", f"instance {uid} is not a grey image; colour and palette images are not taken")
    _refuse_pixel_layout(image)
    if len(image.numbers("PixelSpacing")) != 2 or min(image.numbers("PixelSpacing")) <= 0:
        raise SeriesUnusable("pixel-spacing-missing", f"instance {uid} has no usable PixelSpacing; correct the sender")
    if image.text("LossyImageCompression") == "01" and not accept_lossy:
        raise SeriesUnusable(
            "lossy", f"instance {uid} was compressed with loss; send the original, or allow lossy sources in the config"
        )
    if image.text("LossyImageCompression") == "01" and not image.numbers("LossyImageCompressionRatio"):
        raise SeriesUnusable("lossy", f"instance {uid} is lossy and does not say by what ratio; send the original")
    if image.text("Modality") == "PT":
        _refuse_pet(image)
    if image.text("Modality") == "MR":
        _refuse_mr(image)


def _refuse_pixel_layout(image: SourceImage) -> None:
    uid, bits = image.sop_instance_uid, image.number("BitsStored") or 0
    if image.number("BitsAllocated") != 16:
        raise SeriesUnusable(
            "bits-allocated", f"instance {uid} has {image.text('BitsAllocated')} bits a pixel; only 16 are taken"
        )
    is_usual = 1 <= bits <= 16 and image.number("HighBit") == bits - 1 and image.number("PixelRepresentation") in (0, 1)
    if not is_usual or not image.number("Rows") or not image.number("Columns"):
        raise SeriesUnusable(
            "pixel-layout",
            f"instance {uid} does not say, or not in a known way, how its pixels are laid out; correct it",
        )


def _refuse_pet(image: SourceImage) -> None:
    check_corrections(image)
    if not image.text("SeriesDate") or not image.text("SeriesTime"):
        raise SeriesUnusable(
            "series-time-missing", "the PET has no SeriesDate and SeriesTime, the reference of its decay correction"
        )
    if image.text("SeriesType") == "GATED" or (
        image.text("SeriesType") == "DYNAMIC" and image.number("NumberOfTimeSlices") != 1
    ):
        raise SeriesUnusable("temporal-series", "the PET is dynamic or gated; send each time frame as its own series")


def _refuse_mr(image: SourceImage) -> None:
    """Stacks that no pipeline declares (M3)."""
    if NOT_MAGNITUDE & set(image.texts("ImageType")[2:]):
        raise SeriesUnusable(
            "not-magnitude", "the MR holds phase, real or imaginary parts; only magnitude is processed"
        )
    if (image.number("DiffusionBValue") or 0) > 0:
        raise SeriesUnusable("diffusion", "the MR is diffusion weighted, and no pipeline takes that; correct the rule")


def _dose(image: SourceImage) -> list[tuple[str, ...]]:
    """What SUV is computed from, of every radiopharmaceutical named."""
    items = image.dataset.get("RadiopharmaceuticalInformationSequence") or []
    return [tuple(str(item.get(keyword, "")) for keyword in SAME_DOSE) for item in items]


def _refuse_mixed(images: Sequence[SourceImage]) -> None:
    first = images[0]
    same = {**SAME_FOR_ALL, **(SAME_FOR_ALL_PET if first.text("Modality") == "PT" else {})}
    for keyword, (reason_code, what) in same.items():
        if any(image.texts(keyword) != first.texts(keyword) for image in images):
            raise SeriesUnusable(
                reason_code, f"the series holds {what} ({keyword} varies); send each as its own series"
            )
    for keyword in SAME_PATIENT:
        if any(image.raw(keyword) != first.raw(keyword) for image in images):
            raise SeriesUnusable(
                "mixed-patient", f"{keyword} varies within the series; it must be corrected at the source"
            )
    if any(_dose(image) != _dose(first) for image in images):
        raise SeriesUnusable(
            "mixed-dose", "the radiopharmaceutical's dose or time varies within the series; send each as its own series"
        )
    if any(image.texts("ImageType")[:3] != first.texts("ImageType")[:3] for image in images):
        raise SeriesUnusable(
            "mixed-image-type", "the series holds several kinds of image (ImageType varies); send them apart"
        )
    near: Mapping[str, tuple[str, Callable[[SourceImage], tuple[float, ...]], float]] = {
        "mixed-orientation": ("ImageOrientationPatient", lambda i: i.numbers("ImageOrientationPatient"), 1e-4),
        "mixed-spacing": ("PixelSpacing", lambda i: i.numbers("PixelSpacing"), 1e-4),
    }
    for reason_code, (keyword, numbers, tolerance) in near.items():
        if any(not np.allclose(numbers(image), numbers(first), rtol=tolerance, atol=tolerance) for image in images):
            raise SeriesUnusable(reason_code, f"{keyword} varies within the series; send each stack as its own series")
