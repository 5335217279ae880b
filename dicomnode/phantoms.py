"""The demonstration's scanner: phantoms made here as a CT with metal, a NAC PET and a low-dose CT, with their truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicomnode.phantom_files import write_ct, write_pet
from inference.physics.attenuation import (
    attenuation_factors,
    build_projector,
    measured_counts,
    mu_from_hu,
    reconstruct_osem,
)

# inference.physics.ct_simulation loads torch and is imported where it is called

CT_SIZE, CT_PIXEL_MM, CT_SLICE_MM = 256, 1.6, 3.0
PET_SIZE, PET_PIXEL_MM, PET_SLICE_MM = 128, 4.0, 5.0
CT_SLICES, PET_SLICES = 10, 40
METAL_HU = 3071.0
SOFT_WINDOW = (-150.0, 250.0)
BODY_WINDOW = (-1000.0, 500.0)


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """One series as a scanner would send it, and what is true of it.

    files: one instance a slice, in the order of `truth`; truth: (slices, rows, columns) float32 HU.
    window: HU from and to which result and truth are compared; source_window: to show the source by, in its own unit.
    """

    name: str
    files: tuple[Path, ...]
    truth: NDArray[np.float32]
    window: tuple[float, float]
    source_window: tuple[float, float]
    compare: str


def write_phantoms(folder: Path, seed: int) -> list[Phantom]:
    """Writes the three series below `folder`; the same seed gives the same bytes."""
    return [write_metal_ct(folder, seed), write_nac_pet(folder, seed), write_low_dose_ct(folder, seed)]


def write_metal_ct(folder: Path, seed: int) -> Phantom:
    """A pelvis with a titanium hip; truth is the pelvis with the metal and without its artifacts."""
    from inference.physics.ct_simulation import simulate_metal_ct

    clean, metal = _pelvis(seed)
    values = simulate_metal_ct(clean, metal, metal="titanium", spacing_mm=CT_PIXEL_MM, seed=seed)
    truth = np.where(metal, np.float32(METAL_HU), clean)
    spacing = (CT_SLICE_MM, CT_PIXEL_MM)
    files = write_ct(
        folder / "ct-with-metal", values, "Hip metal implant", part="PELVIS", spacing_mm=spacing, seed=seed
    )
    compare = "the derived CT against the pelvis without artifacts, metal and all, soft-tissue window"
    return Phantom("CT with metal", files, truth, SOFT_WINDOW, SOFT_WINDOW, compare)


def write_low_dose_ct(folder: Path, seed: int) -> Phantom:
    """An upper abdomen at a quarter of its dose; truth is the abdomen without noise."""
    from inference.physics.ct_simulation import CtProtocol, simulate_low_dose_ct

    truth = _abdomen(seed)
    protocol = CtProtocol(photons=2e5)
    values = simulate_low_dose_ct(truth, 0.25, spacing_mm=CT_PIXEL_MM, seed=seed, protocol=protocol)
    spacing = (CT_SLICE_MM, CT_PIXEL_MM)
    files = write_ct(folder / "ct-low-dose", values, "Low dose abdomen", part="ABDOMEN", spacing_mm=spacing, seed=seed)
    compare = "the derived CT against the abdomen without noise, soft-tissue window"
    return Phantom("low-dose CT", files, truth, SOFT_WINDOW, SOFT_WINDOW, compare)


def write_nac_pet(folder: Path, seed: int) -> Phantom:
    """A torso's FDG PET reconstructed without attenuation correction; truth is the torso's CT."""
    truth, activity = _torso()
    projector = build_projector((PET_SIZE, PET_SIZE), pixel_mm=(PET_PIXEL_MM, PET_PIXEL_MM), views=72)
    factors = attenuation_factors(mu_from_hu(truth, kvp=120), projector)
    counts, _ = measured_counts(
        activity, factors, projector, total_counts=3e5 * PET_SLICES, seed=seed, blur_bins=6 / 2.355 / PET_PIXEL_MM
    )
    image = reconstruct_osem(counts, projector, iterations=3)
    values = _blurred(image, 4 / 2.355 / PET_SLICE_MM, 4 / 2.355 / PET_PIXEL_MM)
    spacing = (PET_SLICE_MM, PET_PIXEL_MM)
    files = write_pet(folder / "pet-nac", values, "Whole torso NAC", spacing_mm=spacing, seed=seed)
    shown = (0.0, float(np.percentile(values, 99)))
    compare = "the synthetic CT against the torso's CT, from air to bone"
    return Phantom("NAC PET", files, truth, BODY_WINDOW, shown, compare)


class _Canvas:
    """Slices to draw ellipses on; places in mm from the middle, x to the patient's left, y to the back."""

    def __init__(self, slices: int, size: int, pixel_mm: float, background: float) -> None:
        self.values = np.full((slices, size, size), background, dtype=np.float32)
        self._across_mm = (np.arange(size) - (size - 1) / 2) * pixel_mm

    def mask(
        self, at_mm: tuple[float, float], radii_mm: tuple[float, float], turned_deg: float = 0.0
    ) -> NDArray[np.bool_]:
        """(rows, columns), True in the ellipse."""
        x, y = self._across_mm[None, :] - at_mm[0], self._across_mm[:, None] - at_mm[1]
        cosine, sine = np.cos(np.deg2rad(turned_deg)), np.sin(np.deg2rad(turned_deg))
        along, across = x * cosine + y * sine, y * cosine - x * sine
        inside: NDArray[np.bool_] = (along / radii_mm[0]) ** 2 + (across / radii_mm[1]) ** 2 <= 1
        return inside

    def put(
        self, k: int, at_mm: tuple[float, float], radii_mm: tuple[float, float], value: float, turned_deg: float = 0.0
    ) -> None:
        """An ellipse of one value in slice k; nothing where a radius is not positive."""
        if min(radii_mm) > 0:
            self.values[k][self.mask(at_mm, radii_mm, turned_deg)] = value

    def bone(self, k: int, at_mm: tuple[float, float], radii_mm: tuple[float, float], turned_deg: float = 0.0) -> None:
        """Spongy bone in a 3 mm shell."""
        self.put(k, at_mm, radii_mm, 900, turned_deg)
        self.put(k, at_mm, (radii_mm[0] - 3, radii_mm[1] - 3), 230, turned_deg)


def _pelvis(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    canvas = _Canvas(CT_SLICES, CT_SIZE, CT_PIXEL_MM, -1000)
    metal = np.zeros(canvas.values.shape, dtype=np.bool_)
    for k in range(CT_SLICES):
        z_mm = (k - (CT_SLICES - 1) / 2) * CT_SLICE_MM
        canvas.put(k, (0, 0), (178, 112), -105)
        canvas.put(k, (0, 4), (160, 95), 48)
        canvas.put(k, (0, -18), (40, 30 - abs(z_mm) / 3), 8)  # bladder
        canvas.put(k, (0, 38), (22, 18), 35)  # rectum
        canvas.put(k, (3, 34), (8, 6), -850)
        canvas.bone(k, (0, 78), (26, 12))
        for side in (-1, 1):
            canvas.put(k, (side * 60, -40), (9, 9), 55)  # femoral vessels
            canvas.put(k, (side * 86, 52), (36, 18), 60, side * -20)
            canvas.bone(k, (side * 72, 10), (13, 42), side * 12)  # acetabulum
            canvas.bone(k, (side * 100, 5), (26 - z_mm**2 / 40, 26 - z_mm**2 / 40))  # femoral head
            canvas.bone(k, (side * 136, 18 + z_mm / 3), (14, 20), side * 15)  # trochanter
        head_mm, neck = float(np.sqrt(15.0**2 - z_mm**2)), (116.0, 11 + z_mm / 3)
        for margin_mm, target, value in ((3.2, canvas.values, 600), (0.0, metal, True)):  # metal lies in dense bone
            target[k][canvas.mask((100, 5), (head_mm + margin_mm, head_mm + margin_mm))] = value
            target[k][canvas.mask(neck, (14 + margin_mm, 6 + margin_mm), 25)] = value
    return _textured(canvas.values, seed), metal


def _abdomen(seed: int) -> NDArray[np.float32]:
    canvas = _Canvas(CT_SLICES, CT_SIZE, CT_PIXEL_MM, -1000)
    lesions = ((-95.0, -20.0, 9.0, 20.0), (-70.0, 20.0, 6.0, 70.0), (-110.0, 15.0, 4.0, 160.0))
    for k in range(CT_SLICES):
        z_mm = (k - (CT_SLICES - 1) / 2) * CT_SLICE_MM
        canvas.put(k, (0, 0), (165, 115), -100)
        canvas.put(k, (0, 2), (148, 98), 45)
        canvas.put(k, (0, -5), (130, 80), -90)
        canvas.put(k, (-72, -10), (66, 66 - z_mm / 3), 105)  # liver
        canvas.put(k, (100, 25), (28, 38), 120)  # spleen
        canvas.put(k, (60, -30), (48, 34), 25)  # stomach
        canvas.put(k, (62, -46), (26, 12), -900)
        for side in (-1, 1):
            canvas.put(k, (side * 62, 48), (25, 30), 150, side * 20)  # kidney
            canvas.put(k, (side * 58, 48), (10, 14), 60, side * 20)
        canvas.put(k, (12, 34), (12, 12), 180)  # aorta
        canvas.put(k, (-22, 30), (13, 10), 130)  # vena cava
        canvas.bone(k, (0, 62), (24, 20))
        canvas.put(k, (0, 86), (8, 8), 30)
        for angle in np.arange(20, 341, 40):
            place = (152 * np.sin(np.deg2rad(angle + z_mm)), -102 * np.cos(np.deg2rad(angle + z_mm)))
            canvas.bone(k, (float(place[0]), float(place[1])), (9, 5), float(angle))
        for x_mm, y_mm, radius_mm, hu in lesions:
            canvas.put(k, (x_mm, y_mm), (radius_mm, radius_mm), hu)
    return _textured(canvas.values, seed)


def _torso() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """HU and activity of a torso from the liver to the shoulders."""
    hu = _Canvas(PET_SLICES, PET_SIZE, PET_PIXEL_MM, -1000)
    uptake = _Canvas(PET_SLICES, PET_SIZE, PET_PIXEL_MM, 0)
    for k in range(PET_SLICES):
        z_mm = k * PET_SLICE_MM  # 0 at the feet's end
        width = 170 - 0.1 * abs(z_mm - 120)
        dome = np.clip((z_mm - 30) / 60, 0, 1) * np.clip((195 - z_mm) / 40, 0, 1)
        parts: list[tuple[tuple[float, float], tuple[float, float], float, float]] = [
            ((0, 0), (width, 112), -100, 0.4),
            ((0, 2), (width - 15, 97), 45, 1.0),
            *(((side * 75, 5), (50 * dome**0.5, 75 * dome**0.5), -750, 0.45) for side in (-1, 1)),
        ]
        if 80 < z_mm < 140:
            parts.append(((25, -30), (42, 38), 45, 2.2))  # heart
        if z_mm < 85:
            reach = float(np.sqrt(1 - (z_mm / 85) ** 2))
            parts.append(((-70, -5), (68 * reach, 68 * reach), 55, 2.0))  # liver
        parts.append(((0, 70), (22, 20), 220, 1.3))  # spine
        if 110 < z_mm < 130:
            parts.append(((-80, 20), (11, 11), 30, 8.0))  # lesion in the lung
        for at_mm, radii_mm, density, activity in parts:
            hu.put(k, at_mm, radii_mm, density)
            uptake.put(k, at_mm, radii_mm, activity)
    return _blurred(hu.values, 0, 0.5), _blurred(uptake.values, 0, 0.5)


def _textured(hu: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Partial volume at edges, and the unevenness of real tissue: 5 HU at about 4 mm; air stays even."""
    random = np.random.default_rng([seed, 1])
    grain = _blurred(random.standard_normal(hu.shape).astype(np.float32), 0.6, 1.2)
    return _blurred(hu + 5 / grain.std() * grain * (hu > -200), 0, 0.6)


def _blurred(values: NDArray[np.float32], across_slices: float, in_plane: float) -> NDArray[np.float32]:
    """Convolved with a Gaussian of these deviations in voxels; the edge repeats."""
    for axis, sigma in enumerate((across_slices, in_plane, in_plane)):
        if sigma:
            reach = int(4 * sigma + 0.5)
            weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
            padded = np.pad(values, [(reach, reach) if each == axis else (0, 0) for each in range(3)], mode="edge")
            length = values.shape[axis]
            values = np.zeros_like(values)
            for start, weight in enumerate(weights / weights.sum()):
                values += np.float32(weight) * padded.take(range(start, start + length), axis=axis)
    return np.asarray(values, dtype=np.float32)
