"""Which slices keep their correction: those whose streaks fell, and not by noise alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

LEAST_STREAK_DROP = 0.03
"""Share by which streaks must fall for a correction to stand; what else it needs of a network is LEAST_TRACE_SHARE."""
CLEAR_STREAK_DROP = 0.25
"""Share from which on falling streaks are enough. In slices with metal drawn in that had left no artifact a network's
fell by 0.196 at most; in one with the noise of a thirtieth of the dose by 0.204."""
LEAST_TRACE_SHARE = 0.5
"""Of what inpainting gets wrong in a body: so much a network must have changed in the metal's trace for its correction
to stand. A network takes noise away as well, and streaks fall by that alone; it does not lie in the trace.
benchmarks/README.md has the figures."""


def standing(
    judged: Mapping[int, tuple[float, float]],
    in_trace: Callable[[list[int]], Mapping[int, float]],
    *,
    neighbours: bool,
) -> set[int]:
    """The slices whose correction is kept: their own streaks did not rise, and with the slices beside them they fell
    clearly, or fell and the correction changed enough in the metal's trace.

    judged: slice -> streaks before and after, HU; in_trace: slices -> VirtualScan.share_in_trace of those for which it
    counts. Where that is not known of a slice and those beside it, only the streaks are judged. One slice alone does
    not jump between corrected and not, for half of what decides is what became of its neighbours.
    """
    left = {index: after / max(before, 1e-6) for index, (before, after) in judged.items()}
    dropped = {index: 1 - _with_neighbours(left, index, neighbours=neighbours) for index in left if left[index] <= 1}
    clear = {index for index, drop in dropped.items() if drop >= CLEAR_STREAK_DROP}
    doubtful = {index for index, drop in dropped.items() if LEAST_STREAK_DROP <= drop < CLEAR_STREAK_DROP}
    beside = {index + step for index in doubtful for step in (-1, 1) if neighbours}
    shares = in_trace(sorted(doubtful | (beside & judged.keys())))
    known = {index: share for index, share in shares.items() if np.isfinite(share)}
    return clear | {
        index for index in doubtful if _with_neighbours(known, index, neighbours=neighbours) >= LEAST_TRACE_SHARE
    }


def _with_neighbours(values: Mapping[int, float], index: int, *, neighbours: bool) -> float:
    """Half the slice's own value and half the mean of those beside it; the one that is known, or infinite."""
    beside = [values[other] for other in (index - 1, index + 1) if neighbours and other in values]
    halves = [values[index]] if index in values else []
    if beside:
        halves.append(sum(beside) / len(beside))
    return sum(halves) / len(halves) if halves else np.inf
