"""The second scanner against what scanners do and against analytic truth."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import mar_second_beam, mar_second_scanner
from benchmarks.mar_second_beam import METALS, SecondProtocol
from benchmarks.mar_second_scanner import _finer_share, _Scanner, scan, water_phantom

SIZE, SPACING_MM = 128, 2.5
QUICK = SecondProtocol(views=240, cell_mm=1.6)
BETWEEN = (0, slice(61, 67), slice(56, 72))


def grid(size: int = SIZE) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return y, x


def water_slice() -> NDArray[np.float32]:
    y, x = grid()
    return np.where((x / 52) ** 2 + (y / 38) ** 2 < 1, 0, -1000).astype(np.float32)[None]


def pair_of_hips() -> NDArray[np.bool_]:
    y, x = grid()
    return np.asarray((y**2 + (np.abs(x) - 26) ** 2 < 4**2)[None])


@lru_cache
def quick_scan(metal: str = "titanium_alloy", seed: int = 1) -> NDArray[np.float32]:
    return scan(water_slice(), pair_of_hips(), metal=metal, spacing_mm=SPACING_MM, seed=seed, protocol=QUICK)


def test_it_shares_no_code_with_the_scanner_that_networks_are_trained_on() -> None:
    for module in (mar_second_scanner, mar_second_beam):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith(("inference", "dicomnode"))]


@pytest.mark.parametrize("diameter_mm", [120.0, 200.0, 320.0])
def test_water_is_zero_within_five_hu_and_as_flat_as_ten(diameter_mm: float) -> None:
    image = water_phantom(diameter_mm)
    y, x = grid()
    radius = np.hypot(x, y) * 1.3 * diameter_mm / SIZE / (diameter_mm / 2)
    middle, rim = image[radius < 0.2].mean(), image[(radius > 0.8) & (radius < 0.9)].mean()
    assert abs(image[radius < 0.9].mean()) < 5
    assert abs(middle - rim) < 10
    assert image[(radius > 1.1) & (radius < 1.25)].mean() == pytest.approx(-1000, abs=5)


def test_line_integrals_of_tissue_are_right_to_half_a_hundredth() -> None:
    """A disc off the centre, so that a wrong turn or mirror shows; the rest is its drawn edge, 56 pixels out."""
    scanner = _Scanner(QUICK, 256, 1.25)
    y, x = (axis * 1.25 for axis in grid(256))
    soft_edge = np.clip((70 - np.hypot(x - 40, y + 25)) / 1.25 + 0.5, 0, 1).astype(np.float32)
    views, cells = np.mgrid[0 : QUICK.views : 12, 0 : scanner.cells]
    paths = scanner.tissue_cm(soft_edge[None], views.ravel(), cells.ravel())[:, 0].reshape(views.shape)
    truth = disc_chords_cm(scanner, scanner.cell_angles, x=40, y=-25, radius=70)[::12]
    assert np.linalg.norm(paths - truth) / np.linalg.norm(truth) < 0.005


def test_line_integrals_of_metal_are_right_to_three_hundredths() -> None:
    """A mask of whole pixels, twelve to its radius, cut through by the edges between tiles; its sum to a hundredth."""
    scanner = _Scanner(QUICK, 256, 1.25)
    y, x = (axis * 1.25 for axis in grid(256))
    share = _finer_share(np.hypot(x - 42, y + 25) < 15)
    tissue = np.stack([np.full((256, 256), 0.8, np.float32), np.zeros((256, 256), np.float32)])
    lost, no_bone, metal = scanner.metal_cm(tissue, share)
    fine = mar_second_scanner.RAYS_PER_CELL
    angles = scanner.step / fine * (np.arange(fine * scanner.cells) - (fine * scanner.cells - 1) / 2 + 0.25 * fine)
    truth = disc_chords_cm(scanner, angles, x=42, y=-25, radius=15)
    assert metal.sum() == pytest.approx(truth.sum(), rel=0.01)
    assert np.linalg.norm(metal - truth) / np.linalg.norm(truth) < 0.03
    np.testing.assert_allclose(lost, 0.8 * metal, atol=1e-4)
    assert not no_bone.any()


def test_what_was_projected_comes_back_where_it_was() -> None:
    scanner = _Scanner(QUICK, SIZE, SPACING_MM)
    y, x = (axis * SPACING_MM for axis in grid())
    chords = disc_chords_cm(scanner, scanner.cell_angles, x=0, y=0, radius=120)
    chords += disc_chords_cm(scanner, scanner.cell_angles, x=50, y=-30, radius=30)
    image = scanner.image(chords.astype(np.float32))
    for centre, value in {(50, -30): 2.0, (-50, -30): 1.0, (50, 30): 1.0, (-30, 50): 1.0, (0, 0): 1.0}.items():
        assert image[np.hypot(x - centre[0], y - centre[1]) < 15].mean() == pytest.approx(value, rel=0.003)


def test_without_metal_the_slice_comes_back() -> None:
    clean = np.concatenate([water_slice(), water_slice() + 40])
    metal = np.concatenate([np.zeros((1, SIZE, SIZE), bool), pair_of_hips()])
    made = scan(clean, metal, metal="steel", spacing_mm=SPACING_MM, seed=1, protocol=QUICK)
    np.testing.assert_array_equal(made[0], clean[0])
    assert (made[1] != clean[1]).mean() > 0.3


def test_metal_is_bright_where_it_lies_and_nowhere_else() -> None:
    """A bracket without symmetry, coarse enough for the kernel."""
    metal = np.zeros((1, SIZE, SIZE), bool)
    metal[0, 40:70, 30:36] = metal[0, 64:70, 30:50] = True
    made = scan(water_slice(), metal, metal="titanium_alloy", spacing_mm=SPACING_MM, seed=1, protocol=QUICK)
    found = made > 2500
    assert 2 * (found & metal).sum() / (found.sum() + metal.sum()) > 0.9


def test_a_pair_of_hips_makes_a_dark_band_between_them_that_grows_with_the_metal() -> None:
    titanium, steel = (float(quick_scan(metal)[BETWEEN].mean()) for metal in ("titanium_alloy", "steel"))
    assert steel < titanium < -30


def test_what_comes_out_are_whole_numbers_of_twelve_bits() -> None:
    made = quick_scan("steel")
    np.testing.assert_array_equal(made, np.rint(made))
    assert made.min() >= -1024 and made.max() == 3071


def test_a_seed_repeats_itself_and_another_differs() -> None:
    again = quick_scan.__wrapped__()
    assert again is not quick_scan()
    np.testing.assert_array_equal(again, quick_scan())
    assert (again != quick_scan(seed=2)).any()


def test_a_faint_lesion_is_all_that_two_scans_of_one_seed_differ_by() -> None:
    y, x = grid()
    lesion = (np.hypot(x - 26, y - 16) < 4)[None]
    with_lesion = scan(
        water_slice() + np.float32(20) * lesion,
        pair_of_hips(),
        metal="titanium_alloy",
        spacing_mm=SPACING_MM,
        seed=1,
        protocol=QUICK,
    )
    difference = with_lesion - quick_scan()
    assert difference[lesion].mean() == pytest.approx(20, abs=2)
    away = ~lesion & (water_slice() > -500) & ~pair_of_hips()
    assert difference[away].std() < 2


def test_metal_outside_the_circle_is_left_out() -> None:
    corner = np.zeros((1, SIZE, SIZE), bool)
    corner[0, :6, :6] = True
    made = scan(water_slice(), corner, metal="steel", spacing_mm=SPACING_MM, seed=1, protocol=QUICK)
    np.testing.assert_array_equal(made, water_slice())


def test_unknown_metals_oblong_slices_and_too_wide_fields_are_refused() -> None:
    clean, hips = water_slice(), pair_of_hips()
    with pytest.raises(ValueError, match=r"steel.*lead"):
        scan(clean, hips, metal="lead", spacing_mm=SPACING_MM, seed=1)
    with pytest.raises(ValueError, match="square"):
        scan(clean[:, :100], hips[:, :100], metal="steel", spacing_mm=SPACING_MM, seed=1)
    with pytest.raises(ValueError, match="field of view"):
        scan(clean, hips, metal="steel", spacing_mm=9.0, seed=1)
    assert set(METALS) == {"titanium_alloy", "steel", "amalgam", "tantalum"}


def disc_chords_cm(
    scanner: _Scanner, fan_rad: NDArray[np.float64], *, x: float, y: float, radius: float
) -> NDArray[np.float64]:
    """(views, rays) of a disc, lengths of the disc in mm."""
    view = scanner.view_angles[:, None]
    direction = view + np.pi + fan_rad
    distance = scanner.protocol.source_distance_mm
    to_x, to_y = x - distance * np.cos(view), y - distance * np.sin(view)
    off = to_x * np.sin(direction) - to_y * np.cos(direction)
    return np.asarray(2 * np.sqrt(np.maximum(radius**2 - off**2, 0)) / 10)
