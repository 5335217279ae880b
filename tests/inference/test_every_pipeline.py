"""What every pipeline promises; pipelines are found by the presence of their files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import SettingsInvalid, SourceRefused
from inference.physics.ct_simulation import simulate_metal_ct
from inference.pipeline import Outcome, build_pipeline, pipeline_names, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

ROOT = Path(__file__).parents[2]
FILES = sorted(path.stem for path in (ROOT / "inference" / "pipelines").glob("*.py") if path.stem != "__init__")
SLICES, SIZE, SPACING_MM = 6, 96, 4.0
FINE_MM = 1.2
"""A small body, in pixels that networks are trained on."""


def torso() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(body, lungs) of a thorax, (SLICES, SIZE, SIZE)."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    body = (x / 40) ** 2 + (y / 27) ** 2 < 1
    lungs = ((np.abs(x) - 18) / 11) ** 2 + (y / 15) ** 2 < 1
    return tuple(np.broadcast_to(part, (SLICES, SIZE, SIZE)) for part in (body, lungs))  # type: ignore[return-value]


def ct_with_metal(spacing_mm: float = SPACING_MM) -> NDArray[np.float32]:
    """HU of a pelvis with two metal hips and some noise."""
    body, _ = torso()
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where(body, 45, -1000).astype(np.float32)
    clean += np.random.default_rng(8).normal(0, 15, clean.shape).astype(np.float32)
    hips = np.zeros(clean.shape, bool)
    hips[1:5] = y**2 + (np.abs(x) - 20) ** 2 < 3.5**2
    return simulate_metal_ct(clean, hips, metal="iron", spacing_mm=spacing_mm, seed=8)


def pet() -> NDArray[np.float32]:
    """Bq/ml of a thorax with cold lungs and two hot lesions, with noise."""
    body, lungs = torso()
    values = np.where(body, 4000, 20).astype(np.float32)
    values[lungs] = 1200
    values[2:4, 40:43, 60:63] = 30000
    values[3:5, 55:58, 45:48] = 20000
    noise = np.random.default_rng(9).normal(0, 1, values.shape).astype(np.float32)
    return np.asarray(np.maximum(values + 0.15 * values * noise, 0), np.float32)


def mr() -> NDArray[np.float32]:
    """Arbitrary units."""
    body, lungs = torso()
    values = np.where(body, 400, 5).astype(np.float32)
    values[lungs] = 30
    return values + np.random.default_rng(10).normal(0, 6, values.shape).astype(np.float32)


def axial(spacing_mm: float) -> Geometry:
    """Slices along z, columns along x."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag([spacing_mm, spacing_mm, 4.0])[:, ::-1]
    return Geometry(affine, "1.2.3")


@lru_cache(maxsize=1)
def sources() -> tuple[Volume, ...]:
    """One source for every contract that a pipeline may have."""
    geometry, fine = axial(SPACING_MM), axial(FINE_MM)
    uncorrected = ("NORM", "DTIM", "DECY", "RAN")
    corrected = (*uncorrected, "ATTN", "SCAT")
    nac = Acquisition("PT", 16, ("ORIGINAL", "PRIMARY"), corrected_image=uncorrected, units="BQML")
    ac = Acquisition(
        "PT",
        16,
        ("ORIGINAL", "PRIMARY"),
        corrected_image=corrected,
        units="BQML",
        attenuation_correction_method="measured",
        suv_bw_factor=2.5e-4,
    )
    original = ("ORIGINAL", "PRIMARY", "AXIAL")
    return (
        Volume(ct_with_metal(), Unit.HU, geometry, Acquisition("CT", 12, original, kvp=120.0)),
        Volume(ct_with_metal(FINE_MM), Unit.HU, fine, Acquisition("CT", 12, original, kvp=120.0)),
        Volume(pet(), Unit.BQ_PER_ML, geometry, nac),
        Volume(pet() / np.float32(100), Unit.PROPORTIONAL_COUNTS, geometry, nac),
        Volume(pet(), Unit.BQ_PER_ML, geometry, ac),
        Volume(mr(), Unit.ARBITRARY, geometry, Acquisition("MR", 12, ("ORIGINAL", "PRIMARY"))),
    )


@cache
def accepted(name: str) -> tuple[Volume, Outcome]:
    """The first of the sources that the pipeline takes, and its outcome."""
    pipeline = build_pipeline(name, {})
    for source in sources():
        try:
            return source, run_pipeline(pipeline, source)
        except SourceRefused:
            continue
    pytest.fail(f"{name} refuses every source there is; add one for its contract")


def test_there_are_pipelines_and_each_file_is_one() -> None:
    assert FILES
    assert list(pipeline_names()) == FILES


def test_ordinals_and_tokens_tell_pipelines_apart() -> None:
    cards = [build_pipeline(name, {}).card for name in FILES]
    assert len({card.ordinal for card in cards}) == len(cards)
    assert all(card.ordinal > 0 for card in cards)


@pytest.mark.parametrize("name", FILES)
def test_a_pipeline_is_named_after_its_file_and_says_what_it_is_for(name: str) -> None:
    card = build_pipeline(name, {}).card
    assert card.name == name
    for words in (card.version, card.label, card.purpose, card.token, card.method, card.intended_use):
        assert words
        assert words.isascii()
    # Code strings (PS3.5 6.2): ImageType's value has at most 16 capitals.
    assert card.token == card.token.upper()
    assert len(card.token) <= 16
    assert card.takes


@pytest.mark.parametrize("name", FILES)
def test_grid_and_unit_are_kept_as_the_card_says_and_every_value_is_finite(name: str) -> None:
    source, outcome = accepted(name)
    card = build_pipeline(name, {}).card
    assert outcome.volume.values.shape == source.values.shape
    assert outcome.volume.values.dtype == np.float32
    assert outcome.volume.geometry is source.geometry
    assert outcome.volume.unit == (card.makes or source.unit)
    assert np.isfinite(outcome.volume.values).all()
    for mask in outcome.masks.values():
        assert mask.shape == source.values.shape
        assert mask.dtype == np.bool_
    for figure in outcome.measurements.values():
        assert np.isfinite(figure)


@pytest.mark.parametrize("name", FILES)
def test_the_source_is_left_untouched(name: str) -> None:
    source, outcome = accepted(name)
    before = source.values.copy()
    values = source.values.copy()
    values.setflags(write=False)
    run_pipeline(build_pipeline(name, {}), source.with_values(values))
    np.testing.assert_array_equal(source.values, before)
    assert not np.shares_memory(outcome.volume.values, source.values)


@pytest.mark.parametrize("name", FILES)
def test_the_same_input_gives_the_same_output(name: str) -> None:
    source, outcome = accepted(name)
    again = run_pipeline(build_pipeline(name, {}), source)
    np.testing.assert_array_equal(again.volume.values, outcome.volume.values)
    assert dict(again.measurements) == dict(outcome.measurements)
    assert again.notes == outcome.notes


@pytest.mark.parametrize("name", FILES)
def test_another_unit_and_another_modality_are_refused(name: str) -> None:
    source, _ = accepted(name)
    pipeline = build_pipeline(name, {})
    foreign = next(unit for unit in Unit if unit not in pipeline.card.takes)
    with pytest.raises(SourceRefused) as caught:
        run_pipeline(pipeline, source.with_values(source.values, foreign))
    assert caught.value.reason_code == "wrong-unit"
    other = next(volume for volume in sources() if volume.acquisition.modality != pipeline.card.modality)
    with pytest.raises(SourceRefused) as caught:
        run_pipeline(pipeline, other)
    assert caught.value.reason_code == "wrong-modality"


def out_of_line(source: Volume, gap_mm: float, tilt: float) -> Volume:
    """The source with a gap after its second slice and every slice shifted against the one before."""
    corners = source.geometry.affine[:3, 3] + np.arange(SLICES)[:, None] * source.geometry.affine[:3, 0]
    corners[2:, 2] += gap_mm
    corners[:, 1] += tilt * (corners[:, 2] - corners[0, 2])
    return replace(source, geometry=replace(source.geometry, corners_mm=corners))


@pytest.mark.parametrize("name", FILES)
def test_uneven_slices_are_refused_unless_it_does_not_matter_where_the_others_lie(name: str) -> None:
    source, _ = accepted(name)
    pipeline = build_pipeline(name, {})
    places = [out_of_line(source, 4.0, 0.0), out_of_line(source, 40.0, 0.3)]
    if pipeline.card.slicewise:
        one, other = (run_pipeline(pipeline, place) for place in places)
        np.testing.assert_array_equal(one.volume.values, other.volume.values)
    else:
        for place in places:
            with pytest.raises(SourceRefused) as caught:
                run_pipeline(pipeline, place)
            assert caught.value.reason_code == "uneven-stack"


@pytest.mark.parametrize("name", [name for name in FILES if build_pipeline(name, {}).card.slicewise])
def test_a_slicewise_result_is_that_of_the_slice_alone_where_its_neighbours_are_out_of_line(name: str) -> None:
    source, _ = accepted(name)
    pipeline = build_pipeline(name, {})
    whole = run_pipeline(pipeline, out_of_line(source, 40.0, 0.3)).volume.values
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = source.with_values(np.ascontiguousarray(source.values[order]))
    again = run_pipeline(pipeline, out_of_line(shuffled, 40.0, 0.3)).volume.values
    np.testing.assert_allclose(again, whole[order], atol=1e-3)  # HU: a network's batches may round differently


@pytest.mark.parametrize("name", FILES)
def test_an_unknown_setting_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        build_pipeline(name, {"no_such_setting": 1})
    assert caught.value.key == "no_such_setting"


@pytest.mark.parametrize("name", FILES)
def test_importing_and_building_loads_neither_torch_nor_scipy(name: str) -> None:
    """Every process builds the pipelines to read the config: torch costs seconds and 220 MB there, scipy 0.3 s."""
    program = (
        "import sys; from inference.pipeline import build_pipeline; "
        f"build_pipeline({name!r}, {{}}).card; "
        "sys.exit(', '.join({'torch', 'scipy'} & set(sys.modules)) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
