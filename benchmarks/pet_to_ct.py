"""pet_to_ct against true CTs: contour, HU and the bias of the PET that its synthetic CT corrects, as a table."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter, gaussian_filter1d, zoom

from inference.errors import SourceRefused
from inference.physics.attenuation import attenuation_factors, build_projector, mu_from_hu, reconstruct_osem
from inference.physics.body import body_from_ct
from inference.pipeline import build_pipeline, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

GRID_MM = 4.0
GRID = 128


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A true CT and an activity on one grid: (slices, 128, 128)."""

    name: str
    hu: NDArray[np.float32]
    activity: NDArray[np.float32]
    body: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    kvp: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("DICOMNODE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="folder with the .npz files")
    parser.add_argument("--limbs", type=int, default=6, help="how many of the limbs of sts_ct_pet_mr_2mm.npz")
    parser.add_argument("--scatter", type=float, default=0.3, help="scatter share, left in the PET")
    given = parser.parse_args()
    print("NAC PET simulated from a true CT; bias is of the PET corrected with the synthetic CT against the true CT,")
    print("mean over the region and mean of the absolute voxel error; lungs 'off' is the plain water fill\n")
    print(
        f"{'case':16} {'lungs':5} {'Dice':>6} {'edge mm':>7} {'MAE HU':>7} {'soft bias':>9} {'soft |err|':>10} "
        f"{'lung bias':>9} {'lung ml true/found':>18} {'CPU-s':>6}"
    )
    for case in all_cases(given.data, given.limbs):
        for lungs in ("auto", "off"):
            print(result_line(case, lungs, given.scatter), flush=True)


def result_line(case: Case, lungs: str, scatter: float) -> str:
    projector = build_projector((GRID, GRID), pixel_mm=case.spacing_mm[1:], views=90)
    true_mu = mu_from_hu(case.hu, kvp=case.kvp)
    factors = attenuation_factors(true_mu, projector)
    source = simulated_nac(case, projector.forward(case.activity) * factors, scatter)
    try:
        start = time.process_time()
        outcome = run_pipeline(build_pipeline("pet_to_ct", {"lungs": lungs}), source)
        cpu_s = time.process_time() - start
    except SourceRefused as refused:
        return f"{case.name:16} {lungs:5} refused: {refused.reason_code}: {refused}"
    hu, body = outcome.volume.values, outcome.masks["body"]
    emission = projector.forward(case.activity) * factors
    reference = reconstruct_osem(emission, projector, factors=factors)
    synthetic = attenuation_factors(mu_from_hu(hu, kvp=120), projector)
    corrected = reconstruct_osem(emission, projector, factors=synthetic)
    inner = binary_erosion(case.body, np.ones((1, 3, 3)), iterations=2)
    soft, lung = inner & (case.hu > -200) & (case.hu < 150), inner & (case.hu < -500)
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000
    dice = 2 * (body & case.body).sum() / (body.sum() + case.body.sum())
    edge_mm = float(np.median(radius_mm(body, case.spacing_mm) - radius_mm(case.body, case.spacing_mm)))
    lung_bias = f"{100 * bias(corrected, reference, lung):+8.1f}%" if lung.sum() * voxel_ml > 100 else f"{'-':>9}"
    return (
        f"{case.name:16} {lungs:5} {dice:6.3f} {edge_mm:+7.1f} {np.abs(hu - case.hu)[case.body].mean():7.0f} "
        f"{100 * bias(corrected, reference, soft):+8.1f}% {100 * absolute_error(corrected, reference, soft):9.1f}% "
        f"{lung_bias} {((case.hu < -500) & case.body).sum() * voxel_ml:10.0f}/{outcome.measurements['lungs_ml']:<7.0f} "
        f"{cpu_s:6.1f}"
    )


def bias(image: NDArray[np.float32], reference: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    return float(image[region].mean() / reference[region].mean() - 1)


def absolute_error(image: NDArray[np.float32], reference: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    return float(np.abs(image - reference)[region].mean() / reference[region].mean())


def radius_mm(body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Of the disc of equal area, slice by slice."""
    return np.sqrt(body.sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2] / np.pi)


def simulated_nac(case: Case, emission: NDArray[np.float32], scatter: float) -> Volume:
    """The PET as the scanner would show it without attenuation correction: counts, blur, scatter, 4 mm filter."""
    projector = build_projector((GRID, GRID), pixel_mm=case.spacing_mm[1:], views=90)
    blurred = gaussian_filter1d(emission, 6 / 2.355 / case.spacing_mm[2], axis=-1)
    if scatter:
        wide = gaussian_filter(blurred, (3, 10, 70 / case.spacing_mm[2]))
        blurred = blurred + wide * (blurred.sum() / wide.sum() * scatter / (1 - scatter))
    blurred *= 3e5 * len(blurred) / blurred.sum()
    counts = np.random.default_rng(0).poisson(blurred).astype(np.float32)
    image = reconstruct_osem(counts, projector, iterations=3)
    image = gaussian_filter(image, [4 / 2.355 / step for step in case.spacing_mm])
    acquisition = Acquisition(modality="PT", corrected_image=("NORM", "DTIM", "DECY", "RAN"), units="PROPCPS")
    geometry = Geometry(np.diag([*case.spacing_mm, 1.0])[[2, 1, 0, 3]], "1.2")
    return Volume(image.astype(np.float32), Unit.PROPORTIONAL_COUNTS, geometry, acquisition)


def all_cases(data: Path, limbs: int) -> Iterator[Case]:
    facts = json.loads((data / "ct_body_512.json").read_text())
    for subject in ("TCGA-DE-A4MA", "LIDC-IDRI-0314", "C3N-00249", "CRLM-CT-1006"):
        hu = resampled_body(np.load(data / "ct_body_512.npz")[subject], facts[subject]["slices"])
        if subject == "LIDC-IDRI-0314":
            hu = hu[:60]  # above, the arms are cut by the CT's field of view
        yield with_activity(subject, hu, float(facts[subject]["slices"][0]["kvp"]))
    torso = np.load(data / "phantom_torso_ct_labels_3mm.npz")
    hu, organs = (torso[key].transpose(2, 1, 0)[:, ::-1, ::-1] for key in ("ct", "label"))
    hot = {5: 2.3, 21: 20.0, 2: 4.0, 3: 4.0, 1: 1.8}  # liver, bladder, kidneys, spleen
    uptake = np.ones(organs.shape, dtype=np.float32)
    for organ, times in hot.items():
        uptake[organs == organ] = times
    shrink = (1.0, 3 / GRID_MM, 3 / GRID_MM)
    hu, uptake = zoom(hu.astype(np.float32), shrink, order=1), zoom(uptake, shrink, order=1)
    yield with_activity("torso, hot organs", centred(hu), 120, centred(uptake, 1), (3.0, GRID_MM, GRID_MM))
    stored = np.load(data / "sts_ct_pet_mr_2mm.npz")
    notes = json.loads((data / "sts_ct_pet_mr_2mm.json").read_text())
    for name in [name for name in notes if name not in ("STS_019", "STS_037", "STS_047", "STS_005")][:limbs]:
        yield limb(name, stored, notes[name])


def limb(name: str, stored: np.lib.npyio.NpzFile, note: dict[str, object]) -> Case:
    """Real CT with its real PET as activity."""
    slice_mm, row_mm, _ = (float(step) for step in note["spacing_zyx_mm"])  # type: ignore[attr-defined]
    shrink = (1.0, row_mm / GRID_MM, row_mm / GRID_MM)
    small = [zoom(stored[f"{name}_{kind}"].astype(np.float32), shrink, order=1) for kind in ("ct", "pet")]
    hu, suv = centred(small[0]), centred(small[1], 0)
    body = body_from_ct(hu, opened_pixels=1)
    kvp = float(note["ct"]["kvp"])  # type: ignore[index]
    hu = np.where(body, hu, np.float32(-1000))
    return Case(name, hu, suv / 500 * body, body, (slice_mm, GRID_MM, GRID_MM), kvp)


def with_activity(
    name: str,
    hu: NDArray[np.float32],
    kvp: float,
    uptake: NDArray[np.float32] | None = None,
    spacing_mm: tuple[float, float, float] = (GRID_MM, GRID_MM, GRID_MM),
) -> Case:
    """Activity told from the HU, times organ uptake, with smooth variation of a quarter."""
    body = body_from_ct(hu, opened_pixels=1)
    hu = np.where(body, hu, np.float32(-1000))
    activity = body.astype(np.float32)
    for above, below, value in ((-300, -30, 0.35), (-950, -300, 0.45), (-3000, -950, 0.1), (150, 4000, 1.1)):
        activity[body & (hu > above) & (hu <= below)] = value
    texture = gaussian_filter(np.random.default_rng(0).standard_normal(hu.shape), 4)
    activity *= np.clip(1 + 0.25 * texture / texture.std(), 0.3, 2).astype(np.float32)
    if uptake is not None:
        activity *= uptake
    return Case(name, hu, activity, body, spacing_mm, kvp)


def resampled_body(stored: NDArray[np.int16], facts: list[dict[str, object]]) -> NDArray[np.float32]:
    places = np.array([float(str(fact["z"])) for fact in facts])
    order = np.argsort(places)
    pixel_mm, slice_mm = float(facts[0]["ps"][0]), float(np.median(np.diff(places[order])))  # type: ignore[index]
    side = int(stored.shape[1] * pixel_mm / GRID_MM)
    cuts = [gaussian_filter(stored[k].astype(np.float32), GRID_MM / pixel_mm / 2.5) for k in order]
    small = np.stack([zoom(cut, side / len(cut), order=1, grid_mode=True, mode="nearest") for cut in cuts])
    at = np.minimum(np.arange(round(len(small) * slice_mm / GRID_MM)) * GRID_MM / slice_mm, len(small) - 1)
    low = at.astype(int)
    high, part = np.minimum(low + 1, len(small) - 1), (at - low)[:, None, None]
    return centred((small[low] * (1 - part) + small[high] * part).astype(np.float32))


def centred(values: NDArray[np.float32], fill: float = -1000) -> NDArray[np.float32]:
    """On the middle of the 128 x 128 grid."""
    margins = [(GRID - size) // 2 for size in values.shape[1:]]
    pads = [(margin, GRID - size - margin) for margin, size in zip(margins, values.shape[1:], strict=True)]
    return np.pad(values, [(0, 0), *pads], constant_values=fill)


if __name__ == "__main__":
    main()
