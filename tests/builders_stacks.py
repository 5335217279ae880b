"""Made-up series that are no single even stack: slices at given heights, time frames, several kinds of image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from tests.builders_dicom import Mend, pet_values, write_ct_series, write_pet_series

Turn = tuple[float, float, float]


def at_heights(heights_mm: Sequence[float], *, tilt: float = 0.0, then: Mend | None = None) -> Mend:
    """Puts slice k of an axial series at its height, shifted along y by `tilt` mm for each mm of height."""

    def place(k: int, dataset: Dataset) -> None:
        height = heights_mm[k]
        dataset.ImagePositionPatient = ["-32", f"{-32 + tilt * height:.6f}", f"{100 + height:.6f}"]
        if then is not None:
            then(k, dataset)

    return place


def write_ct_at(folder: Path, heights_mm: Sequence[float], *, tilt: float = 0.0, **options: Any) -> list[Path]:
    """A small CT whose slices lie at these heights, in mm."""
    then = options.pop("each", None)
    options.setdefault("rows", 8)
    options.setdefault("columns", 8)
    return write_ct_series(folder, slices=len(heights_mm), each=at_heights(heights_mm, tilt=tilt, then=then), **options)


def write_dynamic_pet(
    folder: Path,
    *,
    frames: int = 3,
    slices: int = 4,
    kind: str = "DYNAMIC",
    heights_mm: Sequence[float] | None = None,
    each: Mend | None = None,
    **options: Any,
) -> list[Path]:
    """A dynamic or gated PET, frame by frame; frame t (from 0) holds 1 + t times the activity of the first."""
    places = [3.0 * k for k in range(slices)] if heights_mm is None else heights_mm
    once = pet_values(slices, 16, 16)
    values = np.concatenate([once * (1 + frame) for frame in range(frames)])

    def put(index: int, dataset: Dataset) -> None:
        frame, k = divmod(index, slices)
        dataset.ImagePositionPatient = ["-32", "-32", f"{100 + places[k]:.6f}"]
        dataset.SeriesType, dataset.NumberOfSlices, dataset.ImageIndex = [kind, "IMAGE"], slices, index + 1
        if kind == "DYNAMIC":
            dataset.NumberOfTimeSlices = frames
        else:
            dataset.NumberOfTimeSlots, dataset.NumberOfRRIntervals = frames, 1
        dataset.FrameReferenceTime, dataset.ActualFrameDuration = str(30000 + 60000 * frame), "60000"
        if each is not None:
            each(index, dataset)

    return write_pet_series(folder, values=values, each=put, **options)


def turned(angles: Turn) -> tuple[float, ...]:
    """Row and column direction of slices turned about z, y and x; six numbers as they are written."""
    a, b, c = angles
    turn = (
        np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        @ np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    )
    return tuple(float(value) for value in np.round([*turn[:, 0], *turn[:, 1]], 6))


def by_slice(*, of: int, **values: Sequence[Any]) -> Callable[[int, Dataset], None]:
    """Sets attributes slice by slice: `EchoTime=[12, 80]` with `of=4` gives slices 0-3 the first, 4-7 the second."""

    def put(k: int, dataset: Dataset) -> None:
        for keyword, several in values.items():
            setattr(dataset, keyword, several[k // of])

    return put
