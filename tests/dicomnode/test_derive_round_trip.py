"""A pipeline that changes nothing gives the source's values back: CT to 0.5 HU, PET to half a slope, MR exactly."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import FileDataset, dcmread
from pydicom.dataset import Dataset

from dicomnode.derive import derive_series
from dicomnode.load import load_volume
from inference.pipeline import Outcome
from tests.builders import fixtures_folder
from tests.builders_dicom import card_for, job_facts, write_ct_series, write_mr_series, write_pet_series

SIZES = st.sampled_from([(511, 3), (3, 511), (568, 2), (5, 568), (616, 4), (7, 616), (1, 1), (1, 9), (17, 31)])
SLICES = st.sampled_from([1, 1, 2, 5])
SEEDS = st.integers(0, 2**31)
Pair = tuple[FileDataset, FileDataset]
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def pairs(files: list[Path]) -> list[Pair]:
    """Each source instance with the one derived of it, which a receiver finds by its reference."""
    source, images = load_volume(files)
    sources = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, files)}
    card = card_for(source.acquisition.modality)
    found = []
    for made in derive_series(Outcome(source), card, images, job=job_facts()):
        derived = dcmread(BytesIO(made.content))
        found.append((sources[derived.SourceImageSequence[0].ReferencedSOPInstanceUID], derived))
    assert len(found) == len(files)
    return found


def real(dataset: Dataset) -> NDArray[np.float64]:
    """Values as a receiver makes them of pixels and header, in float64."""
    assert isinstance(dataset, FileDataset)
    stored = dataset.pixel_array.astype(np.float64)
    return stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))


def off(pair: Pair) -> float:
    return float(np.abs(real(pair[0]) - real(pair[1])).max())


@quick
@given(
    SIZES,
    SLICES,
    SEEDS,
    st.sampled_from([1.0, 0.5, 2.0, 0.1, 1.7]),
    st.sampled_from([-1024.0, -1000.0, -8192.0, 0.0, -1023.5]),
    st.sampled_from([None, -2000, -1025, -3024, -32768]),
    st.booleans(),
)
def test_t1_t4_any_ct_comes_back_within_half_a_hu(
    tmp_path_factory: Any,
    size: tuple[int, int],
    slices: int,
    seed: int,
    slope: float,
    intercept: float,
    padding: int | None,
    is_declared: bool,
) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-1024, 3072, (slices, *size)).astype(np.float64)
    options: dict[str, Any] = {}
    if padding is not None and size[0] > 4:
        values[:, 0], values[:, -1] = padding, padding
        if is_declared:
            stored = int(np.clip(np.rint((padding - intercept) / slope), -32768, 32767))

            def declare(k: int, dataset: Dataset) -> None:
                is_signed = dataset.PixelRepresentation == 1
                dataset.add_new("PixelPaddingValue", "SS" if is_signed else "US", stored)

            options["each"] = declare
    values = np.clip(values, intercept - 32768 * slope, intercept + 32767 * slope)  # what 16 bits hold at this slope
    files = write_ct_series(tmp_path_factory.mktemp("ct"), values=values, slope=slope, intercept=intercept, **options)
    for source, derived in pairs(files):
        expected = np.clip(real(source), -32768, 32767)  # padding may lie deeper than 16 bits of HU
        assert np.abs(expected - real(derived)).max() <= 0.5 + 1e-6 * np.abs(expected).max()
        assert (derived.Rows, derived.Columns) == size == (source.Rows, source.Columns)
        if "PixelPaddingValue" in derived:
            is_padding = derived.pixel_array == derived.PixelPaddingValue
            assert np.array_equal(is_padding, expected == expected[0, 0]), "padding, and nothing else"


@quick
@given(SIZES, SLICES, SEEDS, st.floats(1e-4, 1e7), st.sampled_from([0.0, 0.1, 1.0]), st.booleans())
def test_p3_any_pet_comes_back_within_half_a_slope_of_its_slice(
    tmp_path_factory: Any,
    size: tuple[int, int],
    slices: int,
    seed: int,
    peak: float,
    below: float,
    is_empty: bool,
) -> None:
    random = np.random.default_rng(seed)
    values = random.uniform(-below, 1, (slices, *size)) * peak * random.uniform(0.01, 1, (slices, 1, 1))
    values[0] *= not is_empty
    for source, derived in pairs(write_pet_series(tmp_path_factory.mktemp("pet"), values=values)):
        slope = float(derived.RescaleSlope)
        assert off((source, derived)) <= slope * 0.5001 + 1e-7 * np.abs(real(source)).max()
        assert (derived.RescaleIntercept, len(derived["RescaleSlope"].value.original_string)) <= (0, 16)
        if np.abs(real(source)).max() > 0:
            assert np.abs(derived.pixel_array.astype(int)).max() >= 32766, "the slice's own scale is used up"


@quick
@given(
    SIZES,
    SLICES,
    SEEDS,
    st.sampled_from([(None, None), ("1", "0"), ("2.44", "-3"), ("0.00123", "7.5"), ("171.3", "-1000")]),
    st.booleans(),
)
def test_m2_any_mr_comes_back_exactly(
    tmp_path_factory: Any,
    size: tuple[int, int],
    slices: int,
    seed: int,
    rescale: tuple[str | None, str | None],
    is_signed: bool,
) -> None:
    low, high = (-32768, 32768) if is_signed else (0, 65536)
    stored = np.random.default_rng(seed).integers(low, high, (slices, *size))
    stored.flat[0] = low
    slope, intercept = rescale
    files = write_mr_series(
        tmp_path_factory.mktemp("mr"), values=stored, RescaleSlope=slope, RescaleIntercept=intercept
    )
    for source, derived in pairs(files):
        assert np.array_equal(source.pixel_array, derived.pixel_array) and off((source, derived)) == 0.0
        assert derived.get("RescaleSlope") == source.get("RescaleSlope")
        assert derived.PixelRepresentation == source.PixelRepresentation


LIMITS: dict[str, Callable[[Dataset], float]] = {
    "CT": lambda derived: 0.5,
    "PT": lambda derived: float(derived.RescaleSlope) * 0.5001,
    "MR": lambda derived: 0.0,
}
REAL = """ct_chest_C3N-00249 ct_dental_metal_TCGA-E3-A3E5 ct_lowdose_petct_TCGA-DE-A4MA pet_wholebody_ac_STS_001
triple_STS_013/CT triple_STS_013/PET triple_STS_013/MR_T1"""


@pytest.mark.parametrize("name", REAL.split())
def test_a_real_series_comes_back_and_a_second_derivation_has_the_same_bytes(name: str) -> None:
    files = sorted((fixtures_folder() / name).glob("*.dcm"))
    for source, derived in pairs(files):
        allowed = LIMITS[derived.Modality](derived) + 1e-6 * np.abs(real(source)).max()
        assert off((source, derived)) <= (allowed if derived.Modality != "MR" else 0.0)
        assert derived.ImagePositionPatient == source.ImagePositionPatient
    runs = []
    for order in (files, files[::-1]):
        source_volume, images = load_volume(order)
        made = derive_series(
            Outcome(source_volume), card_for(source_volume.acquisition.modality), images, job=job_facts()
        )
        runs.append([one.content for one in made])
    assert runs[0] == runs[1]
