"""Made-up derivations: a phantom CT, PET or MR series, what a pipeline made of it, and the derived series' headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread

from dicomnode.companions.derivation import Derivation
from dicomnode.derive import derive_series
from dicomnode.derived_instance import DerivedInstance
from dicomnode.load import Allowed, load_stack, planned_stacks
from inference.pipeline import Card, Outcome
from inference.volume import Volume
from tests.builders_dicom import card_for, job_facts, write_ct_series, write_mr_series, write_pet_series

WRITERS: Mapping[str, Callable[..., list[Path]]] = {
    "CT": write_ct_series,
    "PT": write_pet_series,
    "MR": write_mr_series,
}


def derivation_from(
    files: Sequence[Path],
    outcome_of: Callable[[Volume], Outcome] | None = None,
    card: Card | None = None,
    *,
    allowed: Allowed | None = None,
    **job: Any,
) -> Derivation:
    """A derivation of the files' first stack: by default, a block of other values in the middle slices, and its mask.

    `job` are facts of the job that are not the usual ones.
    """
    plan = planned_stacks(files, allowed=allowed or Allowed())[0]
    source, images = load_stack(plan)
    outcome = (outcome_of or changed_block)(source)
    card = card or card_for(source.acquisition.modality)
    facts = job_facts(**job)
    made = list(derive_series(outcome, card, images, job=facts))
    derived = tuple(dcmread(BytesIO(instance.content), stop_before_pixels=True) for instance in made)
    return Derivation(source=source, outcome=outcome, card=card, images=images, derived=derived, job=facts)


def phantom_derivation(
    folder: Path,
    modality: str = "CT",
    *,
    outcome_of: Callable[[Volume], Outcome] | None = None,
    card: Card | None = None,
    allowed: Allowed | None = None,
    job: Mapping[str, Any] | None = None,
    **options: Any,
) -> Derivation:
    """A derivation of a phantom series that is written to the folder; options as in `write_series`."""
    files = WRITERS[modality](folder, **options)
    return derivation_from(files, outcome_of, card, allowed=allowed, **(job or {}))


def changed_block(source: Volume) -> Outcome:
    """An outcome that every companion can be made of: a lopsided block of other values, masked as metal, uncertain."""
    block = block_of(source.values.shape)
    values = source.values.copy()
    step = max(float(np.abs(values).max()) * 0.05, 1.0)
    values[block] -= np.rint(step)
    uncertainty = np.full(values.shape, 1.5, np.float32)
    uncertainty[block] = 12.25
    return Outcome(
        source.with_values(values),
        masks={"metal": block},
        measurements={"metal_volume_ml": float(block.sum()) * float(np.prod(source.geometry.spacing_mm)) / 1000},
        notes=("a block was changed",),
        unchanged=frozenset(k for k in range(len(values)) if not block[k].any()),
        uncertainty=uncertainty,
    )


def block_of(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A block that no mirroring and no exchange of axes leaves as it is, in the middle slices."""
    slices, rows, columns = shape
    block = np.zeros(shape, np.bool_)
    first, last = (1, slices - 1) if slices > 2 else (0, slices)
    block[first:last, rows // 2 : rows // 2 + 3, columns // 4 : columns // 4 + 7] = True
    block[first, min(rows // 2 + 3, rows - 1), columns // 4] = True
    return block


def written(folder: Path, *instances: DerivedInstance) -> list[Path]:
    """The instances as files, for validators."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for instance in instances:
        path = folder / f"{instance.sop_instance_uid}.dcm"
        path.write_bytes(instance.content)
        paths.append(path)
    return paths


def derived_files(folder: Path, derivation: Derivation) -> list[Path]:
    """The derived series itself as files, for validators that follow references."""
    made = derive_series(derivation.outcome, derivation.card, derivation.images, job=derivation.job)
    return written(folder, *made)


def read(instance: DerivedInstance) -> FileDataset:
    """The instance as pydicom reads it."""
    return dcmread(BytesIO(instance.content))


def places_mm(derivation: Derivation, voxels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(voxels, 3) LPS mm of the marked voxels by the headers of the source images themselves, sorted."""
    found = []
    for k, j, i in np.argwhere(voxels):
        image = derivation.images[k]
        corner, spacing = np.array(image.numbers("ImagePositionPatient")), image.numbers("PixelSpacing")
        row, column = np.reshape(image.numbers("ImageOrientationPatient"), (2, 3))
        found.append(corner + row * spacing[1] * i + column * spacing[0] * j)
    return in_order(np.array(found))


def places_in_frames_mm(dataset: Dataset, voxels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(voxels, 3) LPS mm of the marked voxels of a multi-frame object by its functional groups, sorted."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape([float(c) for c in shared.PlaneOrientationSequence[0].ImageOrientationPatient], (2, 3))
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    groups = dataset.PerFrameFunctionalGroupsSequence
    corners = np.array([group.PlanePositionSequence[0].ImagePositionPatient for group in groups], np.float64)
    marked = np.argwhere(voxels)
    return in_order(
        corners[marked[:, 0]] + np.outer(marked[:, 2], row * spacing[1]) + np.outer(marked[:, 1], column * spacing[0])
    )


def in_order(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The places sorted, so that two sets of them can be compared."""
    return places[np.lexsort(np.round(places, 3).T)]


def stacks() -> dict[str, dict[str, Any]]:
    """Series options by name: stacks as they lie in patients, even and not."""
    turn, lean = np.cos(np.radians(27)), np.sin(np.radians(27))
    return {
        "axial": {},
        "oblique": {"orientation": (turn, lean * 0.6, lean * 0.8, 0, 0.8, -0.6), "spacing_mm": (2.5, 0.8, 0.7)},
        "coronal": {"orientation": (1, 0, 0, 0, 0, -1)},
        "feet first": {"orientation": (-1, 0, 0, 0, 1, 0)},
        "odd matrix": {"slices": 5, "rows": 51, "columns": 37},
        "single slice": {"slices": 1},
        "gantry tilt": {"each": _tilted, "allowed": Allowed(slicewise=True)},
        "gap": {"slices": 5, "each": _with_gap, "allowed": Allowed(slicewise=True)},
    }


def _tilted(k: int, dataset: Dataset) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y + 1.1 * k, z]


def _with_gap(k: int, dataset: Dataset) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, z + (3.7 if k > 1 else 0)]
