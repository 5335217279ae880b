"""A pipeline's outcome is held against its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from inference.errors import SettingsInvalid, SourceRefused
from inference.pipeline import Card, Outcome, build_pipeline, pipeline_names, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

CARD = Card(
    name="made_up",
    version="1",
    ordinal=99,
    label="made up",
    purpose="Made up",
    token="MADE",
    modality="CT",
    takes=frozenset({Unit.HU}),
    makes=None,
    method="plain",
    intended_use="tests",
)


def source(unit: Unit = Unit.HU, modality: str = "CT") -> Volume:
    return Volume(np.zeros((2, 4, 4), np.float32), unit, Geometry(np.eye(4), "1.2"), Acquisition(modality))


@dataclass
class Fixed:
    """Gives back the volume it was made with, or its source."""

    card: Card
    result: Volume | None = None
    beside: dict[str, Any] = field(default_factory=dict)

    def run(self, source: Volume) -> Outcome:
        return Outcome(self.result or source, **self.beside)


def test_an_honest_outcome_is_passed_on() -> None:
    given = source()
    assert run_pipeline(Fixed(CARD), given).volume is given


@dataclass
class Reader:
    """Gives back its source, and remembers what it was given beside it."""

    card: Card
    given: dict[str, Volume] = field(default_factory=dict)

    def run_with(self, source: Volume, inputs: Mapping[str, Volume]) -> Outcome:
        self.given.update(inputs)
        return Outcome(source)


def test_a_pipeline_that_needs_more_gets_it_by_its_own_names() -> None:
    pipeline, beside = Reader(replace(CARD, needs={"pet": "PT"})), source(Unit.BQ_PER_ML, "PT")
    run_pipeline(pipeline, source(), {"pet": beside})
    assert pipeline.given == {"pet": beside}


@pytest.mark.parametrize("given", [{}, {"other": "PT"}, {"pet": "MR"}, {"pet": "PT", "other": "PT"}])
def test_no_pipeline_runs_with_other_inputs_than_its_card_names(given: dict[str, str]) -> None:
    pipeline = Reader(replace(CARD, needs={"pet": "PT"}))
    with pytest.raises(AssertionError, match="needs"):
        run_pipeline(pipeline, source(), {name: source(modality=modality) for name, modality in given.items()})
    assert pipeline.given == {}
    with pytest.raises(AssertionError, match="needs"):
        run_pipeline(Fixed(CARD), source(), {"pet": source()})


def test_another_modality_is_refused_before_the_pipeline_runs() -> None:
    with pytest.raises(SourceRefused) as caught:
        run_pipeline(Fixed(CARD), source(modality="MR"))
    assert caught.value.reason_code == "wrong-modality"


def test_another_unit_is_refused_and_the_message_names_both() -> None:
    with pytest.raises(SourceRefused, match=r"takes HU.*Bq/ml") as caught:
        run_pipeline(Fixed(CARD), source(Unit.BQ_PER_ML))
    assert caught.value.reason_code == "wrong-unit"


def test_values_that_are_no_numbers_are_refused() -> None:
    given = source()
    given.values[0, 0, 0] = np.nan
    with pytest.raises(SourceRefused) as caught:
        run_pipeline(Fixed(CARD), given)
    assert caught.value.reason_code == "not-finite"


def test_a_result_in_another_unit_than_the_cards_is_a_fault_of_the_pipeline() -> None:
    with pytest.raises(AssertionError, match="promised 1/cm"):
        run_pipeline(Fixed(replace(CARD, makes=Unit.PER_CM)), source())


def test_a_result_on_another_grid_is_a_fault_of_the_pipeline() -> None:
    given = source()
    smaller = given.with_values(np.zeros((2, 4, 3), np.float32))
    elsewhere = replace(given, geometry=Geometry(2 * np.eye(4), "1.2"))
    for wrong in (smaller, elsewhere):
        with pytest.raises(AssertionError, match="grid"):
            run_pipeline(Fixed(CARD, wrong), given)


def test_a_result_that_is_not_finite_is_a_fault_of_the_pipeline() -> None:
    given = source()
    broken = given.with_values(np.full((2, 4, 4), np.inf, np.float32))
    with pytest.raises(AssertionError, match="finite"):
        run_pipeline(Fixed(CARD, broken), given)


def test_the_result_has_the_sources_modality_unless_the_card_names_one() -> None:
    assert CARD.result_modality == "CT"
    assert replace(CARD, makes_modality="MR").result_modality == "MR"


def test_an_unknown_pipeline_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SettingsInvalid, match="ct_metal_artifact_reduction") as caught:
        build_pipeline("ct_metal_artefact_reduction", {})
    assert caught.value.key == "ct_metal_artefact_reduction"


def test_a_path_is_not_a_pipelines_name() -> None:
    for name in ("__init__", "", "..errors", "ct_metal_artifact_reduction.build"):
        with pytest.raises(SettingsInvalid):
            build_pipeline(name, {})
    assert "ct_metal_artifact_reduction" in pipeline_names()


def test_uneven_slices_are_taken_by_a_slicewise_pipeline_only() -> None:
    given = source()
    uneven = replace(given, geometry=replace(given.geometry, corners_mm=np.array([[0.0, 0, 0], [0, 0, 7.0]])))
    assert run_pipeline(Fixed(replace(CARD, slicewise=True)), uneven).volume is uneven
    with pytest.raises(SourceRefused, match="gaps or gantry tilt") as caught:
        run_pipeline(Fixed(CARD), uneven)
    assert caught.value.reason_code == "uneven-stack"


WHOLE = (2, 4, 4)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"masks": {"metal": np.zeros((2, 4, 3), np.bool_)}}, "mask 'metal'"),
        ({"masks": {"metal": np.zeros(WHOLE, np.uint8)}}, "mask 'metal'"),
        ({"unchanged": frozenset({2})}, "unchanged"),
        ({"uncertainty": np.zeros((1, 4, 4), np.float32)}, "uncertainty"),
        ({"uncertainty": np.zeros(WHOLE, np.float64)}, "uncertainty"),
        ({"uncertainty": np.full(WHOLE, np.nan, np.float32)}, "not finite"),
        ({"uncertainty": np.full(WHOLE, -0.5, np.float32)}, "below nought"),
    ],
)
def test_what_goes_beside_the_volume_is_held_to_its_grid_and_meaning(beside: dict[str, Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        run_pipeline(Fixed(CARD, beside=beside), source())


def test_an_honest_mask_and_uncertainty_are_passed_on() -> None:
    beside = {"masks": {"metal": np.ones(WHOLE, np.bool_)}, "uncertainty": np.ones(WHOLE, np.float32)}
    made = run_pipeline(Fixed(CARD, beside=beside), source())
    assert made.uncertainty is beside["uncertainty"] and made.masks["metal"].all()
