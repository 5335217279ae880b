"""What the gate keeps of a series of corrected slices."""

from __future__ import annotations

import numpy as np
import pytest

from inference.physics.correction_gate import standing


def stands_of(judged: dict[int, tuple[float, float]], shares: dict[int, float], *, neighbours: bool = True) -> set[int]:
    """What stands where a slice takes so much out of the trace, and plenty where nothing is said of it."""
    return standing(judged, lambda slices: {index: shares.get(index, 2.0) for index in slices}, neighbours=neighbours)


@pytest.mark.parametrize(
    ("left", "stands"),
    [
        ((0.5, 0.5, 0.5), True),
        ((0.5, 0.98, 0.5), True),  # hardly a gain, but its neighbours were corrected
        ((0.99, 0.96, 0.99), False),  # a gain of its own that would stand between two uncorrected slices
        ((0.5, 1.01, 0.5), False),  # never worse
    ],
)
def test_a_slice_is_not_judged_without_its_neighbours_and_never_made_worse(
    left: tuple[float, float, float], stands: bool
) -> None:
    judged = {index: (10.0, 10.0 * share) for index, share in enumerate(left)}
    assert (1 in stands_of(judged, {})) == stands


def test_a_slice_without_neighbours_is_judged_by_itself() -> None:
    judged = {4: (10.0, 9.9), 5: (10.0, 9.6), 6: (10.0, 9.9)}
    assert stands_of(judged, {}, neighbours=False) == {5} and stands_of(judged, {}) == set()
    assert stands_of({5: (10.0, 9.6)}, {}) == {5}


def test_streaks_that_fall_a_little_and_nothing_taken_from_the_trace_are_noise_and_do_not_count() -> None:
    judged = {4: (10.0, 9.0), 5: (10.0, 9.0)}
    assert stands_of(judged, {4: 1.0, 5: 1.0}) == {4, 5}
    assert stands_of(judged, {4: 0.3, 5: 0.3}) == set()
    assert stands_of(judged, {4: 1.2, 5: 0.2}) == {4, 5}
    assert stands_of(judged, {4: 1.2, 5: 0.2}, neighbours=False) == {4}
    assert stands_of({4: (10.0, 6.0), 5: (10.0, 9.0)}, {4: 0.3, 5: 0.3}) == {4, 5}


def test_a_slice_whose_trace_cannot_be_judged_goes_with_its_neighbours_and_alone_by_its_streaks() -> None:
    judged = {4: (10.0, 9.0), 5: (10.0, 9.0)}
    assert stands_of(judged, {4: np.inf, 5: 0.3}) == set()
    assert stands_of(judged, {4: np.nan, 5: 0.3}) == set()
    assert stands_of(judged, {4: np.inf, 5: 0.6}) == {4, 5}
    assert stands_of({4: (10.0, 9.0)}, {4: np.inf}) == {4}


def test_the_trace_is_looked_at_only_where_the_streaks_leave_a_doubt_and_beside_it() -> None:
    looked_at: list[int] = []

    def in_trace(slices: list[int]) -> dict[int, float]:
        looked_at.extend(slices)
        return {index: 1.2 if index == 8 else 0.3 for index in slices}

    judged = {1: (10.0, 5.0), 2: (10.0, 5.0), 3: (10.0, 5.0), 7: (10.0, 7.0), 8: (10.0, 10.2), 20: (10.0, 11.0)}
    assert standing(judged, in_trace, neighbours=True) == {1, 2, 3, 7}
    assert looked_at == [7, 8]
