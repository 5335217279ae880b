"""What a single-frame PET image says of its values, corrections and times, from an enhanced PET."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from dicomnode.multiframe.attributes import CORRECTED_IMAGE, PET_UNITS
from dicomnode.multiframe.frame import DATE_TIME, Frame, moment

PHASES = (
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),
    ("RespiratorySynchronizationSequence", "NominalRespiratoryTriggerDelayTime"),
)


FRAME_TIMES = ("FrameReferenceDateTime", "FrameAcquisitionDateTime")


def pet_of_instance(frames: Sequence[Frame]) -> dict[str, Any]:
    """What holds for the whole instance: the kind of series, the corrections, the reference of its times."""
    first = frames[0]
    corrected = [term for flag, term in CORRECTED_IMAGE.items() if _flag(first, flag)]
    made: dict[str, Any] = {
        "CorrectedImage": corrected,
        "SeriesType": [_series_type(frames), "IMAGE"],
        **(reference := _reference(first, is_corrected="DECY" in corrected)),
        **_counts(frames),
    }
    _refuse_zones(frames, counts_from_series="SeriesTime" not in reference)
    if str(first.root.get("TypeOfDetectorMotion") or "") == "STATIONARY":
        made["TypeOfDetectorMotion"] = "NONE"  # PS3.3 C.8.9.1: a stationary gantry
    if "ATTN" in corrected:
        made["AttenuationCorrectionMethod"] = (
            " ".join(
                word
                for keyword in ("AttenuationCorrectionSource", "AttenuationCorrectionTemporalRelationship")
                if (word := str(first.root.get(keyword) or "").strip())
            )
            or "not named"
        )
    if "RAN" not in corrected:
        made["RandomsCorrectionMethod"] = "NONE"
    return made


def slices_of(frames: Sequence[Frame]) -> int:
    """How many places the frames lie at: the slices of each point in time."""
    return len({frame.text("PlanePositionSequence", "ImagePositionPatient") for frame in frames})


def _counts(frames: Sequence[Frame]) -> dict[str, Any]:
    """How many slices, and how often each."""
    match _series_type(frames):
        case "DYNAMIC":
            return {"NumberOfTimeSlices": len(_distinct(frames, "FrameContentSequence", "TemporalPositionIndex"))}
        case "GATED":
            windows = _distinct(frames, "CardiacSynchronizationSequence", "LowRRValue")
            slots = max(len(_distinct(frames, *phase)) for phase in PHASES)
            return {"NumberOfRRIntervals": max(len(windows), 1), "NumberOfTimeSlots": max(slots, 1)}
    return {}


def _flag(frame: Frame, keyword: str) -> bool:
    """A correction that was made or was not; refused where the object does not say (Type 1)."""
    said = str(frame.root.get(keyword) or "").strip()
    if said not in ("YES", "NO"):
        raise frame.unusable("multi-frame-corrections", f"has {keyword} {said or '(absent)'}; correct the sender")
    return said == "YES"


def _distinct(frames: Sequence[Frame], macro: str, keyword: str) -> set[str]:
    return {text for frame in frames if (text := frame.text(macro, keyword))}


def _series_type(frames: Sequence[Frame]) -> str:
    root = frames[0].root
    technique = str(root.get("CardiacSynchronizationTechnique") or "NONE").strip()
    if technique != "NONE" or any(len(_distinct(frames, *phase)) > 1 for phase in PHASES):
        return "GATED"
    if len(_distinct(frames, "FrameContentSequence", "TemporalPositionIndex")) > 1:
        return "DYNAMIC"
    beds = _distinct(frames, "FrameContentSequence", "FrameAcquisitionDateTime")
    return "WHOLE BODY" if len(beds) > 1 else "STATIC"


def _reference(frame: Frame, *, is_corrected: bool) -> dict[str, Any]:
    """DecayCorrection, and the Series Date and Time that it and all other times count from (PS3.3 C.8.9.1.1.4).

    An enhanced PET names the moment itself. Where that is the injection, the series keeps its own time; else the
    moment becomes the series' time, which is what START says.
    """
    if not is_corrected:
        return {"DecayCorrection": "NONE"}
    corrected_to = str(frame.root.get("DecayCorrectionDateTime") or "").strip()
    injections = _injections(frame)
    reference = frame.local(corrected_to)
    if not reference:
        raise frame.unusable(
            "multi-frame-decay-time", "is corrected for decay and does not say to which time; correct the sender"
        )
    offsets = {found[3] for text in (corrected_to, *injections) if text and (found := DATE_TIME.fullmatch(text))}
    if not frame.zone and len(offsets) > 1:
        raise frame.unusable("multi-frame-decay-time", "gives its times in several time zones; correct the sender")
    if any((start := frame.local(text)) and moment(start) == moment(reference) for text in injections):
        return {"DecayCorrection": "ADMIN"}
    return {"DecayCorrection": "START", "SeriesDate": reference[:8], "SeriesTime": reference[8:].ljust(6, "0")}


def _refuse_zones(frames: Sequence[Frame], *, counts_from_series: bool) -> None:
    """Times with and without an offset, or with several, are hours apart where the instance does not say its own."""
    first = frames[0]
    used = {frame.text("FrameContentSequence", keyword) for frame in frames for keyword in FRAME_TIMES}
    used |= {
        str(first.root.get(keyword) or "").strip() for keyword in ("DecayCorrectionDateTime", "AcquisitionDateTime")
    }
    used |= set(_injections(first))
    offsets = {found[3] or "" for text in used if text and (found := DATE_TIME.fullmatch(text))}
    if counts_from_series:
        offsets.add("")  # SeriesDate and SeriesTime have no place for one
    if not first.zone and len(offsets) > 1:
        raise first.unusable(
            "multi-frame-times",
            "gives its times in several time zones and has no TimezoneOffsetFromUTC; correct the sender",
        )


def _injections(frame: Frame) -> list[str]:
    items = frame.root.get("RadiopharmaceuticalInformationSequence") or ()
    return [str(item.get("RadiopharmaceuticalStartDateTime") or "").strip() for item in items]


def pet_of_frame(frame: Frame, series_date_time: str) -> dict[str, Any]:
    """What each frame says of its values and times; `series_date_time`: the digits that its times count from."""
    made: dict[str, Any] = {"ImageIndex": frame.number, **_values(frame), **_reconstruction(frame)}
    duration = frame.number_of("FrameContentSequence", "FrameAcquisitionDuration")
    if duration is not None:
        made |= {"ActualFrameDuration": round(duration), "FrameTime": format_number_as_ds(duration)}
    trigger = frame.number_of("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")
    if trigger is not None:
        made["TriggerTime"] = format_number_as_ds(trigger)
    reference = frame.local(frame.text("FrameContentSequence", "FrameReferenceDateTime"))
    if not reference or len(series_date_time) < 12:
        raise frame.unusable(
            "multi-frame-times", "has no FrameReferenceDateTime, or its series no date and time; correct the sender"
        )
    since = moment(reference) - moment(series_date_time)
    if frame.root.get("DecayCorrected") == "YES" and not frame.text("PETFrameCorrectionFactorsSequence", "DecayFactor"):
        raise frame.unusable("multi-frame-decay-factor", "is corrected for decay and has no DecayFactor; correct it")
    made["FrameReferenceTime"] = format_number_as_ds(since.total_seconds() * 1000)
    return made


def _values(frame: Frame) -> dict[str, Any]:
    """Units with the way from stored values to them."""
    found = _mapping(frame)
    if found is not None:
        units, item = found
        slope, intercept = float(item.RealWorldValueSlope), float(item.RealWorldValueIntercept)
        return {
            "Units": units,
            "RescaleSlope": format_number_as_ds(slope),
            "RescaleIntercept": format_number_as_ds(intercept),
        }
    named = frame.text("PixelValueTransformationSequence", "RescaleType")
    if named in PET_UNITS.values():
        return {"Units": named}
    raise frame.unusable(
        "multi-frame-units",
        "has no linear real world value mapping to a known PET unit; send single-frame PET images",
    )


def _mapping(frame: Frame) -> tuple[str, Dataset] | None:
    """The units with the linear mapping to them, the most useful units first; None where there is no single one."""
    linear = [
        item
        for item in frame.items("RealWorldValueMappingSequence")
        if "RealWorldValueSlope" in item and "RealWorldValueIntercept" in item
    ]
    for wanted, units in PET_UNITS.items():
        to_units = [item for item in linear if wanted in _unit_codes(item)]
        if to_units:
            return (units, to_units[0]) if len(to_units) == 1 else None  # several: each for a part of the values
    return None


def _unit_codes(item: Dataset) -> set[str]:
    return {str(code.get("CodeValue", "")) for code in item.get("MeasurementUnitsCodeSequence") or ()}


def _reconstruction(frame: Frame) -> dict[str, Any]:
    macro = "PETReconstructionSequence"
    algorithm = frame.text(macro, "ReconstructionAlgorithm")
    if not algorithm and frame.text(macro, "IterativeReconstructionMethod") == "YES":
        algorithm = "iterative"
    counted = "".join(
        f"{number}{unit}"
        for keyword, unit in (("NumberOfIterations", "i"), ("NumberOfSubsets", "s"))
        if (number := frame.text(macro, keyword))
    )
    return {"ReconstructionMethod": f"{algorithm} {counted}".strip()} if algorithm else {}
