"""SimpleITK and dcm2niix find in a derived series the place and the values of its source (G5)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import FileDataset, dcmread

from dicomnode.load import load_volume
from inference.volume import Unit, Volume
from tests.builders import fixtures_folder, peer_is_missing
from tests.builders_dicom import card_for, derived_datasets, write_ct_series, write_mr_series, write_pet_series

pytestmark = pytest.mark.peer

CLOSE_MM = 0.01
"""NIfTI holds its places in 32-bit numbers, and positions in DICOM are rounded decimals."""

Array = NDArray[np.float64]
Read = Callable[[Sequence[Path], Path], tuple[Array, Array]]
"""Files and a folder to work in -> (4, 4) from (slice, row, column, 1) to LPS mm, and the values."""

SLANT = np.deg2rad(20)
OBLIQUE = (np.cos(SLANT), np.sin(SLANT), 0, -np.sin(SLANT) * np.cos(0.3), np.cos(SLANT) * np.cos(0.3), np.sin(0.3))
STACKS: dict[str, dict[str, Any]] = {
    "axial": {},
    "oblique": {"orientation": OBLIQUE, "first_position_mm": (-31.4, 12.7, 88.8)},
    "feet first prone": {"orientation": (1, 0, 0, 0, -1, 0), "PatientPosition": "FFP"},
    "feet first supine": {"orientation": (-1, 0, 0, 0, 1, 0), "PatientPosition": "FFS"},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1), "spacing_mm": (2.5, 0.7, 1.3)},
    "coronal": {"orientation": (1, 0, 0, 0, 0, -1), "spacing_mm": (4.0, 1.1, 0.9)},
    "thin": {"spacing_mm": (0.625, 0.48828125, 0.48828125), "first_position_mm": (-125.123456, 97.3, -1234.5678)},
}


def _simpleitk() -> Any:
    if find_spec("SimpleITK") is None:
        peer_is_missing("SimpleITK is not installed (PyPI simpleitk)")
    return import_module("SimpleITK")


def _placed(image: Any) -> tuple[Array, Array]:
    """A SimpleITK image as we say it: slices, rows, columns."""
    affine = np.eye(4)
    columns = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3], affine[:3, 3] = columns[:, ::-1], image.GetOrigin()
    return affine, _simpleitk().GetArrayFromImage(image).astype(np.float64)


def by_simpleitk(paths: Sequence[Path], folder: Path) -> tuple[Array, Array]:
    """The series as SimpleITK sorts and reads it."""
    sitk = _simpleitk()
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(paths[0].parent))
    assert sorted(names) == sorted(map(str, paths))
    reader.SetFileNames(names)
    reader.SetOutputPixelType(sitk.sitkFloat64)
    return _placed(reader.Execute())


def by_dcm2niix(paths: Sequence[Path], folder: Path) -> tuple[Array, Array]:
    """The series as dcm2niix converts it; NIfTI is read by SimpleITK."""
    if find_spec("dcm2niix") is None:
        peer_is_missing("dcm2niix is not installed (PyPI dcm2niix)")
    program = import_module("dcm2niix").bin
    command = [program, "-b", "n", "-z", "n", "-f", "converted", "-o", str(folder), str(paths[0].parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    made = list(folder.glob("*.nii"))
    assert len(made) == 1, done.stdout
    return _placed(_simpleitk().ReadImage(str(made[0])))


READERS = [by_simpleitk, by_dcm2niix]


def written(folder: Path, made: Sequence[FileDataset]) -> list[Path]:
    """The derived files, named so that the order of names is not that of slices."""
    folder.mkdir()
    paths = [folder / f"{(number * 7) % 101:03d}.dcm" for number in range(len(made))]
    for path, dataset in zip(paths, made, strict=True):
        dataset.save_as(path)
    return paths


def brought_to(affine: Array, values: Array, volume: Volume) -> Array:
    """Values on the volume's grid: the grids may differ in order and direction of their axes, by nothing else."""
    shape, target = volume.values.shape, volume.geometry.affine
    to_theirs = np.rint(np.linalg.inv(affine) @ target)
    corners = np.array([[*(np.array(corner) * (np.array(shape) - 1)), 1] for corner in np.ndindex(2, 2, 2)]).T
    apart_mm = np.linalg.norm((affine @ to_theirs @ corners - target @ corners)[:3], axis=0)
    assert apart_mm.max() < CLOSE_MM, f"{apart_mm.max():g} mm apart at a corner"
    grid = np.stack([*np.indices(shape), np.ones(shape)]).reshape(4, -1)
    index = (to_theirs @ grid)[:3].astype(int)
    assert (index >= 0).all() and (values.shape > index.T).all()
    brought: Array = values[tuple(index)].reshape(shape)
    return brought


def assert_read_alike(read: Read, paths: Sequence[Path], folder: Path, expected: Volume, within: Any) -> None:
    """Another reader finds the values at their places in the files."""
    folder.mkdir()
    affine, values = read(paths, folder)
    assert values.size == expected.values.size
    found = brought_to(affine, values, expected)
    excess = np.abs(found - expected.values) - np.broadcast_to(within, found.shape)
    assert excess.max() <= 0, f"off by {excess.max():g} more than the storage rule allows"


def volume_of(source: Sequence[Path]) -> Volume:
    return load_volume(source)[0]


def float_step(values: Any) -> Any:
    """How far two float32 numbers of that size may lie apart when both stand for the same one."""
    return 4 * np.spacing(np.abs(values).astype(np.float32))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("stack", STACKS)
def test_a_derived_ct_lies_where_its_source_lies(tmp_path: Path, stack: str, read: Read) -> None:
    source = write_ct_series(tmp_path / "source", slices=5, rows=48, columns=40, **STACKS[stack])
    derived = written(tmp_path / "derived", derived_datasets(source, card_for("CT")))
    assert_read_alike(read, derived, tmp_path / "out", volume_of(source), within=0.0)


@pytest.mark.parametrize("read", READERS)
def test_a_derived_ct_of_fractional_values_is_off_by_half_a_unit_at_most(tmp_path: Path, read: Read) -> None:
    source = write_ct_series(tmp_path / "source", slope=0.3, intercept=-1000.0)
    derived = written(tmp_path / "derived", derived_datasets(source, card_for("CT")))
    assert_read_alike(read, derived, tmp_path / "out", volume_of(source), within=0.5 + 1e-3)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("stack", ["axial", "oblique", "feet first supine"])
def test_a_derived_pet_keeps_the_slope_of_every_slice(tmp_path: Path, stack: str, read: Read) -> None:
    place = {key: value for key, value in STACKS[stack].items() if key != "PatientPosition"}
    source = write_pet_series(tmp_path / "source", slices=5, **place)
    made = derived_datasets(source, card_for("PT"))
    slopes = np.array([float(dataset.RescaleSlope) for dataset in made])
    assert len(set(slopes)) == 5
    derived = written(tmp_path / "derived", made)
    peak = volume_of(source).values.max(axis=(1, 2), keepdims=True)
    within = slopes[:, None, None] / 2 + float_step(peak)
    assert_read_alike(read, derived, tmp_path / "out", volume_of(source), within=within)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("stack", ["axial", "oblique", "sagittal", "coronal"])
def test_a_derived_mr_is_exact(tmp_path: Path, stack: str, read: Read) -> None:
    source = write_mr_series(tmp_path / "source", slices=6, rows=40, columns=56, **STACKS[stack])
    derived = written(tmp_path / "derived", derived_datasets(source, card_for("MR")))
    assert_read_alike(read, derived, tmp_path / "out", volume_of(source), within=0.0)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("stack", ["axial", "oblique"])
def test_a_synthetic_ct_lies_where_its_pet_lies(tmp_path: Path, stack: str, read: Read) -> None:
    source = write_pet_series(tmp_path / "source", attenuation_corrected=False, **STACKS[stack])
    made = derived_datasets(source, card_for("PT", to="CT"))
    derived = written(tmp_path / "derived", made)
    assert {dataset.Modality for dataset in made} == {"CT"}
    expected = volume_of(source).with_values(np.minimum(volume_of(source).values, 1000), Unit.HU)
    assert_read_alike(read, derived, tmp_path / "out", expected, within=0.5)


@pytest.mark.parametrize("read", READERS)
def test_a_single_slice_lies_where_its_source_lies(tmp_path: Path, read: Read) -> None:
    place = {"orientation": OBLIQUE, "first_position_mm": (-31.4, 12.7, 88.8), "spacing_mm": (3.0, 0.8, 1.2)}
    source = write_ct_series(tmp_path / "source", slices=1, rows=48, columns=40, **place)
    derived = written(tmp_path / "derived", derived_datasets(source, card_for("CT")))
    volume = volume_of(source)
    (tmp_path / "out").mkdir()
    affine, values = read(derived, tmp_path / "out")
    # How thick a lone slice is, readers tell each in its own way; where its pixels lie they tell alike.
    affine[:3, 0] = volume.geometry.affine[:3, 0]
    found = brought_to(affine, values, volume)
    assert np.array_equal(found, volume.values)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("ct_chest_C3N-00249", "CT"),
        ("ct_dental_metal_TCGA-E3-A3E5", "CT"),
        ("ct_lowdose_petct_TCGA-DE-A4MA", "CT"),
        ("pet_wholebody_ac_STS_001", "PT"),
        ("triple_STS_013/MR_T1", "MR"),
    ],
)
def test_what_is_derived_of_a_real_series_is_read_alike(tmp_path: Path, name: str, modality: str, read: Read) -> None:
    source = sorted((fixtures_folder() / name).glob("*.dcm"))
    made = derived_datasets(source, card_for(modality))
    derived = written(tmp_path / "derived", made)
    volume = volume_of(source)
    within: Any = 0.0
    if modality == "CT":
        within = 0.5 * (not np.array_equal(volume.values, np.rint(volume.values)))
    if modality == "PT":
        slopes = np.array([float(dcmread(path).RescaleSlope) for path in derived])[:, None, None]
        within = slopes / 2 + float_step(volume.values.max(axis=(1, 2), keepdims=True))
    assert_read_alike(read, derived, tmp_path / "out", volume_of(source), within=within)
