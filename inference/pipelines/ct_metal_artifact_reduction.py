"""Metal artifact reduction of a reconstructed CT series: metal found, its trace inpainted, metal put back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.mar_methods import reduction_for, weights_for
from inference.mar_settings import Settings, read_mar_settings
from inference.metal_search import metal_by_network, metal_by_threshold
from inference.physics.correction_gate import standing
from inference.pipeline import Card, Outcome
from inference.volume import Unit, Volume

NAME = "ct_metal_artifact_reduction"
INTENDED_USE = "To be read beside the original series; small structures near metal may be altered"
BATCH_SLICES = 8
LARGEST_SPACING_RATIO = 1.01
LEAST_AXIAL_COSINE = 0.85  # a tilted gantry reaches 30 degrees: 0.866

_log = logging.getLogger(__name__)


def build(settings: Mapping[str, Any]) -> CtMetalArtifactReduction:
    """The pipeline with these settings; raises SettingsInvalid, and WeightsInvalid where weights are not installed."""
    return CtMetalArtifactReduction(read_mar_settings(settings))


class CtMetalArtifactReduction:
    """Slices without metal, metal itself, and slices that would not gain are passed through bit for bit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._weights = weights_for(settings)

    @property
    def card(self) -> Card:
        """What the pipeline is."""
        return Card(
            name=NAME,
            version="1.4.0",
            ordinal=1,
            label="metal artifact reduction",
            purpose=self._settings.purpose,
            token="MAR",
            modality="CT",
            takes=frozenset({Unit.HU}),
            makes=Unit.HU,
            method=self._settings.method,
            intended_use=self._weights.intended_use or INTENDED_USE,
            baseline=not self._weights.sha256,
            # streaks lie within a slice; what is metal is seen in the neighbours as well, and whether a correction
            # stands in the neighbours and theirs, but never across a gap
            slicewise=True,
            context_slices=2,
            weights_sha256=self._weights.sha256,
            settings=self._settings.in_force(),
        )

    def run(self, source: Volume) -> Outcome:
        """The series with fewer streaks; raises SourceRefused without metal, gain, or if corrected already.

        Measurements: slices with metal are changed, passed (judged, and left as they were for they would not gain) or
        refused (cut by the field of view, or not to be judged, and left as they were); the three make up all of them.
        """
        _require_uncorrected(source)
        _require_axial(source)
        spacing_mm = _square_spacing(source)
        notes = self._weights.notes_on_mask(source)
        metal = self.metal_of(source)
        # only now: a series without metal is refused as such, whatever the method serves
        notes += self._weights.notes_on_method(source)
        values, tally = self._correct(source, metal, spacing_mm=spacing_mm)
        _log.info("%s %s: %s", NAME, self._settings.method, "; ".join(tally.notes()) or "all slices with metal changed")
        if not tally.changed:
            raise SourceRefused(
                "no-gain",
                f"no slice would gain from metal artifact reduction: {'; '.join(tally.notes())}; read the original",
            )
        _, row_mm, column_mm = source.geometry.spacing_mm
        voxel_ml = source.geometry.slice_depths_mm(len(values)) * row_mm * column_mm / 1000
        return Outcome(
            source.with_values(values),
            masks={"metal": metal},
            measurements={
                "metal_volume_ml": float(metal.sum(axis=(1, 2)) @ voxel_ml),
                "slices_changed": float(len(tally.changed)),
                "slices_passed": float(len(tally.without_gain)),
                "slices_refused": float(len(tally.cut) + len(tally.unjudged)),
                "streak_before_hu": float(np.mean([before for before, _ in tally.changed.values()])),
                "streak_after_hu": float(np.mean([after for _, after in tally.changed.values()])),
            },
            notes=notes + tally.notes(),
            unchanged=frozenset(range(len(values))) - frozenset(tally.changed),
        )

    def metal_of(self, source: Volume) -> NDArray[np.bool_]:
        """(slices, rows, columns) True where there is metal; raises SourceRefused where there is none, or too much."""
        if self._weights.mask is not None:
            return metal_by_network(source, self._weights.mask)
        return metal_by_threshold(source, self._settings.metal_threshold_hu)

    def reduced(
        self, images_hu: NDArray[np.float32], metal: NDArray[np.bool_], *, spacing_mm: float, body_part_examined: str
    ) -> NDArray[np.float32]:
        """(slices, rows, columns) HU by the method that is set, without the gate; the metal is not put back."""
        reduce = reduction_for(self._settings, self._weights.method, body_part_examined=body_part_examined)
        return reduce(images_hu, metal, spacing_mm=spacing_mm)

    def _correct(
        self, source: Volume, metal: NDArray[np.bool_], *, spacing_mm: float
    ) -> tuple[NDArray[np.float32], _Tally]:
        from inference.physics.metal import touches
        from inference.physics.metal_artifact_reduction import seen_circle, streak_hu

        body_part = source.acquisition.body_part_examined
        values = source.values.copy()
        tally = _Tally()
        seen = seen_circle((values.shape[1], values.shape[2]))
        cut = touches(metal, ~seen if source.outside is None else source.outside | ~seen)
        tally.cut.extend(int(index) for index in np.flatnonzero(cut))
        inside = values if source.outside is None else values[~source.outside]
        lowest, highest = float(inside.min()), float(inside.max())
        waiting = np.flatnonzero(metal.any(axis=(1, 2)) & ~cut)
        judged: dict[int, tuple[float, float]] = {}
        for start in range(0, len(waiting), BATCH_SLICES):
            chosen = waiting[start : start + BATCH_SLICES]
            made = self.reduced(
                source.values[chosen], metal[chosen], spacing_mm=spacing_mm, body_part_examined=body_part
            )
            kept = metal[chosen] if source.outside is None else metal[chosen] | source.outside[chosen]
            corrected = np.where(kept, source.values[chosen], np.clip(made, lowest, highest))
            for index, result in zip((int(index) for index in chosen), corrected, strict=True):
                streaks = streak_hu(source.values[index], result, metal[index])
                if streaks is None:
                    tally.unjudged.append(index)
                else:
                    judged[index] = streaks
                    values[index] = result
            _log.info("%s: %d of %d slices with metal done", NAME, start + len(chosen), len(waiting))

        def in_trace(slices: list[int]) -> dict[int, float]:
            if self._weights.method is None or not slices:  # without a network nothing but the trace is changed
                return {}
            _log.info("%s: looking at the metal's trace in %d slices in doubt", NAME, len(slices))
            return _shares_in_trace(source, values, metal, slices, spacing_mm=spacing_mm)

        kept_slices = standing(judged, in_trace, neighbours=source.geometry.is_even)
        for index, streaks in judged.items():
            if index in kept_slices:
                tally.changed[index] = streaks
            else:
                tally.without_gain.append(index)
                values[index] = source.values[index]
        return values, tally


def _shares_in_trace(
    source: Volume,
    corrected_hu: NDArray[np.float32],
    metal: NDArray[np.bool_],
    slices: list[int],
    *,
    spacing_mm: float,
) -> dict[int, float]:
    """VirtualScan.share_in_trace of those slices of a series and its correction, (slices, rows, columns) HU."""
    from inference.physics.metal_artifact_reduction import VirtualScan

    shares: dict[int, float] = {}
    for start in range(0, len(slices), BATCH_SLICES):
        some = slices[start : start + BATCH_SLICES]
        scan = VirtualScan(source.values[some], metal[some], spacing_mm=spacing_mm)
        shares |= zip(some, scan.share_in_trace(corrected_hu[some]), strict=True)
    return shares


class _Tally:
    """Which slices were changed, with their streaks before and after, and which passed unchanged and why."""

    def __init__(self) -> None:
        self.changed: dict[int, tuple[float, float]] = {}
        self.cut: list[int] = []
        self.without_gain: list[int] = []
        self.unjudged: list[int] = []

    def notes(self) -> tuple[str, ...]:
        """One sentence per reason for which slices with metal were passed through unchanged."""
        reasons = (
            (self.cut, "metal reaches the edge of the field of view"),
            (self.without_gain, "streaks would not have fallen enough, or by noise alone"),
            (self.unjudged, "there is too little soft tissue near the metal to judge"),
        )
        return tuple(
            f"{len(slices)} slices with metal passed through unchanged, for {why} (in stack order: {_ranges(slices)})"
            for slices, why in reasons
            if slices
        )


def _require_uncorrected(source: Volume) -> None:
    if words := source.acquisition.metal_artifact_reduction:
        raise SourceRefused(
            "metal-reduced-already",
            f"metal artifacts were reduced in this series already ({words}); send the series without it, "
            "or correct the rule",
        )


def _require_axial(source: Volume) -> None:
    """Streaks lie in the plane of the scan: a coronal or sagittal reformat has none that a virtual scan could see."""
    steps = source.geometry.affine[:3, :3] / np.linalg.norm(source.geometry.affine[:3, :3], axis=0)
    if abs(float(np.cross(steps[:, 2], steps[:, 1])[2])) < LEAST_AXIAL_COSINE:
        raise SourceRefused(
            "not-axial", "the slices are not axial; metal streaks lie in the scan plane: send the axial series"
        )


def _square_spacing(source: Volume) -> float:
    _, row_mm, column_mm = source.geometry.spacing_mm
    if not 1 / LARGEST_SPACING_RATIO <= row_mm / column_mm <= LARGEST_SPACING_RATIO:
        raise SourceRefused(
            "pixels-not-square", f"pixels are {row_mm:.3f} by {column_mm:.3f} mm; the virtual scan needs square ones"
        )
    return (row_mm + column_mm) / 2


def _ranges(slices: list[int]) -> str:
    """1-3, 7 for 0, 1, 2, 6: counted from one."""
    runs: list[list[int]] = []
    for index in sorted(slices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(f"{first + 1}" if first == last else f"{first + 1}-{last + 1}" for first, last in runs)
