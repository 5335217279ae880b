"""Edge-keeping filters of scikit-image for images whose noise has deviation 1 everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

# scikit-image is imported where it is called: settings are read in a process that must stay small

SLAB_SLICES = 32


def non_local_means_slice(cut: NDArray[np.float32]) -> NDArray[np.float32]:
    """cut: (rows, columns), noise deviation 1 -> the mean of pixels whose 5x5 surroundings look alike (Buades 2005)."""
    from skimage.restoration import denoise_nl_means

    result: NDArray[np.float32] = denoise_nl_means(cut, patch_size=5, patch_distance=6, h=0.7, fast_mode=True)
    return result


def total_variation_slice(cut: NDArray[np.float32]) -> NDArray[np.float32]:
    """cut: (rows, columns), noise deviation 1 -> least total variation near it (Chambolle 2004)."""
    from skimage.restoration import denoise_tv_chambolle

    result: NDArray[np.float32] = denoise_tv_chambolle(cut, weight=0.5, max_num_iter=50)
    return result


def bilateral_slice(cut: NDArray[np.float32]) -> NDArray[np.float32]:
    """cut: (rows, columns), noise deviation 1 -> the mean of near pixels of like value (Tomasi 1998)."""
    from skimage.restoration import denoise_bilateral

    floor = cut.min()  # scikit-image takes no negative values
    result: NDArray[np.float32] = denoise_bilateral(
        cut - floor, sigma_color=1.5, sigma_spatial=1.5, win_size=7, bins=4000
    )
    return np.asarray(result + floor, dtype=np.float32)


def non_local_means_volume(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """values: (slices, rows, columns), noise deviation 1 -> non-local means over 5x5x5 surroundings."""
    from skimage.restoration import denoise_nl_means

    if len(values) == 1:  # scikit-image takes a stack of one for a picture
        return non_local_means_slice(values[0])[None]
    patch, distance = 5, 3
    return _in_slabs(
        values,
        lambda part: denoise_nl_means(part, patch_size=patch, patch_distance=distance, h=0.8, fast_mode=True),
        overlap=patch // 2 + distance + 1,
    )


def total_variation_volume(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """values: (slices, rows, columns), noise deviation 1 -> least total variation near it, in three dimensions."""
    from skimage.restoration import denoise_tv_chambolle

    result: NDArray[np.float32] = denoise_tv_chambolle(values, weight=0.5, max_num_iter=60)
    return result


def bilateral_volume(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """values: (slices, rows, columns), noise deviation 1 -> each slice filtered bilaterally."""
    return np.stack([bilateral_slice(cut) for cut in values])


SLICE_FILTERS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = MappingProxyType(
    {"nlm": non_local_means_slice, "tv": total_variation_slice, "bilateral": bilateral_slice}
)
VOLUME_FILTERS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = MappingProxyType(
    {"nlm": non_local_means_volume, "tv": total_variation_volume, "bilateral": bilateral_volume}
)


def _in_slabs(
    values: NDArray[np.float32], smooth: Callable[[NDArray[np.float32]], NDArray[np.float32]], *, overlap: int
) -> NDArray[np.float32]:
    """Slab by slab, so that memory does not grow with the number of slices."""
    result = np.empty_like(values)
    for start in range(0, len(values), SLAB_SLICES):
        first = max(0, start - overlap)
        part = smooth(values[first : start + SLAB_SLICES + overlap])
        result[start : start + SLAB_SLICES] = part[start - first : start - first + SLAB_SLICES]
    return result
