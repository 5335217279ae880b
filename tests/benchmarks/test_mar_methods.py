"""Variants of a rung by one name, so that the benchmark can put them side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mar.methods import WEIGHTS_VARIABLE, methods_named, settings_of, ungated
from benchmarks.mar.published import MeasuredScan, change_of, diffusion_change, measured, published_fan, ten_metals
from benchmarks.mar.scenes import Scene, disc
from inference.mar_settings import METHODS, Settings
from inference.physics.projection import fan_beam_projector
from tests.builders_weights import write_weights

SIZE = 64


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("nmar", {"method": "nmar"}),
        ("prior_net:pix2pix", {"method": "prior_net", "prior": "pix2pix"}),
        ("nmar:network", {"method": "nmar", "metal_mask": "network"}),
        (
            "prior_net:pix2pix:network",
            {"method": "prior_net", "prior": "pix2pix", "metal_mask": "network"},
        ),
        ("dual_domain_diffusion:50", {"method": "dual_domain_diffusion", "steps": 50}),
    ],
)
def test_a_name_is_a_rung_with_its_prior_its_mask_or_its_steps(name: str, settings: dict[str, object]) -> None:
    assert settings_of(name) == settings


def test_weights_of_ones_own_come_before_those_that_are_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(SystemExit, match="ct_mar_prior_pix2pix"):
        methods_named(["prior_net:pix2pix"])
    write_weights(tmp_path, "ct_mar_prior_pix2pix", channels_in=4)
    assert methods_named(["prior_net:pix2pix"]) == ("prior_net:pix2pix",)


@pytest.mark.parametrize("name", ["best", "nmar:pix2pix", "nmar:better", "dual_domain_diffusion:5"])
def test_what_there_is_not_is_named_before_anything_is_measured(name: str) -> None:
    with pytest.raises(SystemExit, match=name):
        methods_named([name])


def test_without_names_all_rungs_are_measured_whose_weights_are_there() -> None:
    usable = methods_named(None)
    assert set(usable) <= set(METHODS) and {"nmar", "li", "prior_net"} <= set(usable)
    assert methods_named(["prior_net:supervised", "li"]) == ("prior_net:supervised", "li")


def test_metal_by_the_network_is_left_out_where_all_get_the_true_trace() -> None:
    assert change_of("nmar:network") is None
    assert change_of("prior_net:pix2pix") is not None and change_of("dual_domain_diffusion:30") is not None


def phantom() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return np.where((columns / 27) ** 2 + (rows / 20) ** 2 < 1, 40, -1000).astype(np.float32)


def test_the_diffusion_takes_the_measured_sinogram(tmp_path: Path) -> None:
    write_weights(tmp_path, "ct_clean_slices")
    settings = Settings(method="dual_domain_diffusion", weights_folder=str(tmp_path))
    projector = fan_beam_projector(published_fan(SIZE))
    clean = phantom()[None]
    metal = ten_metals(clean[0])[:1]
    scan = MeasuredScan(measured(clean, metal, projector, [1]), metal, spacing_mm=2.5, projector=projector)
    made = scan.images + diffusion_change(scan, settings=settings)
    before, after = ((np.clip(image, -1000, 1604) - clean)[~metal] for image in (scan.images, made))
    assert np.sqrt(np.mean(after**2)) < 0.8 * np.sqrt(np.mean(before**2))


def test_without_the_gate_the_metal_found_is_put_back() -> None:
    clean = phantom()
    metal = disc((SIZE, SIZE), x=34, y=32, radius=5)
    spoiled = clean + np.where(metal, 3000, np.where(np.arange(SIZE)[:, None] == 32, 300, 0)).astype(np.float32)
    scene = Scene("rod, iron", clean, spoiled, spoiled, np.zeros((2, SIZE, SIZE), np.float32), metal, 1.0)
    made = ungated(scene, np.stack([metal, metal]), "li")
    assert np.array_equal(made.images[0][metal], spoiled[metal]) and not np.array_equal(made.images[0], spoiled)
    nothing = ungated(scene, np.zeros((2, SIZE, SIZE), bool), "li")
    assert np.array_equal(nothing.images[0], spoiled) and nothing.unchanged == (True, True)
