"""An Outcome as a new series of the source's study: UIDs, references, description, pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode import description, iods, provenance
from dicomnode.iods import SOP_CLASS_OF
from dicomnode.output_gate import check_instance, check_outcome
from dicomnode.patient_position import orientation_codes, patient_position
from dicomnode.provenance import JobFacts as JobFacts
from dicomnode.source_image import SourceImage
from dicomnode.stored_values import StoredSlice, stored_slice
from dicomnode.uids import MANUFACTURER, MODEL_NAME, derived_instance_uid, derived_series_uid, device_uid
from dicomnode.verbatim import Element, encoded, part10_file
from inference.pipeline import Card, Outcome

ROLE = "image"
UNCHANGED = "This slice was passed through unchanged."


@dataclass(frozen=True, slots=True)
class DerivedInstance:
    """One derived instance; content: the whole Part 10 file."""

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    content: bytes


def derive_series(
    outcome: Outcome, card: Card, images: Sequence[SourceImage], *, job: JobFacts
) -> Iterator[DerivedInstance]:
    """The derived series, instance after instance in slice order; the same input gives the same bytes.

    Raises OutputFault before the first instance when the outcome as a whole fails the output gate, and at an instance
    that fails it: nothing of the series may be used then.
    """
    check_outcome(outcome, card, images)
    return _instances(outcome, card, images, job)


def _instances(outcome: Outcome, card: Card, images: Sequence[SourceImage], job: JobFacts) -> Iterator[DerivedInstance]:
    series_uid = derived_series_uid(
        job.deployment_uuid,
        pipeline=card.name,
        pipeline_version=card.version,
        weights_sha256=card.weights_sha256,
        parameters_sha256=provenance.parameters_sha256(card, job),
        source_series_instance_uid=images[0].text("SeriesInstanceUID"),
        used_sop_instance_uids=[image.sop_instance_uid for image in images],
        role=ROLE,
        generation=job.generation,
    )
    sop_class_uid = SOP_CLASS_OF[card.result_modality]
    of_series = encoded(_series_elements(card, images, job, series_uid))
    numbers, indices = description.instance_numbers(images), description.image_indices(images)
    window = description.new_window(float(outcome.volume.values.max()), card.result_modality)
    for k, image in enumerate(images):
        instance_uid = derived_instance_uid(
            job.deployment_uuid, series_instance_uid=series_uid, source_sop_instance_uid=image.sop_instance_uid
        )
        outside = _padding_of(outcome, card, image, k)
        values = _with_padding_restored(outcome.volume.values[k], image, outside)
        stored = stored_slice(values, image, modality=card.result_modality)
        made = {"SOPInstanceUID": instance_uid, "InstanceNumber": numbers[k], **_image_attributes(card, image, stored)}
        if card.result_modality == "PT":
            made |= {"NumberOfSlices": len(images), "ImageIndex": indices[k]}
        if k in outcome.unchanged:
            made |= {
                "ImageComments": f"{UNCHANGED} {description.image_comments(card, job)}",
                "DerivationDescription": f"{provenance.derivation_text(images[0], card)}. {UNCHANGED}",
            }
        elements = of_series | encoded(_image_elements(card, image, made, window)) | encoded([_pixel_data(stored)])
        content = part10_file(elements, sop_class_uid=sop_class_uid, sop_instance_uid=instance_uid)
        check_instance(content, card, image, values=values, outside=outside)
        yield DerivedInstance(instance_uid, series_uid, sop_class_uid, str(ExplicitVRLittleEndian), content)


def _padding_of(outcome: Outcome, card: Card, image: SourceImage, k: int) -> NDArray[np.bool_] | None:
    """Where the slice holds the source's padding; None where there is none, or none that the result could keep."""
    outside = outcome.volume.outside
    return None if image.outside_values is None or outside is None or not _keeps_modality(card) else outside[k]


def _with_padding_restored(
    values: NDArray[np.float32], image: SourceImage, outside: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """The slice's values, outside the field of view the source's own (T4)."""
    if outside is None or image.outside_values is None:
        return values
    restored = values.copy()
    restored[outside] = image.outside_values
    return restored


def _keeps_modality(card: Card) -> bool:
    return card.modality == card.result_modality


def _series_elements(card: Card, images: Sequence[SourceImage], job: JobFacts, series_uid: str) -> list[Element]:
    """What all instances of the series share: patient, study, series, frame of reference, equipment, history."""
    first = images[0]
    moment = provenance.local_moment(first, job.created_at)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    made: dict[str, Any] = {
        "SOPClassUID": SOP_CLASS_OF[card.result_modality],
        "Modality": card.result_modality,
        "SeriesInstanceUID": series_uid,
        "SeriesNumber": description.series_number(first, card, job),
        "SeriesDescription": description.series_description(first, card),
        "RelatedSeriesSequence": provenance.related_series(first),
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": MODEL_NAME,
        "SoftwareVersions": [job.node_version, f"{card.name} {card.version}"[:64]],
        "DeviceSerialNumber": job.deployment_uuid,
        "DeviceUID": device_uid(job.deployment_uuid),
        "ContentDate": date,
        "ContentTime": time,
        "InstanceCreationDate": date,
        "InstanceCreationTime": time,
        "ContentQualification": job.content_qualification,
        "ImageComments": description.image_comments(card, job),
        "ContributingEquipmentSequence": provenance.contributing_equipment(first, card, job),
        "DerivationDescription": provenance.derivation_text(first, card),
        "DerivationCodeSequence": provenance.derivation_codes(first, card),
        "CodingSchemeIdentificationSequence": provenance.coding_schemes(first),
    }
    if job.station_name:
        made["StationName"] = job.station_name[:16]
    if card.synthetic or any(image.text("SyntheticData") == "YES" for image in images):
        made["SyntheticData"] = "YES"
    side = description.laterality(first)
    if side is not None:
        made["Laterality"] = side
    if card.result_modality != "PT":
        made |= {"SeriesDate": date, "SeriesTime": time, "PatientPosition": patient_position(first)}
    elif not first.dataset.get("PatientOrientationCodeSequence"):
        made |= orientation_codes(first.text("PatientPosition"))
    kept, _ = iods.kept_tags(card.modality, card.result_modality)
    wanted, _ = iods.kept_tags(card.result_modality, card.result_modality)
    left_out = {"Laterality", "PatientPosition"} | _conditions_not_met(first, card)
    private = [first.elements[tag] for tag in first.elements if tag >> 16 == 0x7053 and card.result_modality == "PT"]
    return _merged(first, kept, wanted, made, left_out=left_out, target=card.result_modality) + private


def _conditions_not_met(image: SourceImage, card: Card) -> set[str]:
    """Conditional attributes that the standard forbids here, though senders write them."""
    if card.result_modality == "PT":
        kind = image.text("SeriesType")
        return {keyword for keyword, kinds in iods.PET_CONDITIONS.items() if kind not in kinds}
    needless = set()
    if card.result_modality == "MR":
        if "IR" not in image.texts("ScanningSequence") and not image.number("InversionTime"):
            needless.add("InversionTime")
        if not image.text("TriggerTime"):
            needless.add("TriggerTime")
    return needless


def _image_attributes(card: Card, image: SourceImage, stored: StoredSlice) -> dict[str, Any]:
    """What is said of each image by itself, its pixels among it."""
    # PS3.3 C.7.6.3.1.2: HU and activity are shown bright where they are high; an MR keeps the scale it came with
    photometric = image.text("PhotometricInterpretation") if card.result_modality == "MR" else "MONOCHROME2"
    return {
        "ImageType": description.image_type(image, card),
        "SourceImageSequence": [provenance.source_image_item(image)],
        "ReferencedSeriesSequence": provenance.referenced_series([image]),
        "BurnedInAnnotation": "YES" if image.text("BurnedInAnnotation") == "YES" else "NO",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": photometric,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(stored.is_signed),
        **stored.rescale,
    }


def _image_elements(
    card: Card, image: SourceImage, made: Mapping[str, Any], window: Mapping[str, str]
) -> list[Element]:
    """What differs from image to image, but for the pixels."""
    kept, wanted = (
        iods.kept_tags(modality, card.result_modality)[1] for modality in (card.modality, card.result_modality)
    )
    left_out = _conditions_not_met(image, card)
    if not (_keeps_modality(card) and description.keeps_window(image)):
        left_out |= set(description.WINDOW)
        made = {**made, **window}
    elements = _merged(image, kept, wanted, made, left_out=left_out, target=card.result_modality)
    if card.result_modality == "MR":  # the stored scale is the source's, so is the way back from it (M2)
        rescale = iods.tags(("RescaleIntercept", "RescaleSlope", "RescaleType"))
        elements += [image.elements[tag] for tag in sorted(rescale) if tag in image.elements]
    return elements


def _pixel_data(stored: StoredSlice) -> DataElement:
    return DataElement(0x7FE00010, "OW", stored.pixels.astype(stored.pixels.dtype.newbyteorder("<")).tobytes())


def _merged(
    image: SourceImage,
    kept: frozenset[int],
    wanted: frozenset[int],
    made: Mapping[str, Any],
    *,
    left_out: set[str],
    target: str,
) -> list[Element]:
    """What is kept of the source and what is made, with the empty attributes that the object wants present."""
    dropped, optional = iods.tags(left_out), iods.optional_tags(target)
    elements: dict[int, Element] = {
        tag: element
        for tag, element in image.elements.items()
        if tag in kept - dropped and (element.value or tag not in optional)
    }
    for tag in (iods.type_two_tags(target) & wanted) - dropped - elements.keys():
        elements[tag] = DataElement(tag, dictionary_VR(tag), [] if dictionary_VR(tag) == "SQ" else None)
    for keyword, value in made.items():
        (tag,) = iods.tags([keyword])
        elements[tag] = DataElement(tag, dictionary_VR(tag), value)
    return list(elements.values())
