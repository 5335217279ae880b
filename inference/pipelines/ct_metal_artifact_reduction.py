"""Metal artifact reduction of a reconstructed CT series: metal found, its trace inpainted, metal put back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import SettingsInvalid, SourceRefused
from inference.model_files import load_network, read_manifest
from inference.pipeline import Card, Outcome
from inference.settings import number, one_of, read_settings
from inference.volume import Unit, Volume

NAME = "ct_metal_artifact_reduction"
METHODS = ("nmar", "li", "prior_net")
"""The first is the default."""
WEIGHTS = {"prior_net": "ct_mar_prior"}
"""Method -> the folder of its weights."""
INTENDED_USE = "To be read beside the original series; small structures near metal may be altered"
BATCH_SLICES = 8
LEAST_THRESHOLD_HU = 1500.0
LARGEST_METAL_SHARE = 0.2
"""Share of the field of view above which what was found in a slice cannot be metal."""
LARGEST_SPACING_RATIO = 1.01
LEAST_AXIAL_COSINE = 0.85  # a tilted gantry reaches 30 degrees: 0.866

_log = logging.getLogger(__name__)


PURPOSES = {
    "li": "Metal artifacts reduced by linear interpolation of the metal trace in a virtual scan",
    "nmar": "Metal artifacts reduced by normalized inpainting of the metal trace in a virtual scan (NMAR)",
    "prior_net": "Metal artifacts reduced by a neural network and by inpainting of the metal trace in a virtual scan "
    "with the network's image as prior",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """metal_threshold_hu: HU from which a voxel is metal; 0 finds it from bits and numbers."""

    method: str = one_of(*METHODS)
    metal_threshold_hu: float = number(0.0, low=0, high=30000)


def build(settings: Mapping[str, Any]) -> CtMetalArtifactReduction:
    """The pipeline with these settings; raises SettingsInvalid when one is unknown or out of range."""
    chosen = read_settings(Settings, settings)
    if 0 < chosen.metal_threshold_hu < LEAST_THRESHOLD_HU:
        raise SettingsInvalid(
            "metal_threshold_hu",
            f"metal_threshold_hu is 0 (automatic) or {LEAST_THRESHOLD_HU:.0f} to 30000, "
            f"not {chosen.metal_threshold_hu:g}",
        )
    return CtMetalArtifactReduction(chosen)


class CtMetalArtifactReduction:
    """Slices without metal, metal itself, and slices that would not gain are passed through bit for bit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        weights = WEIGHTS.get(settings.method)
        self._manifest = None if weights is None else read_manifest(weights)

    @property
    def card(self) -> Card:
        """What the pipeline is."""
        learned = self._manifest
        return Card(
            name=NAME,
            version="1.1.0",
            ordinal=1,
            label="metal artifact reduction",
            purpose=PURPOSES[self._settings.method],
            token="MAR",
            modality="CT",
            takes=frozenset({Unit.HU}),
            makes=Unit.HU,
            method=self._settings.method,
            intended_use=INTENDED_USE if learned is None else learned.intended_use,
            baseline=learned is None,
            # streaks lie within a slice; what is metal is seen in the neighbours as well, and whether a correction
            # stands in the neighbours and theirs, but never across a gap
            slicewise=True,
            context_slices=2,
            weights_sha256="" if learned is None else learned.sha256,
            settings=asdict(self._settings),
        )

    def run(self, source: Volume) -> Outcome:
        """The series with fewer streaks; raises SourceRefused without metal, gain, or if corrected already."""
        _require_uncorrected(source)
        _require_axial(source)
        spacing_mm = _square_spacing(source)
        metal = self._find_metal(source)
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
                "slices_passed": float(len(values) - len(tally.changed)),
                "streak_before_hu": float(np.mean([before for before, _ in tally.changed.values()])),
                "streak_after_hu": float(np.mean([after for _, after in tally.changed.values()])),
            },
            notes=tally.notes(),
            unchanged=frozenset(range(len(values))) - frozenset(tally.changed),
        )

    def _find_metal(self, source: Volume) -> NDArray[np.bool_]:
        from inference.physics.metal import find_metal, metal_threshold_hu

        threshold = self._settings.metal_threshold_hu or metal_threshold_hu(
            source.values, bits_stored=source.acquisition.bits_stored
        )
        # in an uneven or tilted stack the next slice's voxel is no neighbour: each slice is looked at alone
        parts = [source.values] if source.geometry.is_even else [cut[None] for cut in source.values]
        metal = np.concatenate([find_metal(part, threshold) for part in parts])
        if source.outside is not None:
            metal &= ~source.outside
        if not metal.any():
            raise SourceRefused(
                "no-metal", f"no metal was found: nothing reaches {threshold:.0f} HU; read the original"
            )
        rows, columns = metal.shape[1:]
        share = float(metal.sum(axis=(1, 2)).max()) / (np.pi / 4 * max(rows, columns) ** 2)
        if share > LARGEST_METAL_SHARE:
            raise SourceRefused(
                "implausible-metal",
                f"{share:.0%} of a slice is above {threshold:.0f} HU, too much for metal; check the rescale slope",
            )
        return metal

    def _correct(
        self, source: Volume, metal: NDArray[np.bool_], *, spacing_mm: float
    ) -> tuple[NDArray[np.float32], _Tally]:
        from inference.physics.metal import touches
        from inference.physics.metal_artifact_reduction import seen_circle, streak_hu

        reduce = self._reduction()
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
            corrected = np.clip(reduce(source.values[chosen], metal[chosen], spacing_mm=spacing_mm), lowest, highest)
            for index, result in zip((int(index) for index in chosen), corrected, strict=True):
                kept = metal[index] if source.outside is None else metal[index] | source.outside[index]
                result[kept] = source.values[index][kept]
                streaks = streak_hu(source.values[index], result, metal[index])
                if streaks is None:
                    tally.unjudged.append(index)
                else:
                    judged[index] = streaks
                    values[index] = result
            _log.info("%s: %d of %d slices with metal done", NAME, start + len(chosen), len(waiting))
        for index, streaks in judged.items():
            if _stands(judged, index, neighbours=source.geometry.is_even):
                tally.changed[index] = streaks
            else:
                tally.without_gain.append(index)
                values[index] = source.values[index]
        return values, tally

    def _reduction(self) -> Callable[..., NDArray[np.float32]]:
        """(slices, rows, columns) HU, metal, spacing_mm -> HU, by the method that is set."""
        from inference.physics import metal_artifact_reduction as classical

        if self._manifest is not None:
            from inference.networks.prior import reduce_by_network

            network = load_network(self._manifest.name)
            return partial(reduce_by_network, network=network, bf16=self._manifest.bf16)
        return {"li": classical.reduce_by_interpolation, "nmar": classical.reduce_by_prior}[self._settings.method]


def _stands(judged: Mapping[int, tuple[float, float]], index: int, *, neighbours: bool) -> bool:
    """Whether a correction is kept: its own streaks did not rise, and with the slices beside it they fell enough.

    judged: slice -> streaks before and after, HU. One slice alone does not jump between corrected and not, for half
    of what decides is what became of its neighbours.
    """
    from inference.physics.metal_artifact_reduction import LEAST_STREAK_DROP

    def left(one: int) -> float:
        before, after = judged[one]
        return after / max(before, 1e-6)

    own = left(index)
    beside = [left(other) for other in (index - 1, index + 1) if neighbours and other in judged]
    together = (own + sum(beside) / len(beside)) / 2 if beside else own
    return own <= 1 and together <= 1 - LEAST_STREAK_DROP


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
            (self.without_gain, "streaks would not have fallen"),
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
