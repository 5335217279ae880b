"""CT and PET denoising against known truth: every method's gain, bias, contrast kept and CPU time, as a table."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_fill_holes,
    binary_opening,
    distance_transform_edt,
    gaussian_filter,
    gaussian_filter1d,
    label,
)

from inference.errors import SourceRefused
from inference.physics.attenuation import attenuation_factors, build_projector, reconstruct_osem
from inference.physics.body import body_from_ct
from inference.physics.ct_simulation import CtProtocol, simulate_low_dose_ct
from inference.physics.smoothing import SLICE_FILTERS
from inference.pipeline import build_pipeline, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

METHODS = ("nlm", "tv", "bilateral")
WINDOW_HU = (-150.0, 250.0)
TISSUES_HU = {"lung": (-1000, -600), "fat": (-200, -50), "soft": (0, 80), "dense": (80, 200), "bone": (200, 3000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("DICOMNODE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument(
        "--data", type=Path, default=default, help="folder with ct_body_512.npz, pet_wholebody_sts001.npz"
    )
    parser.add_argument("--only", choices=("ct", "pet"), help="one of the two")
    parser.add_argument("--subject", default="CRLM-CT-1006", help="key of ct_body_512.npz")
    parser.add_argument("--slices", type=int, default=6, help="CT slices, evenly spread")
    parser.add_argument("--dose", type=float, default=0.25, help="CT dose as a share of the full dose")
    parser.add_argument("--photons", type=float, default=1e6, help="CT quanta per ray at full dose")
    parser.add_argument("--reduction", type=float, default=10.0, help="PET dose reduction factor")
    given = parser.parse_args()
    if given.only != "pet":
        measure_ct(given.data, given.subject, slices=given.slices, dose=given.dose, photons=given.photons)
    if given.only != "ct":
        measure_pet(given.data, reduction=given.reduction)


def measure_ct(data: Path, subject: str, *, slices: int, dose: float, photons: float) -> None:
    full = np.load(data / "ct_body_512.npz")[subject]
    facts = json.loads((data / "ct_body_512.json").read_text())[subject]["slices"]
    chosen = np.linspace(0, len(full) - 1, slices + 2).astype(int)[1:-1]
    clean = full[chosen].astype(np.float32)
    spacing_mm = float(facts[0]["ps"][0])
    low = simulate_low_dose_ct(clean, dose, spacing_mm=spacing_mm, seed=1, protocol=CtProtocol(photons=photons))
    body, discs = body_from_ct(clean), low_contrast_discs(clean, spacing_mm)
    acquisition = Acquisition(modality="CT")
    geometry = Geometry(np.diag([1, spacing_mm, spacing_mm, 1.0])[:, [2, 1, 0, 3]], "1.2")
    print(
        f"\nCT {subject}, {slices} slices, {100 * dose:g} % dose of {photons:g} quanta; noise added to real slices that"
    )
    print("have noise of their own, which counts as truth; PSNR in the body, window C50 W400\n")
    print(
        f"{'method':10} {'PSNR':>6} {'gain':>6} {'RMSE HU':>8} {'disc kept':>9} {'CPU-s/slice':>11}  bias HU by tissue"
    )
    print(f"{'input':10} {psnr_db(low, clean, body):6.2f} {'':6} {rmse(low, clean, body):8.2f}")
    for method in METHODS:
        pipeline = build_pipeline("ct_denoising", {"method": method})
        SLICE_FILTERS[method](low[0, :64, :64])  # imports are not counted
        start = time.process_time()
        try:
            result = run_pipeline(pipeline, Volume(low, Unit.HU, geometry, acquisition)).volume.values
            cpu_s = (time.process_time() - start) / len(low)
            with_discs = run_pipeline(pipeline, Volume(low + discs, Unit.HU, geometry, acquisition)).volume.values
        except SourceRefused as refused:
            print(f"{method:10} refused: {refused.reason_code}: {refused}")
            continue
        kept = float((with_discs - result)[discs > 0].sum() / discs[discs > 0].sum())
        gain = psnr_db(result, clean, body) - psnr_db(low, clean, body)
        biases = " ".join(f"{name} {bias:+.2f}" for name, bias in tissue_biases(result - low, clean, body))
        print(
            f"{method:10} {psnr_db(result, clean, body):6.2f} {gain:+6.2f} {rmse(result, clean, body):8.2f} "
            f"{kept:9.2f} {cpu_s:11.2f}  {biases}"
        )


def low_contrast_discs(clean: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    """Discs of 5 mm and 60 HU, eight a slice, in soft tissue."""
    random, discs = np.random.default_rng(0), np.zeros_like(clean)
    j, i = np.indices(clean.shape[1:])
    for cut, target in zip(clean, discs, strict=True):
        blurred = gaussian_filter(cut, 3)
        places = np.argwhere((blurred > 0) & (blurred < 120))
        for row, column in places[random.choice(len(places), 8, replace=False)]:
            distance_mm = np.hypot(j - row, i - column) * spacing_mm
            np.maximum(target, 60 * np.clip((2.5 - distance_mm) / spacing_mm + 0.5, 0, 1), out=target)
    return discs


def tissue_biases(
    change: NDArray[np.float32], clean: NDArray[np.float32], body: NDArray[np.bool_]
) -> Iterator[tuple[str, float]]:
    blurred = gaussian_filter(clean, (0, 2, 2))
    for name, (low, high) in TISSUES_HU.items():
        region = body & (blurred > low) & (blurred < high)
        if region.sum() > 2000:
            yield name, float(change[region].mean())


def psnr_db(image: NDArray[np.float32], truth: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    error = np.clip(image, *WINDOW_HU)[region] - np.clip(truth, *WINDOW_HU)[region]
    return float(20 * np.log10((WINDOW_HU[1] - WINDOW_HU[0]) / np.sqrt(np.mean(error**2))))


def rmse(image: NDArray[np.float32], truth: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    return float(np.sqrt(np.mean((image - truth)[region] ** 2)))


def measure_pet(data: Path, *, reduction: float) -> None:
    stored = np.load(data / "pet_wholebody_sts001.npz")
    suv = (stored["bqml"].astype(np.float32) * np.float32(stored["suv_factor"]))[100:230]
    spacing_mm = tuple(float(step) for step in stored["spacing_zyx"])
    truth, low, lesions, body = simulated_pet(suv, spacing_mm, reduction)
    geometry = Geometry(np.diag([*spacing_mm, 1.0])[[2, 1, 0, 3]], "1.2")
    acquisition = Acquisition(modality="PT", corrected_image=("DECY", "ATTN"), units="GML")
    print(f"\nPET whole body STS_001, {len(suv)} slices, dose reduction {reduction:g}, ten lesions of 6-11 mm radius;")
    print("truth is the reconstruction without noise; counts are re-simulated, without scatter and randoms\n")
    print(
        f"{'method':10} {'NRMSE':>6} {'change':>7} {'total':>8} {'lesion mean':>11} {'|mean|':>7} "
        f"{'SUVmax':>7} {'CPU-s':>6}"
    )
    source = Volume(low, Unit.SUV_BW, geometry, acquisition)
    before = nrmse(low, truth, body)
    rows = [("input", low, 0.0)]
    for method in METHODS:
        start = time.process_time()
        result = run_pipeline(build_pipeline("pet_denoising", {"method": method}), source).volume.values
        rows.append((method, result, time.process_time() - start))
    matched = min(
        np.arange(2, 12, 0.25),
        key=lambda mm: abs(nrmse(blurred_mm(low, mm, spacing_mm), truth, body) - nrmse(rows[1][1], truth, body)),
    )
    rows.append((f"Gauss {matched:g}mm", blurred_mm(low, float(matched), spacing_mm), 0.0))
    for name, result, cpu_s in rows:
        means = np.array([result[lesions == k].mean() / truth[lesions == k].mean() - 1 for k in range(1, 11)])
        tops = np.array([result[lesions == k].max() / truth[lesions == k].max() - 1 for k in range(1, 11)])
        error = nrmse(result, truth, body)
        print(
            f"{name:10} {error:6.4f} {100 * (error / before - 1):+6.1f}% {100 * (result.sum() / low.sum() - 1):+7.3f}% "
            f"{100 * means.mean():+10.1f}% {100 * np.abs(means).mean():6.1f}% {100 * tops.mean():+6.1f}% {cpu_s:6.1f}"
        )


def blurred_mm(values: NDArray[np.float32], fwhm_mm: float, spacing_mm: tuple[float, ...]) -> NDArray[np.float32]:
    return gaussian_filter(values, [fwhm_mm / 2.355 / step for step in spacing_mm])


def nrmse(image: NDArray[np.float32], truth: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    return rmse(image, truth, region) / float(np.sqrt(np.mean(truth[region] ** 2)))


def simulated_pet(
    suv: NDArray[np.float32], spacing_mm: tuple[float, ...], reduction: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int_], NDArray[np.bool_]]:
    """Truth and low dose in SUV, lesions 1..10, body."""
    seen, _ = label(np.stack([binary_fill_holes(cut) for cut in binary_opening(gaussian_filter(suv, 1) > 0.15)]))
    body = seen == np.bincount(seen.ravel())[1:].argmax() + 1
    activity = suv * body
    lesions = put_in_lesions(activity, body, spacing_mm)
    projector = build_projector(suv.shape[1:], pixel_mm=(spacing_mm[1], spacing_mm[2]), views=96)
    factors = attenuation_factors(np.float32(0.096) * body.astype(np.float32), projector)
    expected = gaussian_filter1d(projector.forward(activity), 6 / 2.355 / spacing_mm[2], axis=-1)
    expected = gaussian_filter1d(expected, 6 / 2.355 / spacing_mm[0], axis=0) * factors
    scale = 6e5 * len(suv) / reduction / float(expected.sum())
    counts = np.random.default_rng(1).poisson(expected * scale).astype(np.float32) / np.float32(scale)
    truth, low = (
        blurred_mm(reconstruct_osem(each, projector, factors=factors, subsets=8, iterations=3), 5, spacing_mm)
        for each in (expected, counts)
    )
    return truth, low, lesions, body


def put_in_lesions(
    activity: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: tuple[float, ...]
) -> NDArray[np.int_]:
    random, lesions = np.random.default_rng(0), np.zeros(activity.shape, dtype=int)
    depth = np.stack([distance_transform_edt(cut) for cut in body])
    places = np.argwhere((depth > 6) & (activity < 2) & (activity > 0.3))
    grid = np.indices(activity.shape)
    while lesions.max() < 10:
        place = places[random.integers(len(places))]
        radius_mm = random.uniform(6, 11)
        square_mm = sum(((axis - at) * step) ** 2 for axis, at, step in zip(grid, place, spacing_mm, strict=True))
        ball = square_mm < radius_mm**2
        if 8 < place[0] < len(activity) - 8 and not lesions[ball].any():
            lesions[ball] = lesions.max() + 1
            activity[ball] = random.uniform(4, 9)
    return lesions


if __name__ == "__main__":
    main()
