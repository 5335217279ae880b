"""The objects that stand beside a derived series, by the words an admin writes in node.toml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from dicomnode.companions.derivation import Derivation
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault

Made = TypeVar("Made")

SEGMENTATION = "segmentation"
COMPANIONS = (
    SEGMENTATION,
    "change_map",
    "uncertainty_map",
    "measurement_report",
    "text_report",
    "key_images",
    "banner",
)
"""The words for `also = [...]`, in the order in which the objects are made: the report refers to the segmentation."""
RULE_OF: Mapping[str, str] = {
    SEGMENTATION: "S1",
    "change_map": "S3",
    "uncertainty_map": "S3",
    "measurement_report": "S5",
    "text_report": "S7",
    "key_images": "S8",
    "banner": "S9",
}
"""The rule of DERIVED_SERIES.md that each object is made by."""


@dataclass(frozen=True, slots=True)
class Companion:
    """What came of one wanted word. instances: the objects; why_left_out: a sentence when there is none, else empty."""

    name: str
    instances: tuple[DerivedInstance, ...]
    why_left_out: str = ""


def derive_companions(wanted: Sequence[str], derivation: Derivation) -> Iterator[Companion]:
    """One Companion for each wanted word, in the order of COMPANIONS whatever the order of `wanted`.

    Raises ValueError for a word that is none of COMPANIONS, before anything is made.
    """
    unknown = sorted(set(wanted) - set(COMPANIONS))
    if unknown:
        raise ValueError(f"there is no companion {unknown[0]!r}; there are {', '.join(COMPANIONS)}")
    return _made(frozenset(wanted), derivation)


def _made(wanted: frozenset[str], derivation: Derivation) -> Iterator[Companion]:
    # highdicom loads the standard's tables: imported only where something is made, not where node.toml is read
    from dicomnode.companions.banner import banner
    from dicomnode.companions.key_image import key_images
    from dicomnode.companions.parametric_map import MapLeftOut, change_map, uncertainty_map
    from dicomnode.companions.report import measurement_report
    from dicomnode.companions.segmentation import segmentation
    from dicomnode.companions.text_report import text_report

    segmentations: dict[str, DerivedInstance] = {}
    if SEGMENTATION in wanted:
        for name in sorted(derivation.outcome.masks):
            made = _or_fault(SEGMENTATION, partial(segmentation, derivation, mask_name=name))
            if made is not None:
                segmentations[name] = made
        yield Companion(
            SEGMENTATION, tuple(segmentations.values()), "" if segmentations else _why_no_segmentation(derivation)
        )
    single: dict[str, Callable[[], DerivedInstance | tuple[DerivedInstance, ...] | None]] = {
        "change_map": lambda: change_map(derivation),
        "uncertainty_map": lambda: uncertainty_map(derivation),
        "measurement_report": lambda: measurement_report(derivation, segmentations=segmentations),
        "text_report": lambda: text_report(derivation),
        "key_images": lambda: key_images(derivation),
        "banner": lambda: banner(derivation),
    }
    for name in COMPANIONS[1:]:
        if name not in wanted:
            continue
        try:
            one = _or_fault(name, single[name])
        except MapLeftOut as left_out:
            yield Companion(name, (), str(left_out))
            continue
        instances = one if isinstance(one, tuple) else tuple(filter(None, [one]))
        yield Companion(name, instances, "" if instances else _why_not(name, derivation))


def _or_fault(name: str, make: Callable[[], Made]) -> Made:
    """What `make` makes; what highdicom and pydicom raise over it becomes a fault of this companion, by its rule.

    Their words may quote a value of the header: said is only what was raised and where.
    """
    try:
        return make()
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        place = extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        raise OutputFault(RULE_OF[name], f"the {name.replace('_', ' ')} cannot be made: {what}") from error


def _why_no_segmentation(derivation: Derivation) -> str:
    names = ", ".join(sorted(derivation.outcome.masks))
    return f"no segmentation: the mask is empty ({names})" if names else "no segmentation: the pipeline makes no mask"


def _why_not(name: str, derivation: Derivation) -> str:
    if name == "uncertainty_map":
        return "no uncertainty map: the pipeline gives no uncertainty"
    if name == "banner":
        return "no banner: the images' rescale slopes differ; viewers would show one presentation state differently"
    if derivation.source.unit != derivation.outcome.volume.unit:
        return "no change map: source and result have different units, so there is no difference to show"
    return "no change map: no value was changed"
