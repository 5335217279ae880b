"""The rungs of metal artifact reduction as one function each, and the weights that they and the metal mask take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from inference.errors import WeightsInvalid, WeightsMissing
from inference.in_distribution import facts_of, notes_on_distribution
from inference.mar_settings import Settings
from inference.model_files import Manifest, joint_sha256, load_network, read_manifest
from inference.volume import Volume

Images = NDArray[np.float32]
Reduction = Callable[..., Images]
"""(slices, rows, columns) HU, metal of that shape, spacing_mm -> HU; the metal is not put back."""
PRIOR_WEIGHTS: Mapping[str, str] = {
    "supervised": "ct_mar_prior",
    "ct_artifact_gan": "ct_mar_prior_gan",
    "pix2pix": "ct_mar_prior_pix2pix",
}
DIFFUSION_WEIGHTS, MASK_WEIGHTS = "ct_clean_slices", "ct_metal_mask"
RECIPES: Mapping[str, str] = {
    **{name: f"mar_prior SCENES OUT --objective {prior}" for prior, name in PRIOR_WEIGHTS.items()},
    DIFFUSION_WEIGHTS: "clean_slices SCENES OUT",
    MASK_WEIGHTS: "metal_mask SCENES OUT",
}
"""Weights -> the recipe in inference.training that makes them."""
CHANNELS: Mapping[str, int] = {**dict.fromkeys(PRIOR_WEIGHTS.values(), 4), DIFFUSION_WEIGHTS: 2, MASK_WEIGHTS: 2}
"""Weights -> how many channels their network is given."""
SEED = 1
"""Of the noise that every slice's diffusion begins with."""


@dataclass(frozen=True, slots=True)
class MarWeights:
    """The manifests of the weights that the settings ask for; None for what needs none."""

    method: Manifest | None
    mask: Manifest | None

    @property
    def sha256(self) -> str:
        """What tells the weights in use, "" for none."""
        return joint_sha256([manifest for manifest in (self.method, self.mask) if manifest is not None])

    @property
    def intended_use(self) -> str:
        """What the manifests say, each sentence once; "" without weights."""
        said = (manifest.intended_use for manifest in (self.method, self.mask) if manifest is not None)
        return "; ".join(dict.fromkeys(said))

    def notes_on_mask(self, source: Volume) -> tuple[str, ...]:
        """What to know of a series at the border of what the mask's weights serve; raises SourceRefused beyond it."""
        if self.mask is None:
            return ()
        return notes_on_distribution(self.mask, facts_of(source), instead='use metal_mask = "threshold"')

    def notes_on_method(self, source: Volume) -> tuple[str, ...]:
        """The same of the method's weights."""
        from inference.physics.metal_artifact_reduction import LARGEST_GRID

        if self.method is None:
            return ()
        facts = facts_of(source)
        # what a rung is given lies on the grid of the virtual scan
        coarser = math.ceil(max(source.values.shape[1:]) / LARGEST_GRID)
        seen = facts | {"pixel_spacing_mm": (facts["pixel_spacing_mm"] or math.nan) * coarser}
        return notes_on_distribution(self.method, seen, instead='use method = "nmar"')


def weights_for(settings: Settings) -> MarWeights:
    """The weights that the settings ask for; raises WeightsInvalid with how to get those that are not installed."""
    by_method = {"prior_net": PRIOR_WEIGHTS[settings.prior], "dual_domain_diffusion": DIFFUSION_WEIGHTS}
    name = by_method.get(settings.method)
    weights = MarWeights(
        method=None if name is None else _manifest(name, settings),
        mask=_manifest(MASK_WEIGHTS, settings) if settings.metal_mask == "network" else None,
    )
    asked = [manifest for manifest in (weights.method, weights.mask) if manifest is not None]
    if settings.weights_folder and asked and not any(manifest.site_folder for manifest in asked):
        # an empty mount is no wish for the weights that are shipped
        raise WeightsMissing(
            f"weights_folder {settings.weights_folder} holds none of the weights that are asked for: "
            f"{', '.join(manifest.name for manifest in asked)}; put them there, or leave weights_folder out for those "
            "that are shipped"
        )
    return weights


def reduction_for(settings: Settings, manifest: Manifest | None, *, body_part_examined: str) -> Reduction:
    """The rung that is set. manifest: of the weights that its method asks for."""
    from inference.physics import metal_artifact_reduction as classical

    if manifest is None:
        return {"li": classical.reduce_by_interpolation, "nmar": classical.reduce_by_prior}[settings.method]
    network = load_network(manifest)
    if settings.method == "prior_net":
        from inference.networks.prior import reduce_by_network

        return partial(reduce_by_network, network=network, bf16=manifest.bf16)
    from inference.networks.dual_domain import ANATOMY, anatomy_of, reduce_by_diffusion

    guidance = ANATOMY[anatomy_of(body_part_examined)]
    return partial(
        reduce_by_diffusion, network=network, steps=settings.steps, guidance=guidance, seed=SEED, bf16=manifest.bf16
    )


def _manifest(name: str, settings: Settings) -> Manifest:
    try:
        manifest = read_manifest(name, settings.weights_folder)
    except WeightsMissing as fault:
        raise WeightsMissing(
            f"{fault}; make them with python -m inference.training.{RECIPES[name]}, say in the manifest.toml that it "
            "writes what is not said yet, and put this and model.safetensors into a folder "
            f"{name} inside the one that weights_folder names, or choose another setting"
        ) from fault
    channels = manifest.hyper_parameters.get("channels_in"), manifest.hyper_parameters.get("channels_out")
    if channels != (CHANNELS[name], 1):
        raise WeightsInvalid(
            f"the weights {name!r} are for {channels[0]} channels in and {channels[1]} out; "
            f"they are asked for {CHANNELS[name]} and 1"
        )
    return manifest
