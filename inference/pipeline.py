"""What a pipeline is, what it promises, and how one is built and run (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

import inference.pipelines
from inference.errors import SettingsInvalid, SourceRefused
from inference.volume import Unit, Volume


@dataclass(frozen=True, slots=True)
class Card:
    """What a pipeline says of itself; ends up in the derived series, the audit and the conformance statement."""

    name: str
    version: str
    ordinal: int
    """Small number that makes the derived SeriesNumber; unique among the pipelines."""
    label: str
    """Words for the Series Description, ASCII, e.g. "metal artifact reduction"."""
    purpose: str
    """One sentence for the Derivation Description."""
    token: str
    """Value of the derived ImageType that names the step, e.g. MAR, DENOISED, SYNTHETIC."""
    modality: str
    """Modality of the source: CT, PT or MR."""
    takes: frozenset[Unit]
    makes: Unit | None
    """Unit of the result; None: the source's."""
    method: str
    intended_use: str
    baseline: bool = True
    """True for a classical rung that a learned one is meant to follow."""
    makes_modality: str = ""
    """Modality of the result when it is not the source's."""
    synthetic: bool = False
    """True when the result is made artificially rather than corrected (SyntheticData YES)."""
    slicewise: bool = False
    """True when a slice's result does not depend on where the other slices lie: gaps and gantry tilt do no harm."""
    context_slices: int = 0
    """How many neighbours on each side a slice's result is made of, beside the slice itself (2.5D context).

    Those whose values shape the result visibly; a volume filter's faint tails and figures of the whole series, as a
    threshold or a total, are not counted.
    """
    needs: Mapping[str, str] = field(default_factory=dict)
    """What it reads beside its source: name -> modality; such a pipeline has `run_with` in the place of `run`."""
    weights_sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def result_modality(self) -> str:
        """Modality of the derived series."""
        return self.makes_modality or self.modality


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a pipeline made of a source.

    masks: name -> (slices, rows, columns) bool on the source's grid, e.g. {"metal": ...}.
    measurements: name -> number, e.g. {"metal_volume_ml": 3.1}.
    notes: sentences for the audit, e.g. why slices were passed through unchanged.
    unchanged: the slices k whose values are the source's own; their derived images say so.
    uncertainty: (slices, rows, columns) float32, one standard deviation in the volume's unit; None when unknown.
    """

    volume: Volume
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    measurements: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unchanged: frozenset[int] = frozenset()
    uncertainty: NDArray[np.float32] | None = None


class Pipeline(Protocol):
    """A pipeline's file is importable and buildable without torch and scipy; they load when `run` is called."""

    @property
    def card(self) -> Card:
        """What the pipeline is."""

    def run(self, source: Volume) -> Outcome:
        """The outcome on the source's grid; raises SourceRefused rather than guess."""


class PipelineWithInputs(Protocol):
    """A pipeline whose card names what it needs beside its source."""

    @property
    def card(self) -> Card:
        """What the pipeline is."""

    def run_with(self, source: Volume, inputs: Mapping[str, Volume]) -> Outcome:
        """The outcome on the source's grid; inputs: by the names of the card, each on a grid of its own."""


def pipeline_names() -> tuple[str, ...]:
    """The names of all pipelines there are: the files of inference/pipelines."""
    return tuple(sorted(module.name for module in iter_modules(inference.pipelines.__path__)))


def build_pipeline(name: str, settings: Mapping[str, Any]) -> Pipeline:
    """The pipeline of that name; raises SettingsInvalid when a setting is unknown or out of range."""
    if name not in pipeline_names():
        raise SettingsInvalid(name, f"there is no pipeline {name!r}; there are {', '.join(pipeline_names())}")
    pipeline: Pipeline = import_module(f"inference.pipelines.{name}").build(settings)
    return pipeline


def run_pipeline(
    pipeline: Pipeline | PipelineWithInputs, source: Volume, inputs: Mapping[str, Volume] | None = None
) -> Outcome:
    """The pipeline's outcome, held against its card: unit, modality and stack taken, grid kept, every value finite.

    inputs: what its card says that it needs beside the source.
    """
    card, given = pipeline.card, inputs or {}
    _refuse_unfit(card, source)
    if {name: volume.acquisition.modality for name, volume in given.items()} != dict(card.needs):
        raise AssertionError(f"{card.name} needs {dict(card.needs)} and was given {sorted(given)}")
    if card.needs:
        outcome = cast(PipelineWithInputs, pipeline).run_with(source, given)
    else:
        outcome = cast(Pipeline, pipeline).run(source)
    _check_outcome(card, source, outcome)
    return outcome


def _refuse_unfit(card: Card, source: Volume) -> None:
    if source.acquisition.modality != card.modality:
        raise SourceRefused(
            "wrong-modality",
            f"{card.name} takes {card.modality} series, this one is {source.acquisition.modality}; correct the rule",
        )
    if source.unit not in card.takes:
        takes = ", ".join(sorted(card.takes))
        raise SourceRefused("wrong-unit", f"{card.name} takes {takes}, this series is in {source.unit}")
    if not np.isfinite(source.values).all():
        raise SourceRefused("not-finite", "the source holds values that are not finite numbers")
    if not source.geometry.is_even and not card.slicewise:
        raise SourceRefused(
            "uneven-stack",
            f"{card.name} looks across slices, and these are not evenly stacked (gaps or gantry tilt); "
            "send an even, untilted series",
        )


def _check_outcome(card: Card, source: Volume, outcome: Outcome) -> None:
    """An outcome that breaks its card is a fault of the pipeline, never of the source."""
    made, expected_unit = outcome.volume, card.makes or source.unit
    if made.unit != expected_unit:
        raise AssertionError(f"{card.name} promised {expected_unit} and made {made.unit}")
    if made.values.shape != source.values.shape or made.geometry is not source.geometry:
        raise AssertionError(f"{card.name} did not keep the source's grid")
    if not np.isfinite(made.values).all():
        raise AssertionError(f"{card.name} made values that are not finite")
    for name, mask in outcome.masks.items():
        if mask.shape != source.values.shape or mask.dtype != np.bool_:
            raise AssertionError(f"{card.name} made a mask {name!r} that is not one truth value a voxel")
    if not outcome.unchanged <= set(range(len(source.values))):
        raise AssertionError(f"{card.name} calls slices unchanged that there are not")
    if (uncertainty := outcome.uncertainty) is not None:
        if uncertainty.shape != source.values.shape or uncertainty.dtype != np.float32:
            raise AssertionError(f"{card.name} made an uncertainty that is not one float32 a voxel")
        if not np.isfinite(uncertainty).all() or float(uncertainty.min(initial=0.0)) < 0:
            raise AssertionError(f"{card.name} made an uncertainty that is not finite or below nought")
