"""A series of instances as one Volume in a physical unit, with its source images in slice order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicomnode.acquisition import acquisition_of, unit_of
from dicomnode.errors import SeriesUnusable
from dicomnode.input_gate import images_of_one_stack
from dicomnode.pixels import outside_of, real_values, stored_pixels
from dicomnode.source_image import SourceImage, read_source_image
from dicomnode.stack import regular_stack
from inference.volume import Geometry, Volume

LOG = logging.getLogger(__name__)


def load_volume(files: Sequence[Path], *, accept_lossy: bool = False) -> tuple[Volume, tuple[SourceImage, ...]]:
    """The volume of a series and the source image of each of its slices, slice 0 first along the stack normal.

    Raises SeriesUnusable, with a stable reason code, for what is not one regular stack of known unit.
    """
    instances = [read_source_image(path) for path in files]
    images = images_of_one_stack(instances, accept_lossy=accept_lossy)
    if len(images) < len(instances):
        LOG.info("load: %d of %d instances are not slices of the stack", len(instances) - len(images), len(instances))
    units = {unit_of(image) for image in images}
    if len(units) != 1:
        raise SeriesUnusable("mixed-units", "the series holds values of several units; send each as its own series")
    first = images[0]
    spacing = first.numbers("PixelSpacing")
    stack = regular_stack(
        np.array([image.numbers("ImagePositionPatient") for image in images], np.float64),
        first.numbers("ImageOrientationPatient"),
        pixel_spacing_mm=(spacing[0], spacing[1]),
        slice_thickness_mm=first.number("SliceThickness"),
    )
    ordered = [
        replace(
            images[index],
            position_mm=position,
            slope=_rescale(images[index], "RescaleSlope", absent=1.0),
            intercept=_rescale(images[index], "RescaleIntercept", absent=0.0),
        )
        for index, position in zip(stack.order, stack.positions_mm, strict=True)
    ]
    values, outside, ordered = _read_slices(ordered)
    volume = Volume(
        values=values,
        unit=units.pop(),
        geometry=Geometry(stack.affine, first.text("FrameOfReferenceUID")),
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

    One slice's pixels are in memory at a time beside the volume.
    """
    rows, columns = int(images[0].dataset.Rows), int(images[0].dataset.Columns)
    values = np.empty((len(images), rows, columns), np.float32)
    outside: NDArray[np.bool_] | None = None
    known: list[SourceImage] = []
    reach = []
    for k, image in enumerate(images):
        dataset, stored = stored_pixels(image)
        values[k] = real_values(dataset, stored, image)
        mask = outside_of(dataset, stored, values[k])
        if mask is not None:
            outside = np.zeros(values.shape, np.bool_) if outside is None else outside
            outside[k] = mask
            held = values[k][mask]
            image = replace(image, outside_values=held[:1].copy() if (held == held[0]).all() else held)
        inside = values[k] if mask is None else values[k][~mask]
        reach += [float(inside.min()), float(inside.max())] if inside.size else []
        known.append(image)
    known = [replace(image, lowest=min(reach, default=0.0), highest=max(reach, default=0.0)) for image in known]
    if not np.isfinite(values).all():
        raise SeriesUnusable("not-finite", "the rescaled values are not all finite numbers; send the series again")
    return values, outside, known
