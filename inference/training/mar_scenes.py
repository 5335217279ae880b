"""Makes training scenes for metal artifact reduction: clean slices with simulated metal under random protocols.

The slices are masked to the body; a table, clothes and cables are drawn round it.

    python -m inference.training.mar_scenes ct_body_512.npz scenes --subjects C3N-00249 LIDC-IDRI-0314

writes shards of 24 scenes, one protocol and metal each, every scene without and with faint lesions near the metal; run
again it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.physics.ct_simulation import CtProtocol, simulate_metal_ct
from inference.physics.metal import find_metal, metal_threshold_hu
from inference.physics.metal_artifact_reduction import VirtualScan
from inference.physics.ramp_filter import WINDOWS
from inference.physics.spectra import METALS, ct_tables
from inference.training.faint_lesions import faint_lesions
from inference.training.implants import random_implant
from inference.training.manifest_draft import RANGES_FILE
from inference.training.surroundings import with_surroundings

Images = NDArray[np.float32]

SCENES_A_SHARD = 24
BATCH = 8
SPOILED, INTERPOLATED, NORMALISED, CLEAN = range(4)
WITH_LESIONS = 4
"""The image so much further on is the same one with lesions."""
FOUND, TRUE_SHARE = range(2)
SIXTEEN_BITS = 0.3
"""Share of the protocols whose numbers do not end at 3071 HU."""
SCALES = (0.45, 1.15)
"""How much smaller and larger than they are the subjects' pixels are taken to be. The small ones are those of scans of
heads: implants keep their size in mm, so they cover more pixels."""
ARC = 0.5
"""Share of the protocols with an arc detector."""
WITHOUT_ARTIFACT = 0.1
"""Share of the batches whose metal left no artifact, as after a scanner's own reduction: nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Scenes of one protocol.

    images: (scenes, 8, rows, columns) int16 HU: spoiled, `li`, `nmar`, clean, and these again, with the same noise, of
    the slice with faint lesions. masks: (scenes, 2, rows, columns) uint8: the metal as found in the spoiled slice, and
    255 times the true share of metal.
    """

    images: NDArray[np.int16]
    masks: NDArray[np.uint8]


def random_protocol(random: np.random.Generator) -> CtProtocol:
    """A scanner and its settings by chance; the benchmark's own protocols lie within."""
    wide = random.random() < SIXTEEN_BITS
    return CtProtocol(
        kvp=int(random.choice(sorted(ct_tables().spectra))),
        photons=float(10 ** random.uniform(5.3, 6.5)),
        electronic_noise=float(random.uniform(3, 20)),
        scatter=float(random.uniform(0, 0.02)),
        source_distance_mm=float(random.uniform(500, 650)),
        cells_per_pixel=float(random.uniform(0.95, 1.4)),
        views_per_pixel=float(random.uniform(1.3, 2.0)),
        window=str(random.choice(WINDOWS)),
        detector="arc" if random.random() < ARC else "flat",
        highest_hu=float(random.uniform(6000, 20000)) if wide else 3071.0,
    )


def make_shard(slices: NDArray[np.int16], *, spacing_mm: float, seed: int, scenes: int) -> Shard:
    """Scenes in random slices of (slices, size, size) int16 HU; slices are mirrored and scaled."""
    random = np.random.default_rng(seed)
    spacing_mm *= float(random.uniform(*SCALES))
    protocol, metal = random_protocol(random), str(random.choice(METALS))
    pairs: list[Images] = []
    found: list[NDArray[np.bool_]] = []
    shares: list[Images] = []
    while sum(map(len, found)) < scenes:
        clean = _mirrored(slices[random.integers(0, len(slices), BATCH)].astype(np.float32), random)
        share = np.stack([random_implant(image, spacing_mm=spacing_mm, random=random)[0] for image in clean])
        faint = np.stack(
            [faint_lesions(*one, spacing_mm=spacing_mm, random=random) for one in zip(clean, share, strict=True)]
        )
        # only now: implants and lesions lie in the body, and cables are as bright as bone
        clean = np.stack([with_surroundings(image, spacing_mm=spacing_mm, random=random) for image in clean])
        noise, slices_of_pair = int(random.integers(1 << 30)), (clean, clean + faint)
        if random.random() < WITHOUT_ARTIFACT:
            scanned = [image + share * (np.float32(protocol.highest_hu) - image) for image in slices_of_pair]
        else:
            scanned = [
                simulate_metal_ct(image, share, metal=metal, spacing_mm=spacing_mm, seed=noise, protocol=protocol)
                for image in slices_of_pair
            ]
        metal_found = _found(scanned[0], 12 if protocol.highest_hu < 4096 else 16)
        worth = metal_found.any(axis=(1, 2))
        pairs.append(np.stack([scanned[0], clean, scanned[1], clean + faint], axis=1)[worth])
        found.append(metal_found[worth])
        shares.append(share[worth])
    # only now, for the tables of one fan are kept at a time
    chosen, metal_seen = np.concatenate(pairs)[:scenes], np.concatenate(found)[:scenes]
    metal_share = np.concatenate(shares)[:scenes]
    images = np.concatenate(
        [_corrected(chosen[:, at], chosen[:, at + 1], metal_seen, spacing_mm=spacing_mm) for at in (0, 2)], axis=1
    )
    masks = np.stack([metal_seen * np.uint8(255), np.rint(metal_share * 255).astype(np.uint8)], axis=1)
    return Shard(images, masks)


def _corrected(spoiled: Images, clean: Images, metal: NDArray[np.bool_], *, spacing_mm: float) -> NDArray[np.int16]:
    """(scenes, 4, rows, columns): spoiled, `li`, `nmar`, clean."""
    parts = []
    for start in range(0, len(spoiled), BATCH):
        batch = slice(start, start + BATCH)
        scan = VirtualScan(spoiled[batch], metal[batch], spacing_mm=spacing_mm)
        interpolated = scan.applied(scan.interpolation)
        normalised = scan.applied(scan.inpainted(scan.smooth_prior()))
        parts.append(np.stack([spoiled[batch], interpolated, normalised, clean[batch]], axis=1))
    return np.clip(np.rint(np.concatenate(parts)), -2048, 30000).astype(np.int16)


def _found(spoiled: NDArray[np.float32], bits_stored: int) -> NDArray[np.bool_]:
    """Metal found in each slice by itself, as each is a scene of its own."""
    # twice the same slice, for a part in one slice only may be too small to count as one
    pairs = (np.stack([image, image]) for image in spoiled)
    return np.stack([find_metal(pair, metal_threshold_hu(pair, bits_stored=bits_stored))[0] for pair in pairs])


def _mirrored(slices: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    return np.ascontiguousarray(slices[:, :, ::-1]) if random.random() < 0.5 else slices


def main() -> None:
    """Makes the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slices", type=Path, help=".npz of (slices, size, size) int16 HU by subject; .json beside it")
    parser.add_argument("scenes", type=Path, help="folder for the shards")
    parser.add_argument("--subjects", nargs="+", required=True, help="subjects to take slices from")
    parser.add_argument("--shards", type=int, default=60, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first shard (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.scenes.mkdir(parents=True, exist_ok=True)
    facts = json.loads(chosen.slices.with_suffix(".json").read_text(encoding="utf-8"))
    archive = np.load(chosen.slices)
    held = {subject: archive[subject] for subject in chosen.subjects}
    _write_ranges(chosen.scenes / RANGES_FILE, [_spacing_mm(facts, subject) for subject in chosen.subjects])
    begun, made = time.monotonic(), 0
    for number in range(chosen.seed, chosen.seed + chosen.shards):
        target = chosen.scenes / f"{number:05d}.images.npy"
        if target.exists():
            continue
        subject = chosen.subjects[number % len(chosen.subjects)]
        shard = make_shard(held[subject], spacing_mm=_spacing_mm(facts, subject), seed=number, scenes=SCENES_A_SHARD)
        _write(chosen.scenes / f"{number:05d}.masks.npy", shard.masks)
        _write(target, shard.images)
        made += 1
        left = (time.monotonic() - begun) / made * (chosen.seed + chosen.shards - 1 - number)
        print(f"shard {number}: {len(shard.images)} scenes of {subject}; {left / 60:.0f} min left", flush=True)


def _spacing_mm(facts: Mapping[str, Any], subject: str) -> float:
    return float(facts[subject]["slices"][0]["ps"][0])


def _write_ranges(path: Path, spacings_mm: Sequence[float]) -> None:
    """What the scenes cover, for the manifest of weights that are trained on them."""
    low, high = SCALES
    voltages = sorted(ct_tables().spectra)
    ranges: dict[str, list[float]] = {
        "pixel_spacing_mm": [round(low * min(spacings_mm), 3), round(high * max(spacings_mm), 3)],
        "kvp": [voltages[0], voltages[-1]],
    }
    if path.exists():  # shards of an earlier run, perhaps of other subjects, stay
        earlier = json.loads(path.read_text(encoding="utf-8"))
        ranges = {key: [min(ends[0], earlier[key][0]), max(ends[1], earlier[key][1])] for key, ends in ranges.items()}
    path.write_text(json.dumps(ranges), encoding="utf-8")


def _write(path: Path, values: NDArray[np.generic]) -> None:
    """Whole or not at all: the training reads the folder while it grows."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, values)
    partial.replace(path)


if __name__ == "__main__":
    main()
