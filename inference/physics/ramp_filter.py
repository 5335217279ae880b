"""The ramp filter of fan-beam backprojection, for flat and arc detectors, and the kernels that shape it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from inference.physics.fan_geometry import FanGeometry

_CONTROL_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_CONTROL_GAINS = {"soft": (1.0, 0.815, 0.4564, 0.1636, 0.0), "bone": (1.0, 1.0485, 1.17, 1.2202, 0.9201)}
"""Gains at shares of the highest frequency, of the kernels of the CT simulator XCIST (createHSP.py, GE, BSD 3-clause),
which model clinical ones; makers do not publish theirs."""
WINDOWS = ("ramp", "hamming", "hann", "soft", "bone")
"""From none (ramp) to softer (hamming, hann, soft); bone lifts the middle frequencies above the ramp (sharper)."""


def ramp_response(geometry: FanGeometry, length: int, window: str) -> NDArray[np.float64]:
    """(length // 2 + 1,) response of the band-limited ramp, made from its samples in space to keep the mean right.

    An arc detector's kernel is that of the flat one times (gamma / sin gamma)^2 (Kak and Slaney 1988, 3.4.1).
    """
    offset = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 1 / (4 * geometry.pitch**2)
    odd = offset % 2 == 1
    kernel[odd] = -1 / (np.pi * offset[odd] * geometry.pitch) ** 2
    if geometry.detector == "arc":
        # Offsets beyond the detector meet zeros only.
        angle = np.minimum(offset, geometry.cells) * geometry.cell_angle_rad
        kernel /= np.sinc(angle / np.pi) ** 2
    response: NDArray[np.float64] = np.fft.rfft(kernel).real * geometry.pitch
    return response * window_gain(np.linspace(0, 1, len(response)), window)


def window_gain(frequency_share: NDArray[np.float64], window: str) -> NDArray[np.float64]:
    """What the kernel of that name makes of the ramp at these shares of the highest frequency."""
    cosine = np.cos(np.pi * frequency_share)
    if window == "ramp":
        return np.ones_like(frequency_share)
    if window == "hamming":
        return np.asarray(0.54 + 0.46 * cosine)
    if window == "hann":
        return np.asarray(0.5 + 0.5 * cosine)
    if window in _CONTROL_GAINS:
        # Mirrored at zero: a gain with a slope there would shade the slice from its middle to its rim.
        gains = _CONTROL_GAINS[window]
        curve = PchipInterpolator((-_CONTROL_SHARES[1], *_CONTROL_SHARES), (gains[1], *gains))
        return np.asarray(curve(frequency_share))
    raise ValueError(f"window is one of {', '.join(WINDOWS)}, not {window!r}")
