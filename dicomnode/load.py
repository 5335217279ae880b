"""A series of instances as one Volume in a physical unit, with its source images in slice order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicomnode.acquisition import acquisition_of
from dicomnode.errors import SeriesUnusable
from dicomnode.fingerprints import fingerprint, pixels_to_hash
from dicomnode.pixels import native_pixels, outside_of, real_values, stored_pixels
from dicomnode.source_image import Fingerprint, SourceImage
from dicomnode.stacks import Allowed as Allowed
from dicomnode.stacks import StackPlan as StackPlan
from dicomnode.stacks import planned_stacks as planned_stacks
from inference.volume import Volume

MOST_UNHASHED = 4
"""How many files wait for their hashes at most."""


def load_volume(files: Sequence[Path], *, accept_lossy: bool = False) -> tuple[Volume, tuple[SourceImage, ...]]:
    """The volume of a series and the source image of each of its slices, slice 0 first along the stack normal.

    Raises SeriesUnusable, with a stable reason code, for what is not one regular stack of known unit.
    """
    plans = planned_stacks(files, allowed=Allowed(accept_lossy=accept_lossy))
    if len(plans) > 1:
        raise SeriesUnusable(
            "temporal-series", f"the PET holds {len(plans)} time frames; load each as a stack of its own"
        )
    return load_stack(plans[0])


def load_stack(plan: StackPlan) -> tuple[Volume, tuple[SourceImage, ...]]:
    """The volume of a planned stack and its source images, which then know their rescale and what lies outside."""
    ordered = [
        replace(
            image,
            slope=_rescale(image, "RescaleSlope", absent=1.0),
            intercept=_rescale(image, "RescaleIntercept", absent=0.0),
        )
        for image in plan.images
    ]
    values, outside, ordered = _read_slices(ordered)
    volume = Volume(
        values=values,
        unit=plan.unit,
        geometry=plan.geometry,
        acquisition=acquisition_of(ordered),
        outside=outside,
    )
    return volume, tuple(ordered)


def _rescale(image: SourceImage, keyword: str, *, absent: float) -> float:
    number = image.number(keyword)
    if (
        len(image.texts(keyword)) > 1
        or (number is None and image.texts(keyword))
        or (keyword == "RescaleSlope" and number == 0)
    ):
        raise SeriesUnusable(
            "rescale-missing", f"instance {image.sop_instance_uid} has a {keyword} that cannot be used; send it again"
        )
    return absent if number is None else number


def _read_slices(
    images: Sequence[SourceImage],
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, list[SourceImage]]:
    """Values (slices, rows, columns), what lies outside, and the images knowing what they held there.

    The files of a few slices are in memory at a time beside the volume, while another thread hashes them.
    """
    rows, columns = int(images[0].dataset.Rows), int(images[0].dataset.Columns)
    values = np.empty((len(images), rows, columns), np.float32)
    outside: NDArray[np.bool_] | None = None
    known: list[SourceImage] = []
    prints: list[Future[Fingerprint] | None] = []
    reach, is_finite = [], True
    with ThreadPoolExecutor(1) as hashing:
        for k, image in enumerate(images):
            content = image.path.read_bytes() if image.frame_pixels is None else None
            dataset, stored = stored_pixels(image, content)
            prints.append(None)
            if content is not None:
                plain = native_pixels(image, content)
                pixels = pixels_to_hash(dataset, stored) if plain is None else plain
                prints[k] = hashing.submit(fingerprint, content, image, pixels)
            if len(prints) > MOST_UNHASHED and (earlier := prints[-1 - MOST_UNHASHED]) is not None:
                earlier.result()
            values[k] = real_values(dataset, stored, image)
            mask = outside_of(dataset, stored, values[k])
            if mask is not None:
                outside = np.zeros(values.shape, np.bool_) if outside is None else outside
                outside[k] = mask
                held = values[k][mask]
                image = replace(image, outside_values=held[:1].copy() if (held == held[0]).all() else held)
            inside = values[k] if mask is None else values[k][~mask]
            reach += [float(inside.min()), float(inside.max())] if inside.size else []
            is_finite = is_finite and bool(np.isfinite(values[k]).all())
            known.append(image)
    if not is_finite:
        raise SeriesUnusable("not-finite", "the rescaled values are not all finite numbers; send the series again")
    lowest, highest = min(reach, default=0.0), max(reach, default=0.0)
    known = [
        replace(image, lowest=lowest, highest=highest, fingerprint=None if one is None else one.result())
        for image, one in zip(known, prints, strict=True)
    ]
    return values, outside, known
