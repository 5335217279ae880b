"""Which slices stand for a derivation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dicomnode.companions.shown_slices import shown_slices, shown_values
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import phantom_derivation
from tests.builders_dicom import card_for


def changed_by(amounts: dict[int, float]) -> Callable[[Volume], Outcome]:
    """An outcome whose slices are changed by these amounts, and are the source's own elsewhere."""

    def outcome_of(source: Volume) -> Outcome:
        values = source.values.copy()
        for k, amount in amounts.items():
            values[k, 20:30, 20:30] += amount
        return Outcome(source.with_values(values), unchanged=frozenset(range(len(values))) - amounts.keys())

    return outcome_of


def shown(folder: Path, slices: int, amounts: dict[int, float]) -> tuple[int, ...]:
    return shown_slices(phantom_derivation(folder, slices=slices, outcome_of=changed_by(amounts)))


def test_the_slice_of_the_largest_change_comes_first(tmp_path: Path) -> None:
    assert shown(tmp_path / "a", 10, {2: 50, 7: -80}) == (7, 2)


def test_neighbours_of_a_shown_slice_and_small_changes_are_not_shown(tmp_path: Path) -> None:
    assert shown(tmp_path / "a", 10, {4: 100, 5: 99, 8: 40}) == (4,)


def test_at_most_three_slices_are_shown(tmp_path: Path) -> None:
    assert len(shown(tmp_path / "a", 12, {0: 50, 3: 50, 6: 50, 9: 50})) == 3


def test_where_nothing_changed_the_middle_slice_is_shown(tmp_path: Path) -> None:
    assert shown(tmp_path / "a", 5, {}) == (2,)
    assert shown(tmp_path / "b", 1, {}) == (0,)


def test_a_synthetic_image_is_shown_where_it_varies_most(tmp_path: Path) -> None:
    def body_in_one_slice(source: Volume) -> Outcome:
        values = np.full_like(source.values, -1000)
        values[3, 5:20, 5:20] = 40
        return Outcome(source.with_values(values, Unit.HU))

    card = card_for("PT", to="CT")
    assert shown_slices(phantom_derivation(tmp_path / "s", "PT", outcome_of=body_in_one_slice, card=card)) == (3,)


def test_what_a_pipeline_made_outside_the_field_of_view_is_not_shown(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", outcome_of=changed_by({1: 50, 2: 400}))
    outside = np.zeros(derivation.source.values.shape, np.bool_)
    outside[2, 20:30, 20:30] = True
    padded = replace(derivation, source=replace(derivation.source, outside=outside))
    before, after = shown_values(padded, 2)
    assert np.array_equal(before, after)
    assert shown_slices(derivation)[0] == 2 and shown_slices(padded) == (1,)
