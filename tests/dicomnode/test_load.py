"""A series becomes one volume whose slices are paired with their sources by geometry."""

import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicomnode.errors import SeriesUnusable
from dicomnode.fingerprints import header_sha256, pixel_sha256
from dicomnode.load import Allowed, load_stack, load_volume, planned_stacks
from dicomnode.source_image import Fingerprint
from inference.volume import Unit
from tests.builders import fixtures_folder, shared_data
from tests.builders_dicom import (
    ct_values,
    mr_values,
    pet_values,
    write_ct_series,
    write_mr_series,
    write_pet_series,
)


def test_slices_are_paired_with_their_sources_by_position_not_by_name_or_number(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = 10 - k

    files = write_ct_series(tmp_path, slices=5, each=spoil)
    shuffled = [files[index] for index in (3, 0, 4, 1, 2)]
    volume, images = load_volume(shuffled)
    assert [image.path for image in images] == files
    assert [image.position_mm for image in images] == [100.0, 103.0, 106.0, 109.0, 112.0]
    assert (volume.values == ct_values(5, 64, 64)).all()


def test_the_affine_leads_every_voxel_to_its_place(tmp_path: Path) -> None:
    orientation = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)  # sagittal: the normal runs to -x
    files = write_mr_series(tmp_path, slices=3, orientation=orientation, spacing_mm=(4.0, 0.5, 0.8))
    volume, images = load_volume(files)
    assert volume.geometry.spacing_mm == pytest.approx((4.0, 0.5, 0.8))
    for k, image in enumerate(images):
        corner = np.array(image.numbers("ImagePositionPatient"))
        j, i = 7, 11
        expected = corner + i * 0.8 * np.array(orientation[:3]) + j * 0.5 * np.array(orientation[3:])
        assert np.allclose((volume.geometry.affine @ [k, j, i, 1])[:3], expected)
    assert volume.geometry.frame_of_reference_uid == images[0].text("FrameOfReferenceUID")


def test_ct_pet_and_mr_come_in_their_units(tmp_path: Path) -> None:
    ct, _ = load_volume(write_ct_series(tmp_path / "ct"))
    pet, images = load_volume(write_pet_series(tmp_path / "pet"))
    mr, _ = load_volume(write_mr_series(tmp_path / "mr"))
    assert (ct.unit, pet.unit, mr.unit) == (Unit.HU, Unit.BQ_PER_ML, Unit.ARBITRARY)
    assert (ct.values == ct_values(4, 64, 64)).all() and (mr.values == mr_values(4, 64, 64)).all()
    assert len({image.slope for image in images}) == 4, "the phantom must have a slope of its own in each slice"
    off = np.abs(pet.values - pet_values(4, 32, 32)).max(axis=(1, 2))
    assert (off <= [image.slope * 0.501 for image in images]).all()


def test_a_pet_without_attenuation_correction_is_in_counts(tmp_path: Path) -> None:
    volume, _ = load_volume(write_pet_series(tmp_path, attenuation_corrected=False))
    assert volume.unit == Unit.PROPORTIONAL_COUNTS and "ATTN" not in volume.acquisition.corrected_image


def test_a_single_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    volume, images = load_volume(write_ct_series(tmp_path, slices=1, spacing_mm=(5.0, 1.0, 1.0)))
    assert volume.values.shape == (1, 64, 64) and volume.geometry.spacing_mm[0] == 5.0 and len(images) == 1


def test_a_planned_stack_is_read_as_the_plan_says_and_only_then_are_its_pixels_touched(tmp_path: Path) -> None:
    files = write_pet_series(tmp_path)
    (plan,) = planned_stacks(files, allowed=Allowed())
    assert [image.path for image in plan.images] == files
    volume, images = load_stack(plan)
    assert volume.geometry is plan.geometry and volume.unit == plan.unit == Unit.BQ_PER_ML
    assert [image.position_mm for image in images] == [image.position_mm for image in plan.images]
    assert all(image.highest > 0 for image in images) and all(image.highest == 0 for image in plan.images)
    files[2].write_bytes(files[2].read_bytes()[:-100])
    (plan,) = planned_stacks(files, allowed=Allowed())
    with pytest.raises(SeriesUnusable):
        load_stack(plan)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(511, 511), (568, 568), (616, 616), (1, 7), (33, 129)]),
    st.sampled_from([(1.0, -1024.0), (1.0, 0.0), (0.5, -1000.0), (2.0, -8192.0)]),
    st.integers(-900, 2000),
)
def test_odd_matrices_slopes_and_intercepts_are_read_exactly(
    tmp_path_factory: Any, size: tuple[int, int], rescale: tuple[float, float], level: int
) -> None:
    slope, intercept = rescale
    values = np.full((2, *size), level // 2 * 2, np.int32)
    values[1, 0, 0] = -900
    folder = tmp_path_factory.mktemp("odd")
    volume, _ = load_volume(write_ct_series(folder, values=values, slope=slope, intercept=intercept))
    assert (volume.values == values).all()


def test_neither_torch_nor_sql_is_needed_to_load() -> None:
    code = (
        "import sys, dicomnode.load, dicomnode.derive; print({'torch', 'sqlalchemy', 'highdicom'} & set(sys.modules))"
    )
    folder = Path(__file__).parents[2]
    assert run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True).stdout.strip() == b"set()"


REAL = [
    ("ct_chest_C3N-00249", (4, 512, 512), Unit.HU),
    ("ct_dental_metal_TCGA-E3-A3E5", (6, 512, 512), Unit.HU),
    ("ct_lowdose_petct_TCGA-DE-A4MA", (4, 512, 512), Unit.HU),
    ("pet_wholebody_ac_STS_001", (16, 128, 128), Unit.BQ_PER_ML),
    ("triple_STS_013/CT", (8, 215, 252), Unit.HU),
    ("triple_STS_013/PET", (8, 54, 63), Unit.SUV_BW),
    ("triple_STS_013/MR_T1", (8, 140, 179), Unit.ARBITRARY),
]


@pytest.mark.parametrize(("name", "shape", "unit"), REAL)
def test_real_series_are_read_as_pydicom_reads_each_slice(name: str, shape: tuple[int, ...], unit: Unit) -> None:
    volume, images = load_volume(sorted((fixtures_folder() / name).glob("*.dcm")))
    assert volume.values.shape == shape and volume.unit == unit
    for k, image in enumerate(images):
        dataset = dcmread(image.path)
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        assert np.allclose(volume.values[k], dataset.pixel_array * slope + intercept, rtol=1e-6, atol=0)
        corner = volume.geometry.affine @ [k, 0, 0, 1]
        assert np.abs(corner[:3] - dataset.ImagePositionPatient).max() < 1e-3


def test_the_suv_factor_of_a_real_pet_is_that_of_the_collection() -> None:
    volume, _ = load_volume(sorted((fixtures_folder() / "pet_wholebody_ac_STS_001").glob("*.dcm")))
    with np.load(shared_data() / "pet_wholebody_sts001.npz") as known:
        assert volume.acquisition.suv_bw_factor == pytest.approx(float(known["suv_factor"]), rel=1e-4)


@pytest.mark.parametrize(
    "syntax",
    [
        *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian),
        *(DeflatedExplicitVRLittleEndian, RLELossless),
    ],
)
@pytest.mark.parametrize("write", [write_ct_series, write_pet_series, write_mr_series])
def test_the_hashes_taken_while_loading_are_those_of_the_files(
    tmp_path: Path, write: Callable[..., list[Path]], syntax: str
) -> None:
    def each(k: int, dataset: Dataset) -> None:
        dataset.PatientName, dataset.StudyDescription = "M\u00fcller^X", "odd"
        dataset.add_new(0x00290010, "LO", "MAKER")

    _, images = load_volume(write(tmp_path, slices=7, rows=5, columns=3, transfer_syntax_uid=syntax, each=each))
    assert len(images) == 7
    for image in images:
        assert image.fingerprint == Fingerprint(
            sha256(image.path.read_bytes()).hexdigest(),
            header_sha256(dcmread(image.path)),
            pixel_sha256(dcmread(image.path)) or "",
        )
