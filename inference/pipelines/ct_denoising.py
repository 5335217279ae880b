"""CT denoising: a low-dose CT with less noise, its HU kept region by region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.physics.smoothing import SLICE_FILTERS
from inference.pipeline import Card, Outcome
from inference.settings import number, one_of, read_settings
from inference.volume import Unit, Volume

AIR_HU = -1000.0
COARSE_PIXELS = 12.0
LARGEST_SHIFT_HU = 5.0
SMALLEST_REGION_VOXELS = 2000
TISSUES_HU = {
    "lung": (-1000, -600),
    "fat": (-200, -50),
    "soft_tissue": (0, 80),
    "dense": (80, 200),
    "bone": (200, 3000),
}


@dataclass(frozen=True, slots=True)
class CtDenoisingSettings:
    """method: the filter; strength: the share of the filtered image in the result."""

    method: str = one_of("nlm", "tv", "bilateral")
    strength: float = number(1.0, low=0.0, high=1.0)


def build(settings: Mapping[str, Any]) -> CtDenoising:
    """The pipeline with these settings; raises SettingsInvalid."""
    return CtDenoising(read_settings(CtDenoisingSettings, settings))


@dataclass(frozen=True, slots=True)
class CtDenoising:
    """Filters each slice by its own local noise; what lies outside the body stays as it is."""

    settings: CtDenoisingSettings

    @property
    def card(self) -> Card:
        """What the pipeline is."""
        return Card(
            name="ct_denoising",
            version="1.0.0",
            ordinal=2,
            label="denoised",
            purpose="Noise reduced by an edge-keeping filter matched to the local noise",
            token="DENOISED",
            modality="CT",
            takes=frozenset({Unit.HU}),
            makes=None,
            method=self.settings.method,
            intended_use="review beside the source images; not a replacement of them",
            slicewise=True,
            settings=asdict(self.settings),
        )

    def run(self, source: Volume) -> Outcome:
        """The denoised CT; raises SourceRefused where no body is seen or a tissue's mean HU would shift."""
        from inference.physics.body import body_from_ct

        result = source.values.copy()
        shifts = _TissueShifts()
        noise_hu, removed, body_voxels = [], 0.0, 0
        for k in range(len(result)):
            hu = np.maximum(source.values[k], np.float32(-1024))
            if source.outside is not None:
                hu = np.where(source.outside[k], np.float32(AIR_HU), hu)
            body = body_from_ct(hu[None])[0]
            if not body.any():
                continue
            change, noise = self._change(hu, body)
            if source.outside is not None:
                change[source.outside[k]] = 0
            result[k] += change
            shifts.add(hu + change, change, body)
            noise_hu.append(noise)
            removed += float((change[body].astype(np.float64) ** 2).sum())
            body_voxels += int(body.sum())
        if not body_voxels:
            raise SourceRefused(
                "no-body-seen", "no slice holds a body (nothing above -400 HU); check that this is a CT of a patient"
            )
        tissue, shift_hu = shifts.largest()
        if abs(shift_hu) > LARGEST_SHIFT_HU:
            raise SourceRefused(
                "regional-shift",
                f"denoising would shift {tissue} by {shift_hu:.1f} HU; use a smaller strength or the source images",
            )
        measurements = {
            "noise_hu": float(np.median(noise_hu)),
            "removed_rms_hu": float(np.sqrt(removed / body_voxels)),
            "largest_tissue_shift_hu": shift_hu,
        }
        return Outcome(volume=source.with_values(result), measurements=measurements)

    def _change(self, hu: NDArray[np.float32], body: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
        """What to add to one slice, 0 away from the body, and the median noise in the body; both HU."""
        from scipy.ndimage import binary_dilation, gaussian_filter

        from inference.physics.noise import noise_map

        rows, columns = (_extent(np.flatnonzero(body.sum(axis=axis)), margin=16) for axis in (1, 0))
        cut, inside = hu[rows, columns], body[rows, columns]
        noise = noise_map(cut[None], inside[None])[0]
        level = float(np.median(noise[inside]))
        noise = np.maximum(noise, np.float32(max(1.0, 0.5 * level)))
        filtered = SLICE_FILTERS[self.settings.method](cut / noise) * noise
        share = inside.astype(np.float32)
        # what is coarser than any noise grain is anatomy or bias: put it back
        coarse = gaussian_filter((cut - filtered) * share, COARSE_PIXELS) / np.maximum(
            gaussian_filter(share, COARSE_PIXELS), np.float32(1e-3)
        )
        feather = gaussian_filter(binary_dilation(inside, iterations=4).astype(np.float32), 2.0)
        change = np.zeros_like(hu)
        change[rows, columns] = self.settings.strength * feather * (filtered + coarse - cut)
        return change, level


class _TissueShifts:
    """Sums, tissue by tissue, what is added to the HU."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(TISSUES_HU, 0.0)
        self._voxels = dict.fromkeys(TISSUES_HU, 0)

    def add(self, denoised: NDArray[np.float32], change: NDArray[np.float32], body: NDArray[np.bool_]) -> None:
        from scipy.ndimage import gaussian_filter

        # told from the source, a voxel's own noise would choose its tissue and look like a shift
        blurred = gaussian_filter(denoised, 2.0)
        for tissue, (low, high) in TISSUES_HU.items():
            chosen = body & (blurred > low) & (blurred < high)
            self._sums[tissue] += float(change[chosen].sum(dtype=np.float64))
            self._voxels[tissue] += int(chosen.sum())

    def largest(self) -> tuple[str, float]:
        """The tissue whose mean shifts most, and by how many HU; small regions do not count."""
        means = {
            tissue: self._sums[tissue] / voxels
            for tissue, voxels in self._voxels.items()
            if voxels >= SMALLEST_REGION_VOXELS
        }
        return max(means.items(), key=lambda item: abs(item[1]), default=("nothing", 0.0))


def _extent(where: NDArray[np.intp], *, margin: int) -> slice:
    return slice(max(0, int(where[0]) - margin), int(where[-1]) + 1 + margin)
