"""A pipeline of the tests that reads a PET and a CT: the PET comes out as it is, with a word about the CT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.pipeline import Card, Outcome
from inference.volume import Unit, Volume


class PetWithCt:
    """Says how many slices and how dense the CT is that it was given."""

    card = Card(
        name="pet_with_ct",
        version="1.0.0",
        ordinal=77,
        label="with its CT",
        purpose="A test of inputs",
        token="TESTED",
        modality="PT",
        takes=frozenset({Unit.BQ_PER_ML}),
        makes=None,
        method="copy",
        intended_use="tests only",
        needs={"ct": "CT"},
    )

    def run_with(self, source: Volume, inputs: Mapping[str, Volume]) -> Outcome:
        """The PET, and what the CT holds."""
        ct = inputs["ct"]
        assert ct.unit is Unit.HU
        measured = {"ct_slices": float(len(ct.values)), "ct_highest": float(ct.values.max())}
        return Outcome(source.with_values(source.values.copy()), measurements=measured)


def build(settings: Mapping[str, Any]) -> PetWithCt:
    """The pipeline; it has no settings."""
    return PetWithCt()
