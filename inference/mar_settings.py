"""What can be set of metal artifact reduction, which settings go together, and what each makes of the purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inference.errors import SettingsInvalid
from inference.settings import number, one_of, read_settings, text, whole_number

METHODS = ("prior_net", "nmar", "li", "dual_domain_diffusion")
"""The first is the default, here and below."""
PRIORS = ("supervised", "ct_artifact_gan", "pix2pix")
METAL_MASKS = ("threshold", "network")
LEAST_THRESHOLD_HU = 1500.0
ONLY_WITH: Mapping[str, tuple[str, str]] = {
    "prior": ("method", "prior_net"),
    "steps": ("method", "dual_domain_diffusion"),
    "metal_threshold_hu": ("metal_mask", "threshold"),
}
"""Settings that count only where another has that value."""
_TRACE = "inpainting of the metal trace in a virtual scan"
_TRAINED = {"supervised": "", "ct_artifact_gan": " trained as a CT artifact GAN", "pix2pix": " trained as pix2pix"}


@dataclass(frozen=True, slots=True)
class Settings:
    """metal_threshold_hu: HU from which a voxel is metal; 0 finds it from bits and numbers.

    prior: how the network of `prior_net` was trained. steps: of the diffusion. weights_folder: a folder with weights of
    the site's own, which come before those that are shipped; empty for none.
    """

    method: str = one_of(*METHODS)
    prior: str = one_of(*PRIORS)
    steps: int = whole_number(20, low=20, high=50)
    metal_mask: str = one_of(*METAL_MASKS)
    metal_threshold_hu: float = number(0.0, low=0, high=30000)
    weights_folder: str = text()

    def in_force(self) -> dict[str, Any]:
        """Those that shape the result; where weights lie does not, their hash tells them."""
        values = asdict(self)
        del values["weights_folder"]
        return {key: value for key, value in values.items() if _counts(key, values)}

    @property
    def purpose(self) -> str:
        """One sentence for the Derivation Description."""
        means = {
            "li": "linear interpolation of the metal trace in a virtual scan",
            "nmar": f"normalized {_TRACE} (NMAR)",
            "prior_net": f"a neural network{_TRAINED[self.prior]} and by {_TRACE} with the network's image as prior",
            "dual_domain_diffusion": f"a diffusion model of slices without metal and by {_TRACE} as its images say",
        }
        mask = "; metal found by a neural network" if self.metal_mask == "network" else ""
        return f"Metal artifacts reduced by {means[self.method]}{mask}"


def read_mar_settings(given: Mapping[str, Any]) -> Settings:
    """The settings; raises SettingsInvalid when one is unknown, out of range, or would count for nothing."""
    chosen = read_settings(Settings, given)
    values = asdict(chosen)
    for key in given:
        if not _counts(key, values):
            other, value = ONLY_WITH[key]
            raise SettingsInvalid(key, f'{key} counts only with {other} = "{value}"; here {other} is {values[other]!r}')
    if 0 < chosen.metal_threshold_hu < LEAST_THRESHOLD_HU:
        raise SettingsInvalid(
            "metal_threshold_hu",
            f"metal_threshold_hu is 0 (automatic) or {LEAST_THRESHOLD_HU:.0f} to 30000, "
            f"not {chosen.metal_threshold_hu:g}",
        )
    if chosen.weights_folder and not (Path(chosen.weights_folder).is_absolute() and _is_folder(chosen.weights_folder)):
        raise SettingsInvalid(
            "weights_folder", f"weights_folder is the whole path of a folder, not {chosen.weights_folder!r}"
        )
    return chosen


def _counts(key: str, values: Mapping[str, Any]) -> bool:
    if key not in ONLY_WITH:
        return True
    other, value = ONLY_WITH[key]
    return bool(values[other] == value)


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # e.g. a folder on the way that may not be entered, a null character
        return False
