"""Every rung can be had with weights of a site's own, and says how to get them where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from inference.errors import SourceRefused, WeightsInvalid, WeightsMissing
from inference.mar_methods import (
    CHANNELS,
    DIFFUSION_WEIGHTS,
    MASK_WEIGHTS,
    PRIOR_WEIGHTS,
    RECIPES,
    MarWeights,
    weights_for,
)
from inference.mar_settings import PRIORS, Settings
from inference.networks import diffusion, metal_mask, prior
from inference.volume import Acquisition, Geometry, Unit, Volume
from tests.builders_weights import write_weights

RANGES = {"pixel_spacing_mm": (0.6, 1.2), "kvp": (80.0, 140.0)}


def site(folder: Path, *names: str, **changed: Any) -> str:
    for name in names:
        write_weights(folder, name, channels_in=CHANNELS[name], **({"in_distribution": RANGES} | changed))
    return str(folder)


def notes_on(weights: MarWeights, source: Volume) -> tuple[str, ...]:
    return weights.notes_on_mask(source) + weights.notes_on_method(source)


def series(spacing_mm: float, kvp: float | None, size: int = 8) -> Volume:
    geometry = Geometry(np.diag([3.0, spacing_mm, spacing_mm, 1.0])[[2, 1, 0, 3]], "1.2")
    return Volume(np.zeros((1, size, size), np.float32), Unit.HU, geometry, Acquisition("CT", kvp=kvp))


def test_channels_are_those_of_the_networks_and_every_prior_has_weights_and_a_recipe() -> None:
    assert {CHANNELS[name] for name in PRIOR_WEIGHTS.values()} == {prior.CHANNELS}
    assert CHANNELS[DIFFUSION_WEIGHTS] == diffusion.CHANNELS and CHANNELS[MASK_WEIGHTS] == metal_mask.CHANNELS
    assert set(PRIOR_WEIGHTS) == set(PRIORS) and set(RECIPES) == set(CHANNELS)
    for recipe in RECIPES.values():
        assert Path(prior.__file__).parents[1].joinpath("training", f"{recipe.split()[0]}.py").is_file()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Settings(method="prior_net"), "ct_mar_prior"),
        (Settings(method="prior_net", prior="ct_artifact_gan"), "ct_mar_prior_gan"),
        (Settings(method="prior_net", prior="pix2pix"), "ct_mar_prior_pix2pix"),
        (Settings(method="dual_domain_diffusion"), "ct_clean_slices"),
    ],
)
def test_each_learned_rung_takes_its_own_weights(tmp_path: Path, settings: Settings, name: str) -> None:
    weights = weights_for(replace(settings, weights_folder=site(tmp_path, name)))
    assert weights.method is not None and weights.method.name == name and weights.mask is None
    assert weights.sha256 == weights.method.sha256 and weights.intended_use == "tests"


def test_weights_that_are_not_installed_are_refused_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # under a name that is never shipped
    monkeypatch.setitem(cast(dict[str, str], PRIOR_WEIGHTS), "pix2pix", "ct_never_shipped")
    monkeypatch.setitem(cast(dict[str, str], RECIPES), "ct_never_shipped", RECIPES["ct_mar_prior_pix2pix"])
    with pytest.raises(WeightsMissing) as caught:
        weights_for(Settings(method="prior_net", prior="pix2pix", weights_folder=str(tmp_path)))
    for words in (
        "'ct_never_shipped' are not installed",
        "training.mar_prior SCENES OUT --objective pix2pix",
        "weights_folder",
    ):
        assert words in str(caught.value)


def test_a_site_folder_without_any_of_the_weights_stops_the_start_rather_than_taking_those_that_are_shipped(
    tmp_path: Path,
) -> None:
    chosen = Settings(method="prior_net", metal_mask="network", weights_folder=str(tmp_path))
    with pytest.raises(WeightsMissing, match=r"holds none of .*: ct_mar_prior, ct_metal_mask;") as caught:
        weights_for(chosen)
    assert str(tmp_path) in str(caught.value)
    site(tmp_path, "ct_clean_slices")
    with pytest.raises(WeightsMissing, match="holds none"):
        weights_for(chosen)
    assert weights_for(replace(chosen, method="nmar", metal_mask="threshold")).sha256 == ""
    site(tmp_path, "ct_metal_mask")
    weights = weights_for(chosen)
    assert weights.method is not None and weights.method.site_folder == ""
    assert weights.mask is not None and weights.mask.site_folder == str(tmp_path)


def test_weights_of_another_shape_stop_the_start(tmp_path: Path) -> None:
    write_weights(tmp_path, "ct_mar_prior", channels_in=2)
    with pytest.raises(WeightsInvalid, match="2 channels in and 1 out; they are asked for 4 and 1"):
        weights_for(Settings(method="prior_net", weights_folder=str(tmp_path)))


def test_weights_of_method_and_mask_are_told_by_one_hash(tmp_path: Path) -> None:
    folder = site(tmp_path, "ct_mar_prior", "ct_metal_mask")
    both = weights_for(Settings(method="prior_net", metal_mask="network", weights_folder=folder))
    assert both.method is not None and both.mask is not None
    assert len(both.sha256) == 64 and both.sha256 not in (both.method.sha256, both.mask.sha256)
    assert both.intended_use == "tests"
    none = weights_for(Settings(method="nmar"))
    assert none.method is None and none.mask is None and none.sha256 == "" and none.intended_use == ""


def test_a_series_is_held_against_the_training_of_the_method_and_of_the_mask(tmp_path: Path) -> None:
    folder = site(tmp_path, "ct_mar_prior", "ct_metal_mask")
    both = weights_for(Settings(method="prior_net", metal_mask="network", weights_folder=folder))
    assert notes_on(both, series(0.8, 120)) == ()
    assert [note.split()[-5] for note in notes_on(both, series(0.5, 120))] == ["ct_metal_mask", "ct_mar_prior"]
    assert all(note.startswith("kvp of this series is not known") for note in notes_on(both, series(0.8, None)))
    with pytest.raises(SourceRefused, match='metal_mask = "threshold"'):
        notes_on(both, series(2.0, 120))
    method = replace(both, mask=None)
    with pytest.raises(SourceRefused, match='method = "nmar"') as caught:
        notes_on(method, series(2.0, 120))
    assert caught.value.reason_code == "out-of-distribution"
    assert notes_on(weights_for(Settings(method="nmar")), series(2.0, None)) == ()


def test_pixels_count_as_the_network_is_given_them_on_the_coarser_grid_of_a_large_matrix(tmp_path: Path) -> None:
    weights = weights_for(Settings(method="prior_net", weights_folder=site(tmp_path, "ct_mar_prior")))
    assert notes_on(weights, series(0.35, 120, size=1024)) == ()
    with pytest.raises(SourceRefused, match=r"pixel_spacing_mm is 1\.6 as the network sees it"):
        notes_on(weights, series(0.8, 120, size=1024))
