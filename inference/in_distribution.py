"""Holds a series against the ranges that a network is known to serve: taken, taken with a note, or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping

from inference.errors import SourceRefused
from inference.model_files import Manifest
from inference.volume import Volume

FLAGGED_SHARE = 0.25
"""How far outside a range, as a share of its width, a series is still taken."""


def facts_of(source: Volume) -> dict[str, float | None]:
    """What a manifest's [in_distribution] may name, as it is in this series; None where the header does not say."""
    slice_mm, row_mm, column_mm = source.geometry.spacing_mm
    return {
        "pixel_spacing_mm": (row_mm + column_mm) / 2,
        "slice_spacing_mm": slice_mm,
        "kvp": source.acquisition.kvp,
        "frame_duration_s": source.acquisition.frame_duration_s,
    }


def notes_on_distribution(manifest: Manifest, facts: Mapping[str, float | None], *, instead: str) -> tuple[str, ...]:
    """A sentence for each range that the series lies a little outside of, or of which it is not known.

    facts: by the names of `facts_of`, as the network is given them. instead: what to do with a series that lies further
    outside than a quarter of the range's width, e.g. "use method nmar"; such a one raises SourceRefused.
    """
    notes = []
    for name, (low, high) in manifest.in_distribution.items():
        value = facts.get(name)
        served = f"{low:g} to {high:g}, which the weights {manifest.name} are known to serve"
        if value is None or not math.isfinite(value) or value <= 0:  # some headers say nought for it
            notes.append(f"{name} of this series is not known, so it could not be held against {served}")
            continue
        outside = max(low - value, value - high)
        if outside > FLAGGED_SHARE * (high - low):
            raise SourceRefused(
                "out-of-distribution",
                f"{name} is {value:g} as the network sees it, too far outside of {served}; {instead} for such series",
            )
        if outside > 0:
            notes.append(f"{name} is {value:g} as the network sees it, a little outside of {served}")
    return tuple(notes)
