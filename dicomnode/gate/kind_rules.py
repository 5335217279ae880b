"""What must hold of the header of a derived CT, PET or MR image by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from pydicom.dataset import Dataset

from dicomnode.corrections import names_a_method
from dicomnode.gate.image_rules import IMAGE_RULES
from dicomnode.gate.rules import Finding, asked, is_synthesized, number, text, texts

NOT_OF_A_SYNTHETIC_CT = (
    *("ConvolutionKernel", "ExposureTime", "XRayTubeCurrent", "Exposure", "ExposureInuAs", "FilterType", "CTDIvol"),
    *("GeneratorPower", "FocalSpots", "GantryDetectorTilt", "SpiralPitchFactor", "IrradiationEventUID"),
)
PIXEL_RULE = {"CT": "T1", "PT": "P3", "MR": "M2"}


def header_findings(dataset: Dataset) -> Iterator[Finding]:
    """Everything that can be asked of a derived image's data set alone, without its pixels and its source."""
    return chain.from_iterable(rule(dataset) for rule in header_rules(text(dataset, "Modality")))


def header_rules(modality: str) -> tuple[Callable[[Dataset], Iterator[Finding]], ...]:
    """What `header_findings` asks of an image of that modality, each part by itself."""
    return (*IMAGE_RULES, KINDS[modality]) if modality in KINDS else IMAGE_RULES


def _pixel_module(dataset: Dataset, rule: str, *, bits: int, signed: bool | None) -> Iterator[Finding]:
    yield asked(rule, number(dataset, "SamplesPerPixel") == 1, "SamplesPerPixel is not 1")
    yield asked(rule, number(dataset, "BitsAllocated") == 16, "BitsAllocated is not 16")
    yield asked(rule, number(dataset, "BitsStored") == bits, f"BitsStored is not {bits}")
    yield asked(rule, number(dataset, "HighBit") == bits - 1, "HighBit is not BitsStored - 1")
    said = number(dataset, "PixelRepresentation")
    right = said in (0, 1) if signed is None else said == int(signed)
    yield asked(rule, right, "PixelRepresentation is not what the values need")


def _ct(dataset: Dataset) -> Iterator[Finding]:
    kind = (*texts(dataset, "ImageType"), "", "", "", "", "")
    yield asked("C11", kind[1:3] == ("SECONDARY", "AXIAL"), "a derived CT's ImageType is not SECONDARY and AXIAL")
    yield asked("C11", not kind[3] and kind[4], "ImageType does not name the step in its fifth value")
    is_old = number(dataset, "BitsStored") == 12
    yield from _pixel_module(dataset, "T1", bits=12 if is_old else 16, signed=not is_old)
    shown = text(dataset, "PhotometricInterpretation")
    yield asked("T1", shown == "MONOCHROME2", "a CT is not MONOCHROME2")
    yield asked("T1", text(dataset, "RescaleType") == "HU", "a CT's RescaleType is not HU")
    yield asked("T1", number(dataset, "RescaleSlope") == 1, "a CT's RescaleSlope is not 1")
    intercept = -1024 if is_old else 0
    yield asked("T1", number(dataset, "RescaleIntercept") == intercept, f"a CT's RescaleIntercept is not {intercept}")
    yield asked("T3", "KVP" in dataset and "AcquisitionNumber" in dataset, "KVP or AcquisitionNumber is not there")
    yield from _position(dataset)
    if is_synthesized(dataset):
        is_empty = not text(dataset, "KVP") and not text(dataset, "AcquisitionNumber")
        yield asked("T3", is_empty, "a synthetic CT names a tube voltage or an acquisition")
        for keyword in NOT_OF_A_SYNTHETIC_CT:
            yield asked("T3", keyword not in dataset, f"a synthetic CT has {keyword}")


def _pet(dataset: Dataset) -> Iterator[Finding]:
    kind = (*texts(dataset, "ImageType"), "", "", "", "")
    yield asked("C11", kind[1] == "PRIMARY", "a PET ImageType must be PRIMARY")
    yield asked("C11", not kind[2] and kind[3], "ImageType does not name the step in its fourth value")
    yield from _pixel_module(dataset, "P3", bits=16, signed=True)
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    is_positive = slope is not None and math.isfinite(slope) and slope > 0
    yield asked(
        "P3", is_positive and len(str(dataset.get("RescaleSlope"))) <= 16, "a PET's RescaleSlope is not positive"
    )
    yield asked("P3", intercept == 0, "a PET's RescaleIntercept is not 0")
    yield asked("P3", text(dataset, "PhotometricInterpretation") == "MONOCHROME2", "a PET is not MONOCHROME2")
    corrected = texts(dataset, "CorrectedImage")
    has_method = names_a_method(text(dataset, "AttenuationCorrectionMethod"))
    yield asked("P2", not has_method or "ATTN" in corrected, "AttenuationCorrectionMethod without ATTN")
    is_decayed = (text(dataset, "DecayCorrection") or "NONE") != "NONE"
    yield asked("P2", is_decayed == ("DECY" in corrected), "DecayCorrection and CorrectedImage disagree")
    yield asked("P2", text(dataset, "Units"), "Units is missing")
    counts = text(dataset, "CountsSource") or "EMISSION"
    yield asked("P2", counts == "EMISSION", "CountsSource is not EMISSION")
    yield from _pet_indices(dataset)
    yield asked("P7", "RescaleType" not in dataset, "a PET image has no RescaleType")
    yield asked("P7", "PatientPosition" not in dataset, "PatientPosition beside the orientation codes")
    codes = ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence")
    yield asked("P7", all(keyword in dataset for keyword in codes), "the orientation codes are missing")


def _pet_indices(dataset: Dataset) -> Iterator[Finding]:
    """ImageIndex counts the slices, in a dynamic or gated series those of every volume (C.8.9.4.1.9)."""
    count, index = number(dataset, "NumberOfSlices") or 0, number(dataset, "ImageIndex") or 0
    yield asked("P4", count >= 1, "NumberOfSlices is missing")
    yield asked("P4", index >= 1, "ImageIndex is below 1")
    volumes: Mapping[str, tuple[str, ...]] = {
        "DYNAMIC": ("NumberOfTimeSlices",),
        "GATED": ("NumberOfRRIntervals", "NumberOfTimeSlots"),
    }
    factors = [number(dataset, keyword) for keyword in volumes.get(text(dataset, "SeriesType"), ())]
    known = [factor for factor in factors if factor]
    if len(known) == len(factors):
        largest = count * math.prod(known)
        yield asked("P4", index <= largest, f"ImageIndex is above {largest:g}, the number of images it counts")


def _mr(dataset: Dataset) -> Iterator[Finding]:
    kind = (*texts(dataset, "ImageType"), "", "", "", "")
    yield asked("C11", kind[1] == "SECONDARY" and kind[2], "a derived MR's ImageType is not SECONDARY with its kind")
    yield asked("C11", kind[3], "ImageType does not name the step in its fourth value")
    yield from _pixel_module(dataset, "M2", bits=16, signed=None)
    shown = text(dataset, "PhotometricInterpretation")
    yield asked("M2", shown in ("MONOCHROME1", "MONOCHROME2"), "an MR is neither MONOCHROME1 nor MONOCHROME2")
    slope = number(dataset, "RescaleSlope")
    yield asked("M2", "RescaleSlope" not in dataset or slope, "an MR's RescaleSlope is 0 or empty")
    paired = ("RescaleSlope" in dataset) == ("RescaleIntercept" in dataset)
    yield asked("M2", paired, "an MR has only one of RescaleSlope and RescaleIntercept")
    for keyword in ("ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength"):
        yield asked("M1", keyword in dataset, f"{keyword} is not there, not even empty")
    yield from _position(dataset)


def _position(dataset: Dataset) -> Iterator[Finding]:
    """How the patient lay, said once (PS3.3 C.7.3.1.1.2)."""
    yield asked("C29", "PatientPosition" in dataset, "PatientPosition is not there, not even empty")
    yield asked("C29", "PatientOrientationCodeSequence" not in dataset, "orientation codes beside PatientPosition")


KINDS: Mapping[str, Callable[[Dataset], Iterator[Finding]]] = {"CT": _ct, "PT": _pet, "MR": _mr}
