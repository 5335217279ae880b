"""Outcomes as a new series of the source's study: instance after instance, each held against the output gate."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode import description, provenance
from dicomnode.derived_header import (
    DerivedSeries,
    DerivedSlice,
    character_set_to_declare,
    image_elements,
    is_made_of_synthetic,
    series_elements,
    settled_facts,
)
from dicomnode.derived_instance import DerivedInstance as DerivedInstance
from dicomnode.derived_instance import Described
from dicomnode.errors import OutputFault
from dicomnode.gate.output_gate import InstanceGate, check_outcome, check_series
from dicomnode.gate.series_rules import Members
from dicomnode.iods import SOP_CLASS_OF
from dicomnode.provenance import JobFacts as JobFacts
from dicomnode.source_image import SourceImage
from dicomnode.stored_values import StoredSlice, padding_value, storable_padding, stored_slice
from dicomnode.uids import derived_instance_uid, derived_series_uid, used_instance
from dicomnode.verbatim import Element, encoded, part10_file, raw_element
from inference.pipeline import Card, Outcome

LOG = logging.getLogger(__name__)
ROLE = "image"
Stack = tuple[Outcome, Sequence[SourceImage]]
"""What was made of one stack, and the source image of each of its slices."""


def derive_series(
    outcome: Outcome, card: Card, images: Sequence[SourceImage], *, job: JobFacts
) -> Iterator[DerivedInstance]:
    """The derived series of one stack, as `derive_frames` gives it."""
    return derive_frames([(outcome, images)], card, job=job)


def derive_frames(frames: Sequence[Stack], card: Card, *, job: JobFacts) -> Iterator[DerivedInstance]:
    """One derived series of all time frames (a dynamic or gated PET has several), in frame and slice order.

    The same input gives the same bytes. Raises OutputFault before the first instance when an outcome as a whole fails
    the output gate, at an instance that fails it, and after the last where the instances do not make one series:
    nothing of the series may be used then.
    """
    for outcome, images in frames:
        check_outcome(outcome, card, images)
    _check_one_series(frames, card)
    return _instances(frames, _series_of(frames, card, job))


def _check_one_series(frames: Sequence[Stack], card: Card) -> None:
    images = [image for _, stack in frames for image in stack]
    if not images:
        raise OutputFault("C13", "there is nothing to derive a series of")
    if len({image.text("SeriesInstanceUID") for image in images}) != 1:
        raise OutputFault("C14", "one derived series cannot be made of several source series")
    if len({(image.sop_instance_uid, image.frame) for image in images}) != len(images):
        raise OutputFault("C13", "a source image is there twice")
    if card.result_modality == "PT" and len({len(stack) for _, stack in frames}) != 1:
        raise OutputFault("P4", "the time frames of one PET series have different numbers of slices")


def _series_of(frames: Sequence[Stack], card: Card, job: JobFacts) -> DerivedSeries:
    images = [image for _, stack in frames for image in stack]
    series_uid = derived_series_uid(
        job.deployment_uuid,
        pipeline=card.name,
        pipeline_version=card.version,
        weights_sha256=card.weights_sha256,
        parameters_sha256=provenance.parameters_sha256(card, job),
        source_series_instance_uid=images[0].text("SeriesInstanceUID"),
        used_sop_instance_uids=[used_instance(image.sop_instance_uid, image.frame) for image in images],
        role=ROLE,
        generation=job.generation,
    )
    largest = max(float(outcome.volume.values.max()) for outcome, _ in frames)
    window = description.new_window(largest, card.result_modality)
    declared = character_set_to_declare(images, card, job)
    if declared:
        LOG.warning("derive: series %s declares %s for a source that names no character set", series_uid, declared)
    return DerivedSeries(
        card,
        settled_facts(job, images),
        series_uid,
        tuple(tuple(stack) for _, stack in frames),
        window=window,
        is_synthetic=card.synthetic or is_made_of_synthetic(images),
        character_set=declared,
    )


def _instances(frames: Sequence[Stack], series: DerivedSeries) -> Iterator[DerivedInstance]:
    numbers = iter(description.instance_numbers([image for stack in series.stacks for image in stack]))
    indices = iter(description.image_indices(series.stacks))
    gate = InstanceGate(series.card, of_synthetic=series.is_synthetic)
    members = Members(recall=gate.recall)
    for outcome, images in frames:
        for k in range(len(images)):
            yield _instance(outcome, images, k, series, gate, members, number=next(numbers), index=next(indices))
    check_series(members, [image for stack in series.stacks for image in stack], series.card)


def _instance(
    outcome: Outcome,
    images: Sequence[SourceImage],
    k: int,
    series: DerivedSeries,
    gate: InstanceGate,
    members: Members,
    *,
    number: int,
    index: int,
) -> DerivedInstance:
    card, image = series.card, _with_storable_padding(images[k], series.card)
    outside = _padding_of(outcome, series, image, k)
    values = _with_padding_restored(outcome.volume.values[k], image, outside)
    stored = stored_slice(values, image, modality=card.result_modality, outside=outside, ct_pixels=series.job.ct_pixels)
    instance_uid = derived_instance_uid(
        series.job.deployment_uuid,
        series_instance_uid=series.series_uid,
        source_sop_instance_uid=image.sop_instance_uid,
        frame=image.frame,
    )
    is_unchanged = k in outcome.unchanged
    is_even = outcome.volume.geometry.is_even  # else each slice was worked on alone
    of_image = image_elements(
        series,
        DerivedSlice(
            instance_uid=instance_uid,
            sources=images[k : k + 1] if is_unchanged else _sources(images, k, card.context_slices if is_even else 0),
            number=number,
            index=index,
            slices=len(images),
            stored=stored,
            padding=padding_value(stored, outside) if card.result_modality == "CT" else None,
            unchanged=is_unchanged,
        ),
    )
    sop_class_uid = SOP_CLASS_OF[card.result_modality]
    elements = encoded([*series_elements(series, image), *of_image, _pixel_data(stored)])
    content = part10_file(elements, sop_class_uid=sop_class_uid, sop_instance_uid=instance_uid)
    read = gate.check(content, image, values=values, outside=outside)
    members.add(read.dataset)
    return DerivedInstance(
        instance_uid,
        series.series_uid,
        sop_class_uid,
        str(ExplicitVRLittleEndian),
        content,
        stored.clipped,
        Described(read.header, read.header_sha256(), stored.pixels.nbytes),
    )


def _sources(images: Sequence[SourceImage], k: int, reach: int) -> list[SourceImage]:
    """The slice's own source, then the neighbours its result was made of, the nearest first (C13)."""
    neighbours = [index for step in range(1, reach + 1) for index in (k - step, k + step)]
    return [images[k], *(images[index] for index in neighbours if 0 <= index < len(images))]


def _padding_of(outcome: Outcome, series: DerivedSeries, image: SourceImage, k: int) -> NDArray[np.bool_] | None:
    """Where the slice holds the source's padding; None where there is none, or none that the result could keep."""
    outside = outcome.volume.outside
    return None if image.outside_values is None or outside is None or not series.keeps_modality else outside[k]


def _with_storable_padding(image: SourceImage, card: Card) -> SourceImage:
    if card.result_modality != "CT" or image.outside_values is None:
        return image
    return replace(image, outside_values=storable_padding(image.outside_values))


def _with_padding_restored(
    values: NDArray[np.float32], image: SourceImage, outside: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """The slice's values, outside the field of view the source's own (T4)."""
    if outside is None or image.outside_values is None:
        return values
    restored = values.copy()
    restored[outside] = image.outside_values
    return restored


def _pixel_data(stored: StoredSlice) -> Element:
    pixels = stored.pixels.astype(stored.pixels.dtype.newbyteorder("<"), copy=False)
    return raw_element(0x7FE00010, "OW", pixels.tobytes())
