"""What was changed, and how sure a result is, as DICOM Parametric Maps of real values (S3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.grid import derived_headers, source_headers
from dicomnode.companions.harmonise import CHANGE_MAP, UNCERTAINTY_MAP, harmonise
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault
from dicomnode.uids import CODING_SCHEME, MANUFACTURER, MODEL_NAME
from inference.volume import Unit

UNITS: Mapping[Unit, Code] = {
    Unit.HU: Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    Unit.BQ_PER_ML: Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    Unit.SUV_BW: Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
    Unit.PROPORTIONAL_COUNTS: Code("{propcounts}/s", "UCUM", "Proportional to counts per second"),
    Unit.PER_CM: Code("/cm", "UCUM", "/Centimeter"),
    Unit.ARBITRARY: Code("1", "UCUM", "no units"),
}
"""As PS3.16 CID 83 and 84 write them."""

CHANGE = Code("CHANGE", CODING_SCHEME, "Change of the value by processing")
STANDARD_DEVIATION = Code("113061", "DCM", "Standard Deviation")

PARTS_WITHOUT_HEAD = """
    ABDOMEN ABDOMENPELVIS ANKLE AORTA ARM BACK BLADDER BREAST CHEST CHESTABDOMEN CHESTABDPELVIS CLAVICLE COCCYX
    COLON ELBOW FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEART HIP HUMERUS KIDNEY KNEE LEG LIVER LSPINE LSSPINE LUNG
    MEDIASTINUM PANCREAS PELVIS PROSTATE RECTUM RIB SCAPULA SHOULDER SPLEEN SSPINE STERNUM STOMACH THIGH THUMB TIBIA TOE
    TSPINE UTERUS WRIST
"""
"""Body parts in whose images nobody is known by the face; any other, or none said, may show one."""


def change_map(derivation: Derivation) -> DerivedInstance | None:
    """Result minus source, from the first changed slice to the last; None when nothing changed or the unit did."""
    source, made, card = derivation.source, derivation.outcome.volume, derivation.card
    if made.unit != source.unit or card.result_modality != card.modality:
        return None
    change = _on_grid(made.values - source.values, derivation)
    if source.outside is not None:
        change[source.outside] = 0  # the derived image holds the source's padding there (T4)
    changed = np.flatnonzero(change.any(axis=(1, 2)))
    if not changed.size:
        return None
    slices = slice(int(changed[0]), int(changed[-1]) + 1)
    peak = float(np.abs(change).max())
    headers = derived_headers(derivation)[slices]
    sources = source_headers(derivation)[slices]
    made_of_two = headers[0].SOPInstanceUID != sources[0].SOPInstanceUID
    mapping = _mapping("CHANGE", "Derived minus source", source.unit, (-peak, peak), quantity=CHANGE)
    return _map(
        derivation,
        change[slices],
        headers,
        sources if made_of_two else (),
        mapping,
        window=(0.0, 2 * peak),
        role=CHANGE_MAP,
        words="change map",
    )


def uncertainty_map(derivation: Derivation) -> DerivedInstance | None:
    """One standard deviation of each value of the result; None when the pipeline knows none."""
    uncertainty = derivation.outcome.uncertainty
    if uncertainty is None:
        return None
    uncertainty = _on_grid(uncertainty, derivation)
    if uncertainty.min() < 0:
        raise OutputFault("S3", "an uncertainty is below zero; a standard deviation cannot be")
    peak = float(uncertainty.max())
    mapping = _mapping(
        "UNCERTAINTY",
        "Standard deviation of the derived value",
        derivation.outcome.volume.unit,
        (0.0, peak),
        quantity=STANDARD_DEVIATION,
    )
    return _map(
        derivation,
        uncertainty,
        derived_headers(derivation),
        (),
        mapping,
        window=(peak / 2, peak),
        role=UNCERTAINTY_MAP,
        words="uncertainty map",
    )


def _on_grid(values: NDArray[np.float32], derivation: Derivation) -> NDArray[np.float32]:
    if values.shape != derivation.source.values.shape or values.dtype != np.float32:
        raise OutputFault("S3", f"the map is {values.dtype} of shape {values.shape}, not on the source's grid")
    if not np.isfinite(values).all():
        raise OutputFault("S3", "the map holds values that are not finite numbers")
    return values


def _mapping(
    label: str, explanation: str, unit: Unit, value_range: tuple[float, float], *, quantity: Code
) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label=label,
        lut_explanation=explanation,
        unit=UNITS[unit],
        value_range=value_range,
        slope=1.0,
        intercept=0.0,
        quantity_definition=quantity,
    )


def _window(center: float, width: float) -> VOILUTTransformation:
    """The window; LINEAR wants a width of at least 1 (PS3.3 C.11.2.1.2), small values are shown by LINEAR_EXACT."""
    return VOILUTTransformation(
        window_center=float(f"{center:.8g}"),
        window_width=float(f"{width or 1.0:.8g}"),
        voi_lut_function="LINEAR" if width >= 1 or not width else "LINEAR_EXACT",
    )


def _map(
    derivation: Derivation,
    values: NDArray[np.float32],
    headers: Sequence[Dataset],
    further: Sequence[Dataset],
    mapping: RealWorldValueMapping,
    *,
    window: tuple[float, float],
    role: str,
    words: str,
) -> DerivedInstance:
    part = derivation.images[0].text("BodyPartExamined")
    made = ParametricMap(
        source_images=headers,
        pixel_array=np.ascontiguousarray(values),
        series_instance_uid=derivation.series_uid(role),
        series_number=1,
        sop_instance_uid=derivation.instance_uid(role),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=derivation.job.node_version,
        device_serial_number=derivation.job.deployment_uuid,
        contains_recognizable_visual_features=part not in PARTS_WITHOUT_HEAD.split(),
        real_world_value_mappings=[mapping],
        content_label=mapping.LUTLabel,
        content_description=mapping.LUTExplanation,
        content_qualification=derivation.job.content_qualification,
        voi_lut_transformations=[_window(*window)],
        further_source_images=list(further) or None,
    )
    return harmonise(made, derivation, role=role, description=words)
