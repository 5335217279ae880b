"""What was changed, and how sure a result is, as DICOM Parametric Maps of real values (S3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.grid import derived_headers, of_one_pixel, source_headers
from dicomnode.companions.harmonise import CHANGE_MAP, UNCERTAINTY_MAP, burned_in, harmonise
from dicomnode.companions.pixel_element import Pixels
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault
from dicomnode.uids import CODING_SCHEME, MODEL_NAME
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


LARGEST_BYTES = 512 * 1024 * 1024
"""Of the values of one map: 512 slices of 512 x 512. A larger one is left out, as few readers could open it."""


class MapLeftOut(Exception):
    """The map is not made, though there is something to show; the message is the sentence that says why."""


def change_map(derivation: Derivation) -> DerivedInstance | None:
    """Result minus source, from the first changed slice to the last; None when nothing changed or the unit did.

    Raises MapLeftOut where it would have more than LARGEST_BYTES, or would show what an image has burned in.
    """
    source, made, card = derivation.source, derivation.outcome.volume, derivation.card
    if made.unit != source.unit or card.result_modality != card.modality:
        return None
    _check_grid(made.values, derivation)
    changed: list[int] = []
    peak = 0.0
    for k in range(len(derivation.images)):
        largest = float(np.abs(_change(derivation, k)).max())
        if not np.isfinite(largest):
            raise OutputFault("S3", NOT_FINITE)
        if largest:
            changed.append(k)
            peak = max(peak, largest)
    if not changed:
        return None
    slices = range(changed[0], changed[-1] + 1)
    headers = derived_headers(derivation)[slices.start : slices.stop]
    sources = source_headers(derivation)[slices.start : slices.stop]
    made_of_two = headers[0].SOPInstanceUID != sources[0].SOPInstanceUID
    mapping = _mapping("CHANGE", "Derived minus source", source.unit, (-peak, peak), quantity=CHANGE)
    return _map(
        derivation,
        lambda number: _change(derivation, slices[number]),
        headers,
        sources if made_of_two else (),
        mapping,
        window=(0.0, 2 * peak),
        role=CHANGE_MAP,
        words="change map",
    )


def _change(derivation: Derivation, k: int) -> NDArray[np.float32]:
    """Result minus source of slice k; none outside, where the derived image holds the source's padding (T4)."""
    change: NDArray[np.float32] = derivation.outcome.volume.values[k] - derivation.source.values[k]
    if derivation.source.outside is not None:
        change[derivation.source.outside[k]] = 0
    return change


def uncertainty_map(derivation: Derivation) -> DerivedInstance | None:
    """One standard deviation of each value of the result; None when the pipeline knows none.

    Raises MapLeftOut where it would have more than LARGEST_BYTES, or would show what an image has burned in.
    """
    uncertainty = derivation.outcome.uncertainty
    if uncertainty is None:
        return None
    _check_grid(uncertainty, derivation)
    peak = float(uncertainty.max())
    if not np.isfinite(peak) or not np.isfinite(uncertainty.min()):  # not a number anywhere is one here too
        raise OutputFault("S3", NOT_FINITE)
    if uncertainty.min() < 0:
        raise OutputFault("S3", "an uncertainty is below zero; a standard deviation cannot be")
    mapping = _mapping(
        "UNCERTAINTY",
        "Standard deviation of the derived value",
        derivation.outcome.volume.unit,
        (0.0, peak),
        quantity=STANDARD_DEVIATION,
    )
    return _map(
        derivation,
        lambda number: uncertainty[number],
        derived_headers(derivation),
        (),
        mapping,
        window=(peak / 2, peak),
        role=UNCERTAINTY_MAP,
        words="uncertainty map",
    )


NOT_FINITE = "the map holds values that are not finite numbers"


def _check_grid(values: NDArray[np.float32], derivation: Derivation) -> None:
    if values.shape != derivation.source.values.shape or values.dtype != np.float32:
        raise OutputFault("S3", f"the map is {values.dtype} of shape {values.shape}, not on the source's grid")


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
    frame_of: Callable[[int], NDArray[np.float32]],
    headers: Sequence[Dataset],
    further: Sequence[Dataset],
    mapping: RealWorldValueMapping,
    *,
    window: tuple[float, float],
    role: str,
    words: str,
) -> DerivedInstance:
    """The map with the frame of each header; frames are taken one by one when the file is written."""
    rows, columns = derivation.source.values.shape[1:]
    length = len(headers) * rows * columns * np.dtype(np.float32).itemsize
    if length > LARGEST_BYTES:
        raise MapLeftOut(
            f"no {words}: its {length / 2**20:.0f} MB are more than the {LARGEST_BYTES // 2**20} MB that are made"
        )
    if {str(header.SOPInstanceUID) for header in (*headers, *further)} & burned_in(derivation):
        # PS3.3 C.8.32.2: BurnedInAnnotation of a map is NO, there is no other word; NO would not be true (C21)
        raise MapLeftOut(f"no {words}: an image has burned in annotation, and a Parametric Map cannot say so")
    part = derivation.images[0].text("BodyPartExamined")
    made: Dataset = ParametricMap(
        source_images=of_one_pixel(headers),
        pixel_array=np.arange(len(headers), dtype=np.float32).reshape(-1, 1, 1),
        **derivation.placed(role),
        manufacturer_model_name=MODEL_NAME,
        software_versions=derivation.job.node_version,
        device_serial_number=derivation.job.deployment_uuid,
        contains_recognizable_visual_features=part not in PARTS_WITHOUT_HEAD.split(),
        real_world_value_mappings=[mapping],
        content_label=mapping.LUTLabel,
        content_description=mapping.LUTExplanation,
        content_qualification=derivation.content_qualification,
        voi_lut_transformations=[_window(*window)],
        further_source_images=of_one_pixel(further) or None,
    )
    made.Rows, made.Columns = rows, columns
    order = np.frombuffer(made.FloatPixelData, "<f4").astype(int)  # highdicom sorts the frames by their place
    parts = (frame_of(int(number)).astype("<f4", copy=False).tobytes() for number in order)
    pixels = Pixels("FloatPixelData", "OF", length, parts)
    return harmonise(made, derivation, role=role, description=words, pixels=pixels)
