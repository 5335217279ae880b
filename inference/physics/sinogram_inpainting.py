"""Replaces what metal spoiled in a sinogram: linear interpolation, and the same normalised by a prior image (NMAR)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

SMALLEST_PRIOR = 0.05
"""Prior line integrals below this share of the largest are not divided by."""
PATH_BINS = 24


def interpolated(sinograms: torch.Tensor, trace: torch.Tensor) -> torch.Tensor:
    """(slices, views, cells) with the cells of the trace on a straight line between the nearest cells beside it.

    A trace that reaches the end of the detector takes the one value it has; a view that is all trace becomes zero.
    """
    cells = sinograms.shape[-1]
    index = torch.arange(cells).expand(sinograms.shape)
    left = torch.where(trace, torch.full_like(index, -1), index).cummax(-1).values
    right = torch.where(trace, torch.full_like(index, cells), index).flip(-1).cummin(-1).values.flip(-1)
    no_left, no_right = left < 0, right >= cells
    left_value = sinograms.gather(-1, left.clamp(min=0))
    right_value = sinograms.gather(-1, right.clamp(max=cells - 1))
    left_value = torch.where(no_left, right_value, left_value)
    right_value = torch.where(no_right, left_value, right_value)
    share = (index - left).to(torch.float32) / (right - left).clamp(min=1)
    line = left_value + share * (right_value - left_value)
    line = torch.where(no_left & no_right, torch.zeros_like(line), line)
    return torch.where(trace, line, sinograms)


def normalised(sinograms: torch.Tensor, prior: torch.Tensor, trace: torch.Tensor) -> torch.Tensor:
    """NMAR (Meyer et al. 2010): interpolates the quotient by the prior's sinogram and multiplies it back."""
    floor = SMALLEST_PRIOR * prior.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-6)
    divisor = torch.maximum(prior, floor)
    quotient = interpolated(sinograms / divisor, trace)
    return torch.where(trace, quotient * divisor, sinograms)


def with_measured_detail(
    inpainted: torch.Tensor, sinograms: torch.Tensor, metal_path: torch.Tensor, trace: torch.Tensor, *, trust: float
) -> torch.Tensor:
    """The inpainted sinograms with back in them what the measurement says beyond a function of the metal's path length.

    Behind weak metal the measured line integrals are still good: less a smooth function of the path through metal they
    show the anatomy that no prior knows. That remainder's mean square says how far it can be believed; its weight is
    trust^2 / (trust^2 + mean square), `trust` being the prior's own expected error in the sinogram's unit.
    """
    result = inpainted.clone()
    for index in range(len(sinograms)):
        hit = trace[index].numpy()
        if not hit.any():
            continue
        path = metal_path[index].numpy()[hit]
        remainder, mean_square = _beyond_path((sinograms[index] - inpainted[index]).numpy()[hit], path)
        detail = remainder * (trust**2 / (trust**2 + mean_square))
        result[index].numpy()[hit] += detail.astype(np.float32)
    return result


def _beyond_path(
    excess: NDArray[np.float32], path: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The excess less its median at that path length, and its mean square there or overall, whichever is larger."""
    order = np.argsort(path)
    bins = [part for part in np.array_split(order, PATH_BINS) if len(part)]
    centres = np.array([np.median(path[part]) for part in bins])
    medians = np.array([np.median(excess[part]) for part in bins])
    remainder = excess - np.interp(path, centres, medians)
    squares = np.array([np.mean(remainder[part] ** 2) for part in bins])
    mean_square = np.maximum(np.interp(path, centres, squares), np.mean(remainder**2))
    return remainder, mean_square
