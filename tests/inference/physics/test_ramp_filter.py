"""The ramp filter and its kernels."""

from __future__ import annotations

import numpy as np
import pytest

from inference.physics.fan_geometry import Detector, FanGeometry
from inference.physics.ramp_filter import WINDOWS, ramp_response, window_gain

SHARES = np.linspace(0, 1, 101)


def fan(detector: Detector) -> FanGeometry:
    return FanGeometry(64, 96, 96, 80.0, 0.8, detector)


def test_a_flat_detectors_response_is_the_ramp() -> None:
    response = ramp_response(fan("flat"), 256, "ramp")
    np.testing.assert_allclose(response, np.linspace(0, 1, 129) / (2 * 0.8), atol=0.002)


def test_an_arcs_kernel_is_the_flat_one_by_the_square_of_the_angle_over_its_sine() -> None:
    flat, arc = (np.fft.irfft(ramp_response(fan(detector), 256, "ramp"))[:95] for detector in ("flat", "arc"))
    angle = np.arange(95) * 0.8 / 80
    assert arc[0] == pytest.approx(flat[0])
    np.testing.assert_allclose(arc[1::2], flat[1::2] * (angle[1::2] / np.sin(angle[1::2])) ** 2, rtol=1e-9)


@pytest.mark.parametrize("window", WINDOWS)
def test_every_kernel_leaves_the_mean_alone(window: str) -> None:
    assert window_gain(SHARES, window)[0] == pytest.approx(1)


def test_kernels_go_from_soft_to_sharp() -> None:
    middle = [float(window_gain(np.array([0.5]), window)[0]) for window in ("soft", "hann", "hamming", "ramp", "bone")]
    assert middle == sorted(middle)
    assert len(set(middle)) == 5


def test_the_gains_fall_smoothly_through_their_control_points() -> None:
    np.testing.assert_allclose(
        window_gain(np.array([0, 0.25, 0.5, 0.75, 1]), "bone"), [1, 1.0485, 1.17, 1.2202, 0.9201]
    )
    assert (np.diff(window_gain(SHARES, "soft")) < 0).all()


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="edge"):
        ramp_response(fan("flat"), 256, "edge")
