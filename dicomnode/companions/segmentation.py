"""A mask of a pipeline as a DICOM Segmentation on the source's slices (S1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.grid import of_one_pixel, source_headers
from dicomnode.companions.harmonise import MASK, harmonise
from dicomnode.companions.pixel_element import Pixels
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault
from dicomnode.provenance import ascii_text
from dicomnode.uids import CODING_SCHEME, MANUFACTURER, MODEL_NAME, deterministic_uid
from inference.pipeline import Card


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a mask is of, in words and codes (PS3.16 CID 7150, 7151)."""

    label: str
    category: Code
    kind: Code


BODY_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
MEANINGS: Mapping[str, Meaning] = {
    "metal": Meaning("Metal", Code("260787004", "SCT", "Physical object"), Code("40388003", "SCT", "Implant")),
    "body": Meaning("Body", BODY_STRUCTURE, Code("38266002", "SCT", "Entire body")),
    "lungs": Meaning("Lungs", BODY_STRUCTURE, Code("39607008", "SCT", "Lung")),
}
OTHER_CATEGORY = Code("309825002", "SCT", "Spatial and Relational Concept")
LEARNED = Code("123110", "DCM", "Artificial Intelligence")
CLASSICAL = Code("123105", "DCM", "Histogram Analysis")
"""PS3.16 CID 7162 has no term for a threshold; histogram analysis is how the node's classical masks find theirs."""


def segmentation(derivation: Derivation, *, mask_name: str) -> DerivedInstance | None:
    """The mask of that name as a binary segmentation, of the slices that hold any of it; None when it is empty.

    Raises OutputFault when the mask does not fit the source's grid.
    """
    mask = derivation.outcome.masks[mask_name]
    if mask.shape != derivation.source.values.shape or mask.dtype != np.bool_:
        raise OutputFault("S1", f"the mask {mask_name} is {mask.dtype} of shape {mask.shape}, not on the source's grid")
    if not mask.any():
        return None
    number = 1 + sorted(derivation.outcome.masks).index(mask_name)
    meaning = meaning_of(mask_name)
    headers = of_one_pixel(source_headers(derivation))
    made: Dataset = Segmentation(
        source_images=headers,
        pixel_array=mask.any(axis=(1, 2), keepdims=True).astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(derivation, meaning, number)],
        **derivation.placed(MASK, number=number),
        manufacturer_model_name=MODEL_NAME,
        software_versions=derivation.job.node_version,
        device_serial_number=derivation.job.deployment_uuid,
        content_label=re.sub("[^A-Z0-9_]", "_", mask_name.upper())[:16],
        content_description=ascii_text(f"{meaning.label} found by {derivation.card.label}", longest=64),
        omit_empty_frames=True,
    )
    made.Rows, made.Columns = mask.shape[1:]
    _say_3d_only_where_it_is(made, mask, is_even=derivation.source.geometry.is_even)
    pixels = _bits(mask, _slices_of(made, headers))
    return harmonise(made, derivation, role=MASK, description="masks", number=number, pixels=pixels)


def _slices_of(made: Dataset, headers: Sequence[Dataset]) -> list[int]:
    """The slice of each frame: highdicom leaves out the empty ones and sorts the frames by their place."""
    places = {str(header.SOPInstanceUID): k for k, header in enumerate(headers)}
    sources = (group.DerivationImageSequence[0].SourceImageSequence for group in made.PerFrameFunctionalGroupsSequence)
    return [places[str(source[0].ReferencedSOPInstanceUID)] for source in sources]


def _bits(mask: NDArray[np.bool_], slices: Sequence[int]) -> Pixels:
    """The mask's frames, one bit a pixel without a gap between frames (PS3.5 8.1.1)."""
    length = -(-len(slices) * mask[0].size // 8)
    eights = (slices[first : first + 8] for first in range(0, len(slices), 8))  # eight frames end at a whole byte
    parts = (np.packbits(mask[eight], bitorder="little").tobytes() for eight in eights)
    return Pixels("PixelData", "OB", length, parts)


def meaning_of(mask_name: str) -> Meaning:
    """What the mask of that name is of; a name without a code of a public scheme gets one of the node's."""
    known = MEANINGS.get(mask_name)
    if known is not None:
        return known
    label = ascii_text(mask_name.replace("_", " ").capitalize(), longest=64)
    value = re.sub("[^A-Z0-9_]", "_", mask_name.upper())[:16]
    return Meaning(label, OTHER_CATEGORY, Code(value, CODING_SCHEME, label))


def tracking(derivation: Derivation, number: int) -> tuple[str, str]:
    """Identifier and UID by which the mask with that number is named in the report too."""
    instance_uid = derivation.instance_uid(MASK, number=number)
    uid = deterministic_uid(derivation.job.deployment_uuid, [instance_uid, "tracking"])
    return ascii_text(f"{derivation.card.name} mask {number}", longest=64), uid


def _described(derivation: Derivation, meaning: Meaning, number: int) -> SegmentDescription:
    identifier, uid = tracking(derivation, number)
    return SegmentDescription(
        segment_number=1,
        segment_label=meaning.label,
        segmented_property_category=meaning.category,
        segmented_property_type=meaning.kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(derivation.card),
        tracking_id=identifier,
        tracking_uid=uid,
    )


def _algorithm(card: Card) -> AlgorithmIdentificationSequence:
    return AlgorithmIdentificationSequence(
        name=ascii_text(card.name, longest=64),
        family=LEARNED if card.weights_sha256 else CLASSICAL,
        version=ascii_text(card.version, longest=64),
        source=MANUFACTURER,
        parameters={"method": ascii_text(card.method, longest=64)}
        | {ascii_text(name, longest=64): ascii_text(str(value), longest=200) for name, value in card.settings.items()},
    )


def _say_3d_only_where_it_is(made: Dataset, mask: NDArray[np.bool_], *, is_even: bool) -> None:
    """Takes the word 3D away where frames are left out between others: they are not one step apart (C.7.6.17)."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if "DimensionOrganizationType" in made and not (is_even and (np.diff(slices) == 1).all()):
        del made.DimensionOrganizationType
