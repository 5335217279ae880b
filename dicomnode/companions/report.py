"""The pipeline's measurements as a structured report that machines read: Comprehensive 3D SR, TID 1500."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicomnode.companions import statements
from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import REPORT, harmonise, neutral_dataset
from dicomnode.companions.image_references import evidence, instances_of
from dicomnode.companions.measurement_codes import COUNTS, CodedName, coded_name, number_of
from dicomnode.companions.observer import node_as_observer
from dicomnode.companions.segmentation import meaning_of
from dicomnode.companions.shown_slices import shown_slices
from dicomnode.derived_instance import DerivedInstance
from dicomnode.provenance import ascii_text
from dicomnode.uids import MANUFACTURER, deterministic_uid

PROCEDURES: Mapping[str, Code] = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
"""What was reported on, of CID 100."""
QUALITATIVE = Code("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = Code("121106", "DCM", "Comment")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


def measurement_report(derivation: Derivation, *, segmentations: Mapping[str, DerivedInstance]) -> DerivedInstance:
    """The report; segmentations: mask name -> the Segmentation made of it, for the masks that have one.

    Measurements whose name begins with a mask's belong to that mask's region, the others to the whole series.
    """
    library = [neutral_dataset(derivation.images[k]) for k in shown_slices(derivation)]
    headers = {name: _header(instance) for name, instance in sorted(segmentations.items())}
    rest = dict(sorted(derivation.outcome.measurements.items()))
    groups = []
    for name in sorted(headers, key=lambda each: (-len(each), each)):  # metal_core_ml is of metal_core, not of metal
        own = {measured: rest.pop(measured) for measured in list(rest) if measured.startswith(f"{name}_")}
        groups.append(_region(derivation, name, headers[name], own))
    groups.append(_whole_series(derivation, rest))
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=node_as_observer(derivation)),
        procedure_reported=PROCEDURES[derivation.source.acquisition.modality],
        imaging_measurements=groups,
        referenced_images=[image for image in library if _is_described(image)] or None,
    )
    content[0].ContentSequence.append(_remarks(derivation))
    made: Dataset = Comprehensive3DSR(
        evidence=evidence(derivation, list(headers.values())),
        content=content,
        **derivation.placed(REPORT),
        is_complete=True,
        is_final=True,
        is_verified=False,
    )
    return harmonise(made, derivation, role=REPORT, description="measurements", companions=list(segmentations.values()))


def _header(instance: DerivedInstance) -> Dataset:
    return dcmread(BytesIO(instance.content), stop_before_pixels=True)


def _is_described(image: Dataset) -> bool:
    """Whether highdicom can put the image in the image library: single-frame, nothing empty, though it may be so."""
    wanted = "PixelSpacing SliceThickness ImagePositionPatient ImageOrientationPatient FrameOfReferenceUID"
    return "NumberOfFrames" not in image and all(image.get(keyword) not in (None, "") for keyword in wanted.split())


def _region(
    derivation: Derivation, name: str, segmentation: Dataset, measurements: Mapping[str, float]
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """The measurements of one mask, with the segment that shows it."""
    segment = segmentation.SegmentSequence[0]
    mask = derivation.outcome.masks[name]
    counts = [
        _measurement(COUNTS["slices"], float(mask.any(axis=(1, 2)).sum())),
        _measurement(COUNTS["voxels"], float(np.count_nonzero(mask))),
    ]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(derivation, name, segment),
        referenced_segment=ReferencedSegment(
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            segment_number=int(segment.SegmentNumber),
            source_series=SourceSeriesForSegmentation(derivation.images[0].text("SeriesInstanceUID")),
        ),
        finding_type=meaning_of(name).kind,
        algorithm_id=_algorithm(derivation),
        measurements=[*_measurements(measurements), *counts],
    )


def _whole_series(derivation: Derivation, measurements: Mapping[str, float]) -> MeasurementsAndQualitativeEvaluations:
    """The measurements of the series as a whole; the count of unchanged slices is always among them."""
    sources = [
        SourceImageForMeasurementGroup(*instance, referenced_frame_numbers=list(frames) or None)
        for instance, frames in instances_of(derivation.images).items()
    ]
    unchanged = _measurement(COUNTS["unchanged"], float(len(derivation.outcome.unchanged)))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(derivation, "series", Dataset()),
        algorithm_id=_algorithm(derivation),
        measurements=[*_measurements(measurements), unchanged],
        source_images=sources,
    )


def _tracking(derivation: Derivation, name: str, segment: Dataset) -> TrackingIdentifier:
    """The segment's own tracking where it has one, so that both objects speak of the same thing."""
    parts = [derivation.series_uid(REPORT), "tracking", name]
    return TrackingIdentifier(
        uid=str(segment.get("TrackingUID") or deterministic_uid(derivation.job.deployment_uuid, parts)),
        identifier=str(segment.get("TrackingID") or ascii_text(f"{derivation.card.name} {name}", longest=64)),
    )


def _measurements(measurements: Mapping[str, float]) -> list[Measurement]:
    """What has a number; what has none is said in words among the remarks."""
    return [_measurement(coded_name(name), float(value)) for name, value in measurements.items() if np.isfinite(value)]


def _measurement(name: CodedName, value: float) -> Measurement:
    return Measurement(name=name.concept, value=number_of(name, value), unit=name.unit)


def _algorithm(derivation: Derivation) -> AlgorithmIdentification:
    card = derivation.card
    settings = {"method": card.method, **card.settings}
    return AlgorithmIdentification(
        name=ascii_text(card.name, longest=64),
        version=ascii_text(card.version, longest=64),
        parameters=[ascii_text(f"{name} = {value}", longest=1000) for name, value in sorted(settings.items())],
        family=ARTIFICIAL_INTELLIGENCE if card.weights_sha256 else None,
        manufacturer=MANUFACTURER,
    )


def _remarks(derivation: Derivation) -> ContainerContentItem:
    """In words: how the result may be used, what was done, what to know (TID 1500, qualitative evaluations)."""
    texts = (
        statements.qualification(derivation),
        statements.COMPARE,
        *statements.what_was_done(derivation),
        *statements.remarks(derivation),
    )
    container = ContainerContentItem(name=CodedConcept(*QUALITATIVE[:3]), relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence(
        [TextContentItem(name=COMMENT, value=text, relationship_type="CONTAINS") for text in texts]
    )
    return container
