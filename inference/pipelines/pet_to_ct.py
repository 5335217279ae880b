"""PET to CT: a synthetic CT for attenuation correction from a PET that was not corrected for attenuation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.pipeline import Card, Outcome
from inference.settings import number, one_of, read_settings
from inference.volume import Unit, Volume

AIR_HU = -1000.0
LEAST_CONTRAST = 2.5
LEAST_BODY_ML = 500.0
LARGEST_AREA_CM2 = 2500.0
LARGEST_SHARE_CUT = 0.1
LUNGS_ML = (500.0, 9000.0)
CONTEXT_SLICES = 4
"""Two deviations (12 mm) of the means by which the contour is found, at 3 mm a slice."""


@dataclass(frozen=True, slots=True)
class PetToCtSettings:
    """lungs: auto fills them where the PET shows them, off leaves soft tissue there."""

    method: str = one_of("water_fill")
    lungs: str = one_of("auto", "off")
    soft_tissue_hu: float = number(0.0, low=-100.0, high=100.0)
    lung_hu: float = number(-700.0, low=-900.0, high=-400.0)


def build(settings: Mapping[str, Any]) -> PetToCt:
    """The pipeline with these settings; raises SettingsInvalid."""
    return PetToCt(read_settings(PetToCtSettings, settings))


@dataclass(frozen=True, slots=True)
class PetToCt:
    """Water fill: the body's contour from the PET's skin, soft tissue within, lungs where they show."""

    settings: PetToCtSettings

    @property
    def card(self) -> Card:
        """What the pipeline is."""
        return Card(
            name="pet_to_ct",
            version="1.0.0",
            ordinal=4,
            label="synthetic CT for attenuation correction",
            purpose="Synthetic CT from the body contour and lungs seen in a PET without attenuation correction",
            token="SYNTHETIC",
            modality="PT",
            takes=frozenset({Unit.PROPORTIONAL_COUNTS, Unit.BQ_PER_ML, Unit.SUV_BW}),
            makes=Unit.HU,
            method=self.settings.method,
            intended_use="attenuation correction only, not for diagnosis",
            makes_modality="CT",
            synthetic=True,
            context_slices=CONTEXT_SLICES,
            settings=asdict(self.settings),
        )

    def run(self, source: Volume) -> Outcome:
        """The synthetic CT; raises SourceRefused unless the PET is uncorrected, axial and shows one plausible body."""
        from inference.physics.body import body_from_nac_pet, lungs_from_nac_pet, rim_contrast

        _check_contract(source)
        counts, spacing_mm = np.maximum(source.values, np.float32(0)), source.geometry.spacing_mm
        body = body_from_nac_pet(counts, spacing_mm)
        _check_body(counts, body, spacing_mm)
        voxel_ml = float(np.prod(spacing_mm)) / 1000
        lungs, notes = np.zeros_like(body), []
        if self.settings.lungs == "auto":
            lungs = lungs_from_nac_pet(counts, body, spacing_mm)
            lungs_ml = float(lungs.sum()) * voxel_ml
            if not LUNGS_ML[0] <= lungs_ml <= LUNGS_ML[1]:
                lungs = np.zeros_like(body)
                seen = f"what was seen ({lungs_ml:.0f} ml) is no plausible pair" if lungs_ml else "none were seen"
                notes.append(f"lungs are filled with soft tissue: {seen}; a chest would be over-corrected")
        hu = np.full(counts.shape, AIR_HU, dtype=np.float32)
        hu[body] = self.settings.soft_tissue_hu
        hu[lungs] = self.settings.lung_hu
        empty = int((~body.any(axis=(1, 2))).sum())
        if empty:
            notes.append(f"{empty} of {len(body)} slices show no body and are air")
        return Outcome(
            volume=source.with_values(hu, Unit.HU),
            masks={"body": body, "lungs": lungs},
            measurements={
                "body_ml": float(body.sum()) * voxel_ml,
                "lungs_ml": float(lungs.sum()) * voxel_ml,
                "rim_contrast": rim_contrast(counts, body, spacing_mm),
            },
            notes=tuple(notes),
        )


def _check_contract(source: Volume) -> None:
    acquisition = source.acquisition
    method = acquisition.attenuation_correction_method.lower()
    if "ATTN" in acquisition.corrected_image or (method and not method.startswith("none")):
        raise SourceRefused(
            "already-attenuation-corrected",
            "this PET is already corrected for attenuation; send the series reconstructed without it (NAC)",
        )
    if not acquisition.corrected_image:
        raise SourceRefused(
            "corrections-unknown",
            "CorrectedImage is absent or empty, so it is not known whether attenuation was corrected; "
            "send a series that names its corrections",
        )
    steps = source.geometry.affine[:3, :3] / np.array(source.geometry.spacing_mm)
    if abs(steps[2, 0]) < 0.9 or abs(steps[0, 2]) < 0.9:
        raise SourceRefused("not-axial", "the slices are not axial; send the axial series of this PET")


def _check_body(counts: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> None:
    """Raises SourceRefused unless the contour is plausible; a wrong one biases the corrected PET."""
    from inference.physics.body import rim_contrast

    body_ml = float(body.sum()) * float(np.prod(spacing_mm)) / 1000
    if body_ml < LEAST_BODY_ML:
        raise SourceRefused("no-body-seen", f"the PET shows no body (contour of {body_ml:.0f} ml); use a CT instead")
    area_cm2 = float(body.sum(axis=(1, 2)).max()) * spacing_mm[1] * spacing_mm[2] / 100
    if area_cm2 > LARGEST_AREA_CM2:
        raise SourceRefused(
            "implausible-body", f"the contour covers {area_cm2:.0f} cm2 in one slice, no body does; use a CT instead"
        )
    border = body[:, (0, -1), :].any(axis=(1, 2)) | body[:, :, (0, -1)].any(axis=(1, 2))
    share_cut = float(border.sum()) / float(body.any(axis=(1, 2)).sum())
    if share_cut > LARGEST_SHARE_CUT:
        raise SourceRefused(
            "body-cut-by-field-of-view",
            f"in {100 * share_cut:.0f} % of the slices the contour reaches the edge of the image; use a CT instead",
        )
    contrast = rim_contrast(counts, body, spacing_mm)
    if contrast < LEAST_CONTRAST:
        raise SourceRefused(
            "body-edge-unclear",
            f"the skin is only {contrast:.1f} times brighter than what surrounds it; use a CT instead",
        )
