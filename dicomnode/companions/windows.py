"""By which window a slice is shown: the header's where it has one, else one made of the values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.shown_slices import same_unit, shown_values
from dicomnode.description import keeps_window
from inference.volume import Unit


@dataclass(frozen=True, slots=True)
class Window:
    """The window to show one image by, in the unit behind its Modality LUT; function: its VOI LUT Function."""

    center: float
    width: float
    function: str = ""


CT_WINDOW = Window(40.0, 400.0)


def source_window(derivation: Derivation, k: int) -> Window:
    """The window to show the source's slice k by, in the source's unit."""
    image = derivation.images[k]
    if keeps_window(image):
        return Window(image.numbers("WindowCenter")[0], image.numbers("WindowWidth")[0])
    if derivation.source.unit is Unit.HU:
        return CT_WINDOW
    before, _ = shown_values(derivation, k)
    outside = derivation.source.outside
    inside = before if outside is None or outside[k].all() else before[~outside[k]]
    low, high = (float(value) for value in np.percentile(inside, (1.0, 99.5)))
    low = min(low, 0.0) if derivation.source.acquisition.modality == "PT" else low
    return Window((low + high) / 2, max(high - low, 1.0))


def result_window(derivation: Derivation, k: int) -> Window:
    """The window to show the result's slice k by: the source's where both can be compared."""
    return source_window(derivation, k) if same_unit(derivation) else derived_window(derivation, k)


def derived_window(derivation: Derivation, k: int) -> Window:
    """The first window in the derived image's header; without any, the whole range of the source's values."""
    header = derivation.derived[k]
    centers, widths = _numbers(header, "WindowCenter"), _numbers(header, "WindowWidth")
    if centers and widths:
        return Window(centers[0], widths[0], str(header.get("VOILUTFunction") or ""))
    if derivation.outcome.volume.unit is Unit.HU:
        return CT_WINDOW
    low, high = derivation.images[k].lowest, derivation.images[k].highest
    return Window((low + high) / 2, max(high - low, 1.0))


def _numbers(header: Dataset, keyword: str) -> list[float]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return [float(single) for single in (value if isinstance(value, MultiValue) else [value])]
