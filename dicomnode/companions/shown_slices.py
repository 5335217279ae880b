"""Which slices stand for a whole derivation in pictures and reports: where the result differs most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicomnode.companions.derivation import Derivation

MOST = 3
LEAST_OF_LARGEST = 0.5
"""A further slice is shown when it has at least this part of the largest slice's change."""


def shown_slices(derivation: Derivation) -> tuple[int, ...]:
    """One to three slices k, the one of the largest change first; the middle one when nothing changed.

    Where source and result have different units there is no difference to rank by: there, the slices where the result
    varies most, as they hold most of the body.
    """
    amounts = _changes(derivation) if same_unit(derivation) else _spreads(derivation)
    apart = max(len(amounts) // 8, 1)
    chosen: list[int] = []
    for k in np.argsort(-amounts, kind="stable"):
        if amounts[k] <= 0 or amounts[k] < LEAST_OF_LARGEST * amounts.max() or len(chosen) == MOST:
            break
        if all(abs(int(k) - other) > apart for other in chosen):
            chosen.append(int(k))
    return tuple(chosen) or (len(amounts) // 2,)


def same_unit(derivation: Derivation) -> bool:
    """Whether source and result can be subtracted."""
    return derivation.source.unit == derivation.outcome.volume.unit


def shown_values(derivation: Derivation, k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Source and result of slice k, (rows, columns); outside the field of view the result shows the source's values.

    That is what a derived image of the same modality holds there.
    """
    before, after = derivation.source.values[k], derivation.outcome.volume.values[k]
    outside = derivation.source.outside
    if outside is not None and same_unit(derivation):
        after = np.where(outside[k], before, after)
    return before, after


def _changes(derivation: Derivation) -> NDArray[np.float64]:
    amounts = np.zeros(len(derivation.images))
    for k in range(len(amounts)):
        before, after = shown_values(derivation, k)
        amounts[k] = np.abs(after - before).mean(dtype=np.float64)
    return amounts


def _spreads(derivation: Derivation) -> NDArray[np.float64]:
    return np.array([cut.std(dtype=np.float64) for cut in derivation.outcome.volume.values])
