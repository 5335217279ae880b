"""A network is not asked about what it has never seen."""

from __future__ import annotations

import numpy as np
import pytest

from inference.errors import SourceRefused
from inference.in_distribution import facts_of, notes_on_distribution
from inference.model_files import Manifest
from inference.volume import Acquisition, Geometry, Unit, Volume

RANGES = {"pixel_spacing_mm": (0.6, 1.2), "kvp": (80.0, 140.0)}
MANIFEST = Manifest("small", "unet", {}, (), "HU", False, "", "", {}, RANGES, "", "")


def notes(pixel_spacing_mm: float | None, kvp: float | None) -> tuple[str, ...]:
    facts = {"pixel_spacing_mm": pixel_spacing_mm, "kvp": kvp}
    return notes_on_distribution(MANIFEST, facts, instead="use method plain")


@pytest.mark.parametrize(("spacing", "kvp"), [(0.6, 80.0), (1.2, 140.0), (0.9, 120.0)])
def test_within_the_ranges_there_is_nothing_to_say(spacing: float, kvp: float) -> None:
    assert notes(spacing, kvp) == ()


@pytest.mark.parametrize("spacing", [0.46, 1.34])
def test_up_to_a_quarter_of_the_width_outside_is_taken_with_a_note_that_gives_value_and_range(spacing: float) -> None:
    (note,) = notes(spacing, 120.0)
    assert note.startswith(f"pixel_spacing_mm is {spacing:g} as the network sees it, a little outside of 0.6 to 1.2")
    assert note.endswith("which the weights small are known to serve")


@pytest.mark.parametrize(
    ("spacing", "kvp", "words"),
    [(0.44, 120.0, "pixel_spacing_mm is 0.44"), (1.36, 120.0, "pixel_spacing_mm is 1.36"), (0.9, 64.0, "kvp is 64")],
)
def test_further_outside_is_refused_with_the_value_the_range_and_what_to_use(
    spacing: float, kvp: float, words: str
) -> None:
    with pytest.raises(SourceRefused) as caught:
        notes(spacing, kvp)
    assert caught.value.reason_code == "out-of-distribution"
    assert words in str(caught.value) and "use method plain" in str(caught.value) and " to 1" in str(caught.value)


@pytest.mark.parametrize("kvp", [None, float("nan"), 0.0, -1.0])
def test_what_the_header_does_not_say_is_noted(kvp: float | None) -> None:
    (note,) = notes(0.9, kvp)
    assert note.startswith("kvp of this series is not known")


def test_the_facts_are_those_of_the_series() -> None:
    affine = np.diag([3.0, 0.8, 0.7, 1.0])[[2, 1, 0, 3]]
    source = Volume(np.zeros((1, 2, 2), np.float32), Unit.HU, Geometry(affine, "1.2"), Acquisition("CT", kvp=120.0))
    facts = facts_of(source)
    assert facts["pixel_spacing_mm"] == pytest.approx(0.75) and facts["slice_spacing_mm"] == 3
    assert facts["kvp"] == 120 and facts["frame_duration_s"] is None
    assert facts_of(Volume(source.values, source.unit, source.geometry, Acquisition("CT")))["kvp"] is None
