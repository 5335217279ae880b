"""The figures of the metal benchmark against known answers, and the whole of it on a small phantom."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks.mar.__main__ import main
from benchmarks.mar.figures import RANGE_HU, contrasts_kept, figures_of, psnr_db, ssim, zones_of
from benchmarks.mar.published import measured, published_fan, published_scenes, reconstructed, ten_metals
from benchmarks.mar.scenes import LESION_MM, LESION_OFF_METAL_MM, Scene, disc, lesions_near
from inference.physics.projection import fan_beam_projector

SIZE, SPACING_MM = 128, 2.5
NOTHING = np.zeros((SIZE, SIZE), bool)


def phantom() -> NDArray[np.float32]:
    """A body of 40 HU with a spine, in air."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    clean = np.where((columns / 54) ** 2 + (rows / 40) ** 2 < 1, 40, -1000).astype(np.float32)
    clean[columns**2 + (rows - 22) ** 2 < 7**2] = 400
    return clean


def scene() -> Scene:
    clean = phantom()
    metal = disc((SIZE, SIZE), x=63, y=60, radius=5)
    lesions = lesions_near(clean, metal, spacing_mm=1.0)
    return Scene("rod, iron", clean, clean + 30, clean + 30 + 20 * lesions.sum(axis=0), lesions, metal, 1.0)


def test_an_error_of_a_hundredth_of_the_range_is_forty_decibels() -> None:
    clean = phantom()
    assert psnr_db(clean + np.float32(RANGE_HU / 100), clean, NOTHING) == pytest.approx(40, abs=1e-4)


def test_metal_and_what_lies_beyond_the_range_do_not_count() -> None:
    clean = phantom()
    image = clean.copy()
    image[60, 60], image[0, 0] = 900, -3000
    metal = NOTHING.copy()
    metal[60, 60] = True
    assert psnr_db(image, clean, metal) == np.inf
    assert ssim(image, clean, metal) == pytest.approx(1)
    assert psnr_db(image, clean, NOTHING) < 80 and ssim(image, clean, NOTHING) < 1


def test_lesions_lie_in_soft_tissue_near_the_metal_and_are_left_out_without_room() -> None:
    clean, metal = phantom(), scene().metal
    lesions = lesions_near(clean, metal, spacing_mm=1.0)
    off_metal = distance_transform_edt(~metal)
    for lesion, gap in zip(lesions, LESION_OFF_METAL_MM, strict=True):
        assert lesion.sum() == pytest.approx(np.pi * LESION_MM**2, rel=0.03)
        assert (np.abs(clean[lesion > 0]) < 150).all()
        assert gap - 1 <= off_metal[lesion > 0].min() <= gap + 2
    assert not ((lesions[0] > 0) & (lesions[1] > 0)).any()
    assert not lesions_near(np.full_like(clean, -1000), metal, spacing_mm=1.0).any()


@pytest.mark.parametrize("kept", [1.0, 0.5, -0.25])
def test_the_contrast_kept_is_the_share_of_the_lesion_that_is_left(kept: float) -> None:
    made = scene()
    zones = zones_of(made, made.metal)
    # what both results share, and an even shift between them, are no contrast
    with_lesions = made.spoiled + 20 * made.lesions[0] + np.float32(20 * kept) * made.lesions[1] + 7
    assert contrasts_kept(made.spoiled, with_lesions, zones) == pytest.approx((1, kept), abs=1e-3)


def test_each_zone_sees_the_change_that_was_made_in_it() -> None:
    made = replace(scene(), spoiled=phantom())
    zones = zones_of(made, made.metal)
    image = made.clean.copy()
    image[zones.shell] -= 50
    image[zones.streaks & ~zones.shell] += 10
    figures = figures_of(image, None, made, zones)
    assert figures["shell_bias_hu"] == pytest.approx(-50)
    assert figures["far_change_hu"] == 0 or np.isnan(figures["far_change_hu"])
    assert 10 <= figures["streak_hu"] <= 50 and figures["rmse_hu"] < figures["streak_hu"]
    assert figures["gain_db"] == -np.inf and np.isnan(figures["contrast_2_mm"])
    assert figures_of(made.clean, None, made, zones)["rmse_hu"] == 0


def test_the_gain_in_the_body_does_not_see_the_air() -> None:
    made = scene()
    image = np.where(made.clean > -300, made.clean + 15, made.clean + 500).astype(np.float32)
    figures = figures_of(image, None, made, zones_of(made, made.metal))
    assert figures["body_gain_db"] == pytest.approx(20 * np.log10(2), abs=0.01) and figures["gain_db"] < 0


def test_a_far_change_is_the_median_beyond_sixty_pixels() -> None:
    clean = np.full((200, 200), 40, np.float32)
    metal = disc((200, 200), x=20, y=20, radius=4)
    made = Scene("clip, gold", clean, clean, clean, np.zeros((2, 200, 200), np.float32), metal, 1.0)
    image = clean + np.where(np.indices(clean.shape)[1] > 95, -3, 0).astype(np.float32)
    figures = figures_of(image, None, made, zones_of(made, metal))
    assert figures["far_change_hu"] == -3 and figures["far_bias_hu"] == -3


def test_the_published_scanner_shows_water_as_nought_and_the_published_sizes_of_metal() -> None:
    size = 128
    projector = fan_beam_projector(published_fan(size))
    water = np.where(disc((size, size), x=63.5, y=63.5, radius=50), 0, -1000).astype(np.float32)
    image = reconstructed(projector, measured(water[None], np.zeros((1, size, size), bool), projector, [1]))[0]
    inner = disc((size, size), x=63.5, y=63.5, radius=40)
    assert abs(image[inner].mean()) < 3
    areas = ten_metals(phantom()).sum(axis=(1, 2)) * (416 / size) ** 2
    assert areas == pytest.approx([2061, 890, 881, 451, 254, 124, 118, 112, 53, 35], rel=0.25, abs=40)


def test_interpolation_of_the_measured_trace_gains_over_the_input() -> None:
    slices = phantom().astype(np.int16)[None]
    (group,) = published_scenes(slices, spacing_mm=SPACING_MM, count=1, seed=1, size=SIZE)
    made = group.scan.images + group.scan.interpolation
    for index, one in enumerate(group.scenes[:5]):
        before, after = (psnr_db(images[index], one.clean, one.metal) for images in (group.scan.images, made))
        assert after > before + 3


def test_the_benchmark_prints_its_tables_and_writes_figures_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    noise = np.random.default_rng(3).normal(0, 6, (3, SIZE, SIZE))
    np.savez(tmp_path / "ct_body_512.npz", HELD_OUT=(phantom() + noise).astype(np.int16))
    facts = {"HELD_OUT": {"slices": [{"ps": [SPACING_MM, SPACING_MM]}] * 3}}
    (tmp_path / "ct_body_512.json").write_text(json.dumps(facts))
    figures, sheet = tmp_path / "figures.json", tmp_path / "sheet"
    options = "--protocol b --subject HELD_OUT --per-kind 1 --methods nmar --threads 1 --no-speed"
    try:
        main([str(tmp_path), *options.split(), "--json", str(figures), "--sheet", str(sheet)])
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "### (b)" in printed and "| `nmar` | on |" in printed and "nan" not in printed.split("###")[1][:400]
    rows = json.loads(figures.read_text())["scenes"]
    assert {(row["method"], row["gate"]) for row in rows} == {("input", ""), ("nmar", "off"), ("nmar", "on")}
    assert len({row["scene"] for row in rows}) == 10 and all(row["exact"] for row in rows)
    gains = [row["figures"]["gain_db"] for row in rows if row["kind"].startswith("hip") and row["gate"] == "off"]
    assert min(gains) > 1
    page = (sheet / "index.html").read_text()
    assert page.count("<h2>") == 10 and all((sheet / name).is_file() for name in ("00-0.png", "00-1-difference.png"))
