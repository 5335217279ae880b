"""What a single-frame CT or MR image says that an enhanced one says in other words, and its kind and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.valuerep import format_number_as_ds

from dicomnode.multiframe.attributes import CALCULATION_TOKENS, COMPONENTS, FRAME_TYPES
from dicomnode.multiframe.frame import Frame


def kind_and_time(frame: Frame, modality: str) -> dict[str, Any]:
    """What is said of the frame in place of what the instance says: ImageType and the time of acquisition."""
    made: dict[str, Any] = {"ImageType": image_type(frame, modality)}
    acquired = frame.local(frame.text("FrameContentSequence", "FrameAcquisitionDateTime"))
    if not acquired:
        acquired = frame.local(str(frame.root.get("AcquisitionDateTime") or ""))
    if acquired:
        made |= {"AcquisitionDateTime": acquired, "AcquisitionDate": acquired[:8], "AcquisitionTime": acquired[8:]}
    return made


def image_type(frame: Frame, modality: str) -> list[str]:
    """The single-frame ImageType; what makes the frame another thing than a slice as acquired stays as a word."""
    macro = next((name for name in FRAME_TYPES if frame.items(name)), "")
    said = frame.value(macro, "FrameType") or frame.root.get("ImageType") or ()
    words = [str(word).strip() for word in ([said] if isinstance(said, str) else said)] + [""] * 4
    first, second, flavor, contrast = words[:4]

    def detail(keyword: str) -> str:
        return frame.text(macro, keyword) or str(frame.root.get(keyword) or "").strip()

    component = detail("ComplexImageComponent")
    if "MIXED" in (first, second, flavor, contrast, component):
        raise frame.unusable("multi-frame-mixed", "says only that it is of mixed kind; send single-frame images")
    if detail("VolumetricProperties") == "DISTORTED":
        raise frame.unusable("multi-frame-distorted", "is a curved reformat without true positions; correct the rule")
    technique = detail("VolumeBasedCalculationTechnique")
    tokens = [word for word in (contrast, CALCULATION_TOKENS.get(technique, technique)) if word not in ("", "NONE")]
    match modality:
        case "CT":
            is_localizer = flavor in ("LOCALIZER", "SCOUT")
            plain = flavor in ("", "AXIAL", "VOLUME") or is_localizer
            head = [first, second, "LOCALIZER" if is_localizer else "AXIAL", ""]
            tokens = tokens if plain else [flavor, *tokens]
        case "PT":
            head = [first, second or "PRIMARY", ""]
            tokens = tokens if flavor in ("", "VOLUME") else [flavor, *tokens]
        case _:
            head = [first, second, COMPONENTS.get(component, component) or flavor or "OTHER"]
            tokens = tokens if not component or flavor in ("", "VOLUME") else [flavor, *tokens]
    tail = [word for word in words[4:] if word]
    whole = [*head, *tokens, *tail]
    while whole and not whole[-1]:
        whole.pop()
    return whole


def ct_attributes(frame: Frame) -> dict[str, Any]:
    """Attributes of a single-frame CT that its enhanced object holds under another name or representation."""
    exposure = "CTExposureSequence"
    return {
        **_whole(frame, exposure, "ExposureTimeInms", "ExposureTime"),
        **_whole(frame, exposure, "XRayTubeCurrentInmA", "XRayTubeCurrent"),
        **_whole(frame, exposure, "ExposureInmAs", "Exposure"),
        **_whole(frame, "FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    }


def _whole(frame: Frame, macro: str, keyword: str, target: str) -> dict[str, Any]:
    number = frame.number_of(macro, keyword)
    return {} if number is None else {target: round(number)}


def mr_attributes(frame: Frame) -> dict[str, Any]:
    """Attributes of a single-frame MR that its enhanced object holds under another name or representation."""
    timing, modifier = "MRTimingAndRelatedParametersSequence", "MRModifierSequence"
    made: dict[str, Any] = {
        "ScanningSequence": scanning_sequence(frame),
        "SequenceVariant": sequence_variant(frame),
        "ScanOptions": scan_options(frame),
        **_whole(frame, timing, "RFEchoTrainLength", "EchoTrainLength"),
        **_whole(frame, "FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
        **_decimal(frame, "MREchoSequence", "EffectiveEchoTime", "EchoTime"),
        **_decimal(frame, "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    }
    times = frame.value(modifier, "InversionTimes")
    if times is not None and (isinstance(times, float) or len(times) == 1):
        made |= _decimal(frame, modifier, "InversionTimes", "InversionTime")
    for keyword, target in (("ResonantNucleus", "ImagedNucleus"), ("PulseSequenceName", "SequenceName")):
        if frame.root.get(keyword):
            made[target] = str(frame.root.get(keyword))[:16]
    frequency = frame.value("MRImagingModifierSequence", "TransmitterFrequency")
    if isinstance(frequency, float):
        made["ImagingFrequency"] = format_number_as_ds(frequency)
    return made


def _decimal(frame: Frame, macro: str, keyword: str, target: str) -> dict[str, Any]:
    number = frame.number_of(macro, keyword)
    return {} if number is None else {target: format_number_as_ds(number)}


def scanning_sequence(frame: Frame) -> list[str]:
    """ScanningSequence: SE, GR, EP, IR; RM, a research mode, where the object does not say how it was scanned."""
    sequences: Mapping[str, list[str]] = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
    found = list(sequences.get(_said(frame, "EchoPulseSequence"), []))
    if _said(frame, "EchoPlanarPulseSequence") == "YES":
        found.append("EP")
    if frame.text("MRModifierSequence", "InversionRecovery") == "YES":
        found.append("IR")
    return found or ["RM"]


def sequence_variant(frame: Frame) -> list[str]:
    """SequenceVariant: the terms of PS3.3 C.8.3.1 that the enhanced attributes speak of."""
    steady = _said(frame, "SteadyStatePulseSequence")
    modifier = "MRModifierSequence"
    terms = {
        "SK": _said(frame, "SegmentedKSpaceTraversal") in ("PARTIAL", "FULL"),
        "MTC": frame.text("MRImagingModifierSequence", "MagnetizationTransfer") in ("ON_RESONANCE", "OFF_RESONANCE"),
        "SS": steady not in ("", "NONE", "TIME_REVERSED"),
        "TRSS": steady == "TIME_REVERSED",
        "SP": frame.text(modifier, "Spoiling") not in ("", "NONE"),
        "MP": frame.text(modifier, "T2Preparation") == "YES",
        "OSP": _said(frame, "OversamplingPhase") not in ("", "NONE"),
    }
    return [term for term, holds in terms.items() if holds] or ["NONE"]


def scan_options(frame: Frame) -> list[str]:
    """ScanOptions: the terms of PS3.3 C.8.3.1 that the enhanced attributes speak of; empty for none."""
    modifier = "MRModifierSequence"
    partial = frame.text(modifier, "PartialFourier") == "YES"
    direction = frame.text(modifier, "PartialFourierDirection")
    terms = {
        "PER": _said(frame, "RectilinearPhaseEncodeReordering") not in ("", "LINEAR", "UNKNOWN"),
        "RG": _said(frame, "RespiratoryMotionCompensationTechnique") not in ("", "NONE"),
        "CG": _said(frame, "CardiacSynchronizationTechnique") not in ("", "NONE"),
        "FC": frame.text(modifier, "FlowCompensation") not in ("", "NONE"),
        "PFF": partial and direction in ("FREQUENCY", "COMBINATION"),
        "PFP": partial and direction in ("PHASE", "COMBINATION"),
        "SP": frame.text(modifier, "SpatialPresaturation") not in ("", "NONE"),
        "FS": "FAT" in _said(frame, "SpectrallySelectedSuppression"),
    }
    return [term for term, holds in terms.items() if holds]


def _said(frame: Frame, keyword: str) -> str:
    return str(frame.root.get(keyword) or "").strip()
