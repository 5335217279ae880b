"""Change and uncertainty as Parametric Maps: right place, right values, right unit, valid."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.parametric_map import UNITS, MapLeftOut, change_map, uncertainty_map
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders import fixtures_folder
from tests.builders_companions import (
    changed_block,
    derivation_from,
    derived_files,
    in_order,
    phantom_derivation,
    places_in_frames_mm,
    places_mm,
    read,
    stacks,
    written,
)
from tests.builders_dicom import card_for
from tests.validators import dcentvfy, dcmdump_complaints, dcmftest, errors, unexpected

MAPS: dict[str, Callable[[Derivation], DerivedInstance | None]] = {"change": change_map, "uncertainty": uncertainty_map}


def map_of(derivation: Derivation, kind: str) -> FileDataset:
    made = MAPS[kind](derivation)
    assert made is not None
    return read(made)


def values_of(dataset: FileDataset) -> NDArray[np.float32]:
    """(frames, rows, columns)"""
    values: NDArray[np.float32] = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    return values


def expected_of(derivation: Derivation, kind: str) -> NDArray[np.float32]:
    if kind == "uncertainty":
        assert derivation.outcome.uncertainty is not None
        return derivation.outcome.uncertainty
    return derivation.outcome.volume.values - derivation.source.values


def changed_by(change: float) -> Callable[[Volume], Outcome]:
    """What a pipeline makes that adds a number in the block."""

    def outcome(source: Volume) -> Outcome:
        made = changed_block(source)
        values = source.values.copy()
        values[made.masks["metal"]] += np.float32(change)
        return replace(made, volume=source.with_values(values))

    return outcome


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("name", stacks())
def test_every_value_lies_where_the_source_images_say(tmp_path: Path, name: str, kind: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", **stacks()[name])
    dataset, expected = map_of(derivation, kind), expected_of(derivation, kind)
    values = values_of(dataset)
    peak = expected.flat[np.abs(expected).argmax()]
    found, wanted = places_in_frames_mm(dataset, values == peak), places_mm(derivation, expected == peak)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in stacks() if name not in ("gantry tilt", "gap")])
def test_highdicom_reads_the_exact_values_on_the_sources_grid(tmp_path: Path, name: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", **stacks()[name])
    dataset = map_of(derivation, "uncertainty")
    volume = highdicom.pm.ParametricMap.from_dataset(dataset).get_volume(apply_real_world_transform=True)
    expected = expected_of(derivation, "uncertainty")
    marked = np.argwhere(volume.array == 12.25)
    places = (volume.affine @ np.column_stack([marked, np.ones(len(marked))]).T).T[:, :3]
    np.testing.assert_allclose(in_order(places), places_mm(derivation, expected == 12.25), atol=1e-5)
    np.testing.assert_array_equal(np.sort(volume.array.ravel()), np.sort(expected.ravel()))


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_the_change_is_result_minus_source_to_the_bit(tmp_path: Path, modality: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", modality, slices=6)
    dataset, expected = map_of(derivation, "change"), expected_of(derivation, "change")
    by_uid = {header.SOPInstanceUID: k for k, header in enumerate(derivation.derived)}
    for frame, group in zip(values_of(dataset), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        uids = [item.ReferencedSOPInstanceUID for item in group.DerivationImageSequence[0].SourceImageSequence]
        k = by_uid[uids[0]]
        np.testing.assert_array_equal(frame, expected[k])
        assert uids[1:] == [derivation.images[k].sop_instance_uid], "a change is made of both"


def test_the_change_map_spans_the_changed_slices_only(tmp_path: Path) -> None:
    def two_slices(source: Volume) -> Outcome:
        values = source.values.copy()
        values[[2, 4], 5, 6] += 9
        return Outcome(source.with_values(values))

    dataset = map_of(phantom_derivation(tmp_path / "s", slices=8, outcome_of=two_slices), "change")
    assert dataset.NumberOfFrames == 3, "from the first changed slice to the last, the unchanged one between too"
    assert np.count_nonzero(values_of(dataset)) == 2


@pytest.mark.parametrize("kind", MAPS)
def test_c21_a_map_of_images_with_burned_in_annotation_is_left_out_as_it_cannot_say_so(
    tmp_path: Path, kind: str
) -> None:
    def burned_in(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES" if k == 1 else "NO"

    with pytest.raises(MapLeftOut, match=f"no {kind} map: an image has burned in annotation"):
        MAPS[kind](phantom_derivation(tmp_path / "s", each=burned_in))


def test_c21_an_annotation_in_a_slice_that_the_map_does_not_show_does_no_harm(tmp_path: Path) -> None:
    def burned_in(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES" if k == 0 else "NO"

    assert map_of(phantom_derivation(tmp_path / "s", each=burned_in), "change").BurnedInAnnotation == "NO"


def test_nothing_changed_is_no_map(tmp_path: Path) -> None:
    assert change_map(phantom_derivation(tmp_path / "s", outcome_of=changed_by(0.0))) is None


def test_another_unit_or_modality_is_no_change_map(tmp_path: Path) -> None:
    def synthetic(source: Volume) -> Outcome:
        return Outcome(source.with_values(np.minimum(source.values, 1000), Unit.HU))

    made = phantom_derivation(tmp_path / "s", "PT", outcome_of=synthetic, card=card_for("PT", to="CT"))
    assert change_map(made) is None


def test_an_unknown_uncertainty_is_no_map(tmp_path: Path) -> None:
    derivation = phantom_derivation(
        tmp_path / "s", outcome_of=lambda source: replace(changed_block(source), uncertainty=None)
    )
    assert uncertainty_map(derivation) is None


def test_t4_padding_that_the_derived_image_keeps_is_no_change(tmp_path: Path) -> None:
    def all_changed(source: Volume) -> Outcome:
        return Outcome(source.with_values(source.values + np.float32(5)))

    derivation = phantom_derivation(
        tmp_path / "s", outcome_of=all_changed, PixelPaddingValue=24, values=ct_with_padding()
    )
    assert derivation.source.outside is not None
    values = values_of(map_of(derivation, "change"))
    assert set(np.unique(values)) == {0.0, 5.0}
    assert np.count_nonzero(values == 0) == np.count_nonzero(derivation.source.outside)


def ct_with_padding() -> NDArray[np.int32]:
    """HU: water, with a corner outside the field of view."""
    values = np.zeros((3, 32, 32), np.int32)
    values[:, :6, :9] = -1000
    return values


@pytest.mark.parametrize("change", [-50.0, 50.0, 0.25])
def test_the_window_of_a_change_is_symmetrical_and_its_mapping_holds_all_values(tmp_path: Path, change: float) -> None:
    dataset = map_of(phantom_derivation(tmp_path / "s", outcome_of=changed_by(change)), "change")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    (window,), (mapping,) = shared.FrameVOILUTSequence, shared.RealWorldValueMappingSequence
    assert (window.WindowCenter, window.WindowWidth) == (0, 2 * abs(change))
    assert window.VOILUTFunction == ("LINEAR" if window.WindowWidth >= 1 else "LINEAR_EXACT")
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == -abs(change)
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == abs(change)
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)


@pytest.mark.parametrize("kind", MAPS)
def test_making_a_map_takes_no_more_memory_than_one_and_a_half_times_its_size(tmp_path: Path, kind: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=24, rows=384, columns=384)
    small = MAPS[kind](phantom_derivation(tmp_path / "t"))  # what is loaded once for all stays out of the figures
    tracemalloc.start()
    made = MAPS[kind](derivation)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert small is not None and made is not None and len(made.content) > 10_000_000
    assert peak < 1.5 * len(made.content)


def test_s3_units_and_quantities_are_said_in_codes(tmp_path: Path) -> None:
    for modality, unit in (("CT", "[hnsf'U]"), ("PT", "Bq/ml"), ("MR", "1")):
        derivation = phantom_derivation(tmp_path / modality, modality)
        for kind, quantity in (("change", "CHANGE"), ("uncertainty", "113061")):
            (mapping,) = map_of(derivation, kind).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
            (code,) = mapping.MeasurementUnitsCodeSequence
            assert (code.CodeValue, code.CodingSchemeDesignator) == (unit, "UCUM")
            assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == quantity
    assert set(UNITS) == set(Unit), "every unit has a code"


@pytest.mark.parametrize(
    ("part", "features"), [("ABDOMEN", "NO"), ("HEAD", "YES"), ("BRAIN", "YES"), ("WHOLEBODY", "YES"), (None, "YES")]
)
def test_s3_a_map_that_may_show_a_face_says_so(tmp_path: Path, part: str | None, features: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", BodyPartExamined=part)
    assert map_of(derivation, "change").RecognizableVisualFeatures == features


@pytest.mark.parametrize("qualification", ["RESEARCH", "PRODUCT"])
def test_c22_the_qualification_is_the_jobs(tmp_path: Path, qualification: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", job={"content_qualification": qualification})
    assert map_of(derivation, "uncertainty").ContentQualification == qualification


def test_an_uncertainty_of_zero_everywhere_has_a_window_that_can_be_shown(tmp_path: Path) -> None:
    def certain(source: Volume) -> Outcome:
        return replace(changed_block(source), uncertainty=np.zeros(source.values.shape, np.float32))

    made = uncertainty_map(phantom_derivation(tmp_path / "s", outcome_of=certain))
    assert made is not None
    (path,) = written(tmp_path / "made", made)
    assert unexpected(path) == []


@pytest.mark.parametrize(
    "uncertainty",
    [
        np.full((4, 64, 64), np.nan, np.float32),
        np.full((4, 64, 64), -1, np.float32),
        np.ones((4, 64, 63), np.float32),
        np.ones((4, 64, 64), np.float64),
    ],
    ids=["not finite", "negative", "off the grid", "not float32"],
)
def test_an_uncertainty_that_cannot_be_is_a_fault(tmp_path: Path, uncertainty: Any) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    with pytest.raises(OutputFault, match="S3"):
        uncertainty_map(replace(derivation, outcome=replace(derivation.outcome, uncertainty=uncertainty)))


@pytest.mark.parametrize("kind", MAPS)
def test_u5_two_runs_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", "PT")
    assert MAPS[kind](derivation) == MAPS[kind](derivation)


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
@pytest.mark.parametrize("part", ["ABDOMEN", "KNEE"])
def test_g1_g2_validators_find_nothing(tmp_path: Path, modality: str, part: str) -> None:
    side = "L" if part == "KNEE" else None
    derivation = phantom_derivation(tmp_path / "s", modality, BodyPartExamined=part, Laterality=side)
    paths = written(tmp_path / "made", *[made for make in MAPS.values() if (made := make(derivation))])
    assert len(paths) == 2
    for path in paths:
        assert unexpected(path) == []
        assert dcmftest(path)
        assert dcmdump_complaints(path) == []
    assert dcentvfy([*sorted((tmp_path / "s").iterdir()), *derived_files(tmp_path / "d", derivation), *paths]) == []


@pytest.mark.parametrize("series", ["ct_dental_metal_TCGA-E3-A3E5", "pet_wholebody_ac_STS_001", "triple_STS_013/MR_T1"])
def test_the_maps_of_a_real_series_are_valid_and_exact(tmp_path: Path, series: str) -> None:
    files = sorted(path for path in (fixtures_folder() / series).iterdir() if path.suffix == ".dcm")
    derivation = derivation_from(files)
    paths = written(tmp_path / "made", *[made for make in MAPS.values() if (made := make(derivation))])
    for path in paths:
        assert set(errors(path)) <= set(errors(files[0])), "what the source says wrongly is all that may be wrong"
    assert dcentvfy([*files, *derived_files(tmp_path / "d", derivation), *paths]) == []
    for kind in MAPS:
        dataset, expected = map_of(derivation, kind), expected_of(derivation, kind)
        peak = expected.flat[np.abs(expected).argmax()]
        np.testing.assert_allclose(
            places_in_frames_mm(dataset, values_of(dataset) == peak), places_mm(derivation, expected == peak), atol=1e-5
        )
