"""What the headers say of a series' values: their unit, how they came to be, and what makes SUV of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite

from pydicom.dataset import Dataset

from dicomnode.corrections import names_a_method
from dicomnode.errors import SeriesUnusable
from dicomnode.metal_reduction import metal_reduction_words
from dicomnode.source_image import SourceImage
from inference.volume import Acquisition, Unit

OFFSET = re.compile(r"[+-]\d{4}$")
PET_UNITS: Mapping[str, Unit] = {
    "BQML": Unit.BQ_PER_ML,
    "GML": Unit.SUV_BW,
    "1CM": Unit.PER_CM,
    "CNTS": Unit.PROPORTIONAL_COUNTS,
    "PROPCNTS": Unit.PROPORTIONAL_COUNTS,
    "CPS": Unit.PROPORTIONAL_COUNTS,
    "PROPCPS": Unit.PROPORTIONAL_COUNTS,
    "NONE": Unit.PROPORTIONAL_COUNTS,
}


def unit_of(image: SourceImage) -> Unit:
    """The unit that the Modality LUT of this image gives; refused where the header leaves it open."""
    lut = image.items("ModalityLUTSequence")
    if image.text("Modality") == "CT":
        return _ct_unit(image, lut)
    if lut:  # the Modality LUT Module belongs to neither IOD
        raise SeriesUnusable(
            "modality-lut",
            "a PET or MR image with a Modality LUT cannot be converted and written back; send it without",
        )
    return _pet_unit(image) if image.text("Modality") == "PT" else Unit.ARBITRARY


def _ct_unit(image: SourceImage, lut: Sequence[Dataset]) -> Unit:
    """HU, whether by RescaleSlope and RescaleIntercept or by a Modality LUT; never by both (PS3.3 C.11.1)."""
    if image.text("RescaleType") not in ("", "HU"):
        raise SeriesUnusable(
            "not-hounsfield",
            f"RescaleType is {image.text('RescaleType')}, not HU; send the reconstruction in Hounsfield units",
        )
    if lut:
        kinds = [image.of_item(item, "ModalityLUTType") for item in lut]
        if kinds != ["HU"]:
            raise SeriesUnusable(
                "not-hounsfield",
                f"the Modality LUT gives {', '.join(kinds) or 'nothing'}, not HU; send the reconstruction in "
                "Hounsfield units",
            )
        if image.texts("RescaleSlope") or image.texts("RescaleIntercept"):
            raise SeriesUnusable(
                "modality-lut", "the CT has a Modality LUT beside its rescale, so its HU are in doubt; send one of both"
            )
    elif image.number("RescaleSlope") is None or image.number("RescaleIntercept") is None:
        raise SeriesUnusable(
            "rescale-missing",
            "the CT has no RescaleSlope and RescaleIntercept, so its HU are unknown; send the original",
        )
    return Unit.HU


def _pet_unit(image: SourceImage) -> Unit:
    units, suv_type = image.text("Units"), image.text("SUVType")
    if units not in PET_UNITS:
        raise SeriesUnusable(
            "units-unknown", f"PET Units {units or '(absent)'} cannot be used; send the series in BQML, GML or counts"
        )
    if units == "GML" and suv_type not in ("", "BW"):  # PS3.3 C.8.9.1: absent means body weight
        raise SeriesUnusable(
            "suv-type", f"the PET holds SUV of type {suv_type}; send it in BQML, or as SUV by body weight (BW)"
        )
    if image.number("RescaleSlope") is None or image.number("RescaleIntercept") is None:
        raise SeriesUnusable("rescale-missing", "a PET image has no RescaleSlope and RescaleIntercept; send it again")
    return PET_UNITS[units]


def check_corrections(image: SourceImage) -> None:
    """What a PET header says of its corrections must not contradict itself; attenuation and decay decide on use."""
    corrected = image.texts("CorrectedImage")
    method = image.text("AttenuationCorrectionMethod")
    decay = image.text("DecayCorrection") or "NONE"
    if "ATTN" not in corrected and names_a_method(method):
        raise SeriesUnusable(
            "corrections-contradict",
            "AttenuationCorrectionMethod names a method, but CorrectedImage has no ATTN; have the header corrected",
        )
    if (decay != "NONE") != ("DECY" in corrected):
        raise SeriesUnusable(
            "corrections-contradict",
            f"DecayCorrection is {decay}, and DECY is {'' if 'DECY' in corrected else 'not '}in CorrectedImage; "
            "have the header corrected",
        )


def acquisition_of(images: Sequence[SourceImage]) -> Acquisition:
    """What the first image says for all of them; what must agree has been checked."""
    first = images[0]
    duration_ms = first.number("ActualFrameDuration")
    return Acquisition(
        modality=first.text("Modality"),
        bits_stored=max(int(image.number("BitsStored") or 16) for image in images),
        image_type=first.texts("ImageType"),
        kvp=first.number("KVP"),
        convolution_kernel="\\".join(first.texts("ConvolutionKernel")),
        body_part_examined=first.text("BodyPartExamined"),
        corrected_image=first.texts("CorrectedImage"),
        units=first.text("Units"),
        attenuation_correction_method=first.text("AttenuationCorrectionMethod"),
        radiopharmaceutical=_nuclide(first, "Radiopharmaceutical"),
        frame_duration_s=duration_ms / 1000 if duration_ms is not None and first.text("Modality") == "PT" else None,
        suv_bw_factor=suv_bw_factor(images),
        metal_artifact_reduction=next(filter(None, map(metal_reduction_words, images)), ""),
    )


def suv_bw_factor(images: Sequence[SourceImage]) -> float | None:
    """SUVbw per Bq/ml: body weight in g over the dose left at the time to which the values are decay corrected.

    None where the headers leave a part open, where the series holds no corrected Bq/ml, or where Series Time lies
    after an acquisition and so cannot be the reference time (QIBA FDG-PET profile, appendix G).
    """
    first = images[0]
    if first.text("Units") != "BQML" or not {"ATTN", "DECY"} <= set(first.texts("CorrectedImage")):
        return None
    weight_kg = first.number("PatientWeight")
    dose_bq, half_life_s = _of_nuclide(first, "RadionuclideTotalDose"), _of_nuclide(first, "RadionuclideHalfLife")
    if not weight_kg or weight_kg <= 0 or not dose_bq or dose_bq <= 0:
        return None
    if first.text("DecayCorrection") == "ADMIN":
        return weight_kg * 1000 / dose_bq
    elapsed = _from_injection_to_series(images)
    if first.text("DecayCorrection") != "START" or not half_life_s or half_life_s <= 0 or elapsed is None:
        return None
    return weight_kg * 1000 / (dose_bq * 2 ** (-elapsed.total_seconds() / half_life_s))


def _from_injection_to_series(images: Sequence[SourceImage]) -> timedelta | None:
    first = images[0]
    series = _moment(first.text("SeriesDate") + first.text("SeriesTime"))
    acquired = [_moment(image.text("AcquisitionDate") + image.text("AcquisitionTime")) for image in images]
    said = _nuclide(first, "RadiopharmaceuticalStartDateTime")
    time = _nuclide(first, "RadiopharmaceuticalStartTime")
    zone = first.text("TimezoneOffsetFromUTC")
    injected = _local(said, zone) if said else _moment(first.text("SeriesDate") + time) if time else None
    known = [moment for moment in acquired if moment is not None]
    if series is None or injected is None or len(known) < len(acquired) or series > min(known):
        return None
    elapsed = series - injected
    return elapsed if timedelta(0) <= elapsed < timedelta(days=1) else None


def _local(text: str, zone: str) -> datetime | None:
    """A date and time in the zone of the series' other times; None where it has an offset and theirs is not known."""
    digits, offset = (OFFSET.sub("", text), found[0]) if (found := OFFSET.search(text)) else (text, "")
    moment = _moment(digits)
    if moment is None or not offset or offset == zone:
        return moment
    return moment - _shift(offset) + _shift(zone) if OFFSET.fullmatch(zone) else None


def _shift(offset: str) -> timedelta:
    return (-1 if offset[0] == "-" else 1) * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))


def _moment(text: str) -> datetime | None:
    """A DICOM date and time without offset; a fraction is optional."""
    digits = text.replace(":", "").strip()
    for form in ("%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S", "%Y%m%d%H%M"):
        try:
            return datetime.strptime(digits, form)
        except ValueError:
            continue
    return None


def _nuclide(image: SourceImage, keyword: str) -> str:
    """What is said of the radiopharmaceutical; empty where nothing is, or several are named."""
    items = image.items("RadiopharmaceuticalInformationSequence")
    return image.of_item(items[0], keyword) if len(items) == 1 else ""


def _of_nuclide(image: SourceImage, keyword: str) -> float | None:
    """A number said of the radiopharmaceutical; None where there is no finite one."""
    try:
        number = float(_nuclide(image, keyword))
    except ValueError:
        return None
    return number if isfinite(number) else None
