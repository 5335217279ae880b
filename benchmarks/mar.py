"""Metal artifact reduction on simulated metal in a held-out body: gain over the input in dB, by kind and method.

Metric: PSNR over a slice with HU clipped to [-1000, 1604] and metal, true or found, left out; the truth is the slice
before metal was put in. Image only: the methods see the reconstructed 12-bit slices and scan them in another
fan than the simulation's. The protocol (voltage, quanta, filter, scatter) changes from scene to scene.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.physics.ct_simulation import CtProtocol, simulate_metal_ct
from inference.physics.metal import find_metal, metal_threshold_hu
from inference.physics.metal_artifact_reduction import reduce_by_interpolation, reduce_by_prior
from inference.pipeline import build_pipeline, run_pipeline
from inference.volume import Acquisition, Geometry, Unit, Volume

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

KINDS = (
    ("hip pair", "titanium"),
    ("hip pair", "cobalt_chromium"),
    ("one hip", "cobalt_chromium"),
    ("dental", "gold"),
    ("screws", "titanium"),
    ("screws", "iron"),
    ("rods", "titanium"),
    ("rods", "cobalt_chromium"),
    ("clip", "titanium"),
    ("clip", "gold"),
)
METHODS: dict[str, Callable[..., Image]] = {"li": reduce_by_interpolation, "nmar": reduce_by_prior}
FAR_PIXELS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A slice with metal put in; images are (rows, columns) HU."""

    kind: str
    clean: Image
    spoiled: Image
    metal: Mask
    spacing_mm: float


def disc(shape: tuple[int, int], *, x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def rod(shape: tuple[int, int], *, x: float, y: float, length: float, width: float, angle: float) -> Mask:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    return np.asarray((np.abs(along) <= length / 2) & (np.abs(across) <= width / 2))


def implants(clean: Image, kind: str, spacing_mm: float, random: np.random.Generator) -> Mask:
    """Where metal of that kind would lie in the body, at true size."""
    body = clean > -300
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    top, height, left, width = rows[0], np.ptp(rows), columns[0], np.ptp(columns)
    shape = (clean.shape[0], clean.shape[1])
    per_mm = 1 / spacing_mm

    def place(down: float, across: float) -> dict[str, float]:
        return {"x": float(left + across * width), "y": float(top + down * height)}

    def jitter(reach: float) -> float:
        return float(random.uniform(-reach, reach))

    mask = np.zeros(shape, bool)
    if kind in ("hip pair", "one hip"):
        radius = random.uniform(8, 15) * per_mm
        for across in (0.25, 0.75) if kind == "hip pair" else (0.27,):
            mask |= disc(shape, **place(0.55 + jitter(0.05), across + jitter(0.03)), radius=radius)
    elif kind == "dental":
        for _ in range(random.integers(2, 6)):
            angle = random.uniform(0.15, np.pi - 0.15)
            spot = place(0.45 - 0.28 * np.sin(angle), 0.5 + 0.16 * np.cos(angle))
            mask |= disc(shape, **spot, radius=random.uniform(1.6, 4.4) * per_mm)
    elif kind == "screws":
        length, thick = random.uniform(20, 40) * per_mm, random.uniform(2.5, 5) * per_mm
        for side in (-1, 1):
            spot = place(0.68 + jitter(0.03), 0.5 + side * 0.06)
            mask |= rod(shape, **spot, length=length, width=thick, angle=np.pi / 2 - side * 0.35)
    elif kind == "rods":
        for side in (-1, 1):
            spot = place(0.75 + jitter(0.03), 0.5 + side * 0.055)
            mask |= disc(shape, **spot, radius=random.uniform(2, 3.2) * per_mm)
    else:
        spot = place(0.45 + jitter(0.1), 0.5 + jitter(0.2))
        mask |= rod(shape, **spot, length=random.uniform(3, 7) * per_mm, width=1.8 * per_mm, angle=jitter(3))
    return mask


def random_protocol(random: np.random.Generator) -> CtProtocol:
    return CtProtocol(
        kvp=int(random.choice([100, 120, 140])),
        photons=float(10 ** random.uniform(5.5, 6.3)),
        scatter=float(random.uniform(0, 0.01)),
        window=str(random.choice(["ramp", "hamming"])),
    )


def scenes(data: Path, subject: str, per_kind: int, seed: int) -> Iterator[Scene]:
    """Scenes in turn; one voltage, dose and filter for the scenes of a kind."""
    slices = np.load(data / "ct_body_512.npz")[subject]
    spacing_mm = float(json.loads((data / "ct_body_512.json").read_text())[subject]["slices"][0]["ps"][0])
    random = np.random.default_rng(seed)
    for kind, metal in KINDS:
        clean = slices[random.integers(0, len(slices), per_kind)].astype(np.float32)
        masks = np.stack([implants(image, kind, spacing_mm, random) for image in clean])
        spoiled = simulate_metal_ct(
            clean,
            masks,
            metal=metal,
            spacing_mm=spacing_mm,
            seed=int(random.integers(1 << 30)),
            protocol=random_protocol(random),
        )
        for image, result, mask in zip(clean, spoiled, masks, strict=True):
            yield Scene(f"{kind}, {metal}", image, result, mask, spacing_mm)


def psnr_db(image: Image, clean: Image, metal: Mask) -> float:
    error = np.where(metal, 0, np.clip(image, -1000, 1604) - np.clip(clean, -1000, 1604))
    return float(20 * np.log10(2604 / np.sqrt(np.mean(error**2))))


def gated(scene: Scene, method: str) -> Image:
    """What the pipeline sends to the PACS: the source where it refuses."""
    geometry = Geometry(np.diag([3.0, scene.spacing_mm, scene.spacing_mm, 1.0])[[2, 1, 0, 3]], "1.2.3")
    # Twice the same slice: a part in one slice only may be too small to count as one.
    twice = np.stack([scene.spoiled, scene.spoiled])
    source = Volume(twice, Unit.HU, geometry, Acquisition("CT", bits_stored=12))
    try:
        outcome = run_pipeline(build_pipeline("ct_metal_artifact_reduction", {"method": method}), source)
    except SourceRefused:
        return scene.spoiled
    first: Image = outcome.volume.values[0]
    return first


def measure(chosen: list[Scene]) -> None:
    """Prints one row for each kind of metal and the sums."""
    columns = [f"{method}{suffix}" for method in METHODS for suffix in ("", " gated")]
    print(f"{'metal':28} {'px':>5} {'input':>6} " + " ".join(f"{name:>11}" for name in columns) + "   (dB gained)")
    rows: dict[str, list[list[float]]] = {}
    far_change, cpu_s, corrected_slices = [], dict.fromkeys(METHODS, 0.0), 0
    for scene in chosen:
        pair = np.stack([scene.spoiled, scene.spoiled])
        found = find_metal(pair, metal_threshold_hu(pair, bits_stored=12))[0]
        left_out = found | scene.metal
        before = psnr_db(scene.spoiled, scene.clean, left_out)
        row = [float(scene.metal.sum()), before]
        corrected_slices += 1
        for method, reduce in METHODS.items():
            started = time.process_time()
            plain = reduce(scene.spoiled[None], found[None], spacing_mm=scene.spacing_mm)[0]
            cpu_s[method] += time.process_time() - started
            sent = gated(scene, method)
            row += [psnr_db(image, scene.clean, left_out) - before for image in (plain, sent)]
            if method == "nmar":
                far = np.hypot(*(np.indices(found.shape) - np.argwhere(found).mean(axis=0)[:, None, None]))
                body = (scene.clean > -300) & (far > FAR_PIXELS) & ~left_out
                far_change.append(abs(float(np.median((sent - scene.spoiled)[body]))))
        rows.setdefault(scene.kind, []).append(row)
    for kind, table in rows.items():
        means = np.mean(table, axis=0)
        print(f"{kind:28} {means[0]:5.0f} {means[1]:6.2f} " + " ".join(f"{gain:11.2f}" for gain in means[2:]))
    everything = np.array([row for table in rows.values() for row in table])
    for label, values in (("mean", everything.mean(axis=0)), ("lowest", everything.min(axis=0))):
        print(f"{label:28} {values[0]:5.0f} {values[1]:6.2f} " + " ".join(f"{gain:11.2f}" for gain in values[2:]))
    worse = (everything[:, 2:] < -0.2).sum(axis=0)
    print(f"{'worse by more than 0.2 dB':41} " + " ".join(f"{count:11d}" for count in worse))
    passed = (everything[:, 2:] == 0).sum(axis=0)
    print(f"{'passed through unchanged':41} " + " ".join(f"{count:11d}" for count in passed))
    print(
        f"\nscenes: {len(everything)}; nmar gated, |median change| further than {FAR_PIXELS} pixels from metal: "
        f"mean {np.mean(far_change):.2f}, largest {np.max(far_change):.2f} HU"
    )
    for method, seconds in cpu_s.items():
        print(f"{method}: {seconds / corrected_slices:.2f} CPU-s a slice, one at a time (first call makes the tables)")
    print(f"peak resident memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds ct_body_512.npz and ct_body_512.json")
    parser.add_argument("--subject", default="CRLM-CT-1006", help="held-out subject (default: %(default)s)")
    parser.add_argument("--per-kind", type=int, default=4, help="scenes of each kind of metal (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the scenes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    measure(list(scenes(chosen.data, chosen.subject, chosen.per_kind, chosen.seed)))


if __name__ == "__main__":
    main()
