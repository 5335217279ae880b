"""The objects that stand beside a derived series, by the words an admin writes in node.toml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dicomnode.companions.derivation import Derivation
from dicomnode.derived_instance import DerivedInstance

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
    from dicomnode.companions.parametric_map import change_map, uncertainty_map
    from dicomnode.companions.report import measurement_report
    from dicomnode.companions.segmentation import segmentation
    from dicomnode.companions.text_report import text_report

    segmentations: dict[str, DerivedInstance] = {}
    if SEGMENTATION in wanted:
        for name in sorted(derivation.outcome.masks):
            made = segmentation(derivation, mask_name=name)
            if made is not None:
                segmentations[name] = made
        yield Companion(
            SEGMENTATION, tuple(segmentations.values()), "" if segmentations else _why_no_segmentation(derivation)
        )
    single: dict[str, Callable[[], DerivedInstance | None]] = {
        "change_map": lambda: change_map(derivation),
        "uncertainty_map": lambda: uncertainty_map(derivation),
        "measurement_report": lambda: measurement_report(derivation, segmentations=segmentations),
        "text_report": lambda: text_report(derivation),
        "banner": lambda: banner(derivation),
    }
    for name in COMPANIONS[1:]:
        if name in wanted:
            instances = key_images(derivation) if name == "key_images" else tuple(filter(None, [single[name]()]))
            yield Companion(name, instances, "" if instances else _why_not(name, derivation))


def _why_no_segmentation(derivation: Derivation) -> str:
    names = ", ".join(sorted(derivation.outcome.masks))
    return f"no segmentation: the mask is empty ({names})" if names else "no segmentation: the pipeline makes no mask"


def _why_not(name: str, derivation: Derivation) -> str:
    if name == "uncertainty_map":
        return "no uncertainty map: the pipeline gives no uncertainty"
    if name == "banner":
        return "no banner: the images' rescale slopes differ and one is negative; no single presentation state fits all"
    if derivation.source.unit != derivation.outcome.volume.unit:
        return "no change map: source and result have different units, so there is no difference to show"
    return "no change map: no value was changed"
