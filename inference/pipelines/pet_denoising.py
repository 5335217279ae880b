"""PET denoising: a short or low-dose PET with less noise, its activity conserved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.physics.smoothing import VOLUME_FILTERS
from inference.pipeline import Card, Outcome
from inference.settings import number, one_of, read_settings
from inference.volume import Unit, Volume

ACTIVITY_UNITS = frozenset({"BQML", "GML"})
COARSE_MM = 28.0
CONTEXT_SLICES = {"nlm": 4, "tv": 3, "bilateral": 0}
"""Measured on a phantom: a change of one slice moves those further off by less than a fiftieth of its own move."""
LARGEST_LOSS = 0.05
"""Share of the activity a filter may lose before it is put back; more means that the filter does not fit the image."""


@dataclass(frozen=True, slots=True)
class PetDenoisingSettings:
    """method: the filter; strength: the share of the filtered image in the result."""

    method: str = one_of("nlm", "tv", "bilateral")
    strength: float = number(1.0, low=0.0, high=1.0)


def build(settings: Mapping[str, Any]) -> PetDenoising:
    """The pipeline with these settings; raises SettingsInvalid."""
    return PetDenoising(read_settings(PetDenoisingSettings, settings))


@dataclass(frozen=True, slots=True)
class PetDenoising:
    """Filters the square root of the activity, where counts have an even noise, and puts the activity back."""

    settings: PetDenoisingSettings

    @property
    def card(self) -> Card:
        """What the pipeline is."""
        return Card(
            name="pet_denoising",
            version="1.0.0",
            ordinal=3,
            label="denoised",
            purpose="Noise reduced by an edge-keeping filter in the root of the activity, total activity conserved",
            token="DENOISED",
            modality="PT",
            takes=frozenset({Unit.BQ_PER_ML, Unit.SUV_BW}),
            makes=None,
            method=self.settings.method,
            intended_use="review beside the source images; not a replacement of them",
            context_slices=CONTEXT_SLICES[self.settings.method],
            settings=asdict(self.settings),
        )

    def run(self, source: Volume) -> Outcome:
        """The denoised PET; raises SourceRefused unless it is attenuation-corrected and holds activity."""
        from inference.physics.noise import noise_map

        _check_contract(source)
        activity = source.values
        seen = _where_activity_is(activity)
        total = float(activity.sum(dtype=np.float64))
        if not seen.any() or total <= 0:
            raise SourceRefused("no-activity", "the PET holds no activity; check the series' rescale and units")
        box = tuple(_extent(seen, axis, margin=8) for axis in range(3))
        root = np.sign(activity[box]) * np.sqrt(np.abs(activity[box]))
        noise = noise_map(root, seen[box], texture_pixels=1.5, reach_pixels=10)
        level = float(np.median(noise[seen[box]]))
        if level <= 0:
            return Outcome(
                volume=source.with_values(activity.copy()),
                measurements={"relative_noise": 0.0, "activity_put_back": 0.0},
                notes=("no noise was found; passed through unchanged",),
            )
        noise = np.maximum(noise, np.float32(0.3 * level))
        filtered = VOLUME_FILTERS[self.settings.method]((root / noise).astype(np.float32)) * noise
        denoised = activity.copy()
        denoised[box] = _with_local_activity(
            np.sign(filtered) * filtered**2, activity[box], np.array(source.geometry.spacing_mm)
        )
        denoised[(denoised < 0) & (activity >= 0)] = 0
        kept = float(denoised.sum(dtype=np.float64)) / total
        if abs(kept - 1) > LARGEST_LOSS:
            raise SourceRefused(
                "activity-not-conserved",
                f"denoising would change the total activity by {100 * (kept - 1):+.1f} %; use the source images",
            )
        denoised *= np.float32(1 / kept)
        result = activity + np.float32(self.settings.strength) * (denoised - activity)
        if source.outside is not None:
            result[source.outside] = activity[source.outside]
        measurements = {
            # of a square root the deviation is half the value's, relative
            "relative_noise": 2 * level / max(float(np.median(root[seen[box]])), 1e-30),
            "activity_put_back": 1 - kept,
            "total_activity_ratio": float(result.sum(dtype=np.float64)) / total,
        }
        return Outcome(volume=source.with_values(result.astype(np.float32)), measurements=measurements)


def _check_contract(source: Volume) -> None:
    acquisition = source.acquisition
    if "ATTN" not in acquisition.corrected_image:
        raise SourceRefused(
            "not-attenuation-corrected",
            "CorrectedImage does not hold ATTN; send the attenuation-corrected series of this PET",
        )
    if acquisition.units not in ACTIVITY_UNITS:
        raise SourceRefused(
            "not-activity",
            f"Units is {acquisition.units or 'absent'}, not BQML or GML; send a series in activity or SUV",
        )


def _where_activity_is(activity: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Roughly the body: a twentieth of the brighter part of the blurred image."""
    from scipy.ndimage import binary_closing, gaussian_filter

    blurred = gaussian_filter(activity, 1.5)
    if blurred.max() <= 0:
        return np.zeros(activity.shape, dtype=np.bool_)
    bright = float(np.percentile(blurred[blurred > 0], 90))
    closed: NDArray[np.bool_] = np.stack([binary_closing(cut, iterations=2) for cut in blurred > 0.1 * bright])
    return closed


def _with_local_activity(
    denoised: NDArray[np.float32], activity: NDArray[np.float32], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The denoised image scaled so that its coarse means are the source's: roots average low where noise is high."""
    from scipy.ndimage import gaussian_filter

    sigma = COARSE_MM / spacing_mm
    coarse, own = gaussian_filter(activity, sigma), gaussian_filter(denoised, sigma)
    floor = max(1e-3 * float(own.max()), 1e-30)
    gain = np.where(own > floor, coarse / np.maximum(own, floor), 1)
    return np.asarray(denoised * np.clip(gain, 0.8, 1.25), dtype=np.float32)


def _extent(seen: NDArray[np.bool_], axis: int, *, margin: int) -> slice:
    where = np.flatnonzero(seen.any(axis=tuple(other for other in range(3) if other != axis)))
    return slice(max(0, int(where[0]) - margin), int(where[-1]) + 1 + margin)
