"""What a rule of DERIVED_SERIES gives when it is asked, and how rules read a data set that may hold anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicomnode.gate.watched import Watched, texts_of
from dicomnode.uids import MANUFACTURER

SYNTHESIZING_EQUIPMENT = "109100"


@dataclass(frozen=True, slots=True)
class Finding:
    """What asking one rule gave; message: one sentence, what is wrong where the rule does not hold."""

    rule: str
    holds: bool
    message: str


def asked(rule: str, holds: object, fault: str) -> Finding:
    """The finding of a rule that holds, or of one that does not with the sentence that says so."""
    return Finding(rule, bool(holds), "" if holds else fault)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All values of an attribute as texts; none when it is absent or empty."""
    return dataset.texts(keyword) if isinstance(dataset, Watched) else texts_of(dataset.get(keyword))


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of an attribute as text, empty when there is none."""
    return (texts(dataset, keyword) or ("",))[0]


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """All values of an attribute as numbers; none when one of them is no number."""
    try:
        return tuple(float(value) for value in texts(dataset, keyword))
    except ValueError:
        return ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of an attribute as a number, None when there is none."""
    return (numbers(dataset, keyword) or (None,))[0]


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none when it is absent."""
    return list(dataset.get(keyword) or [])


def purposes(item: Dataset) -> set[tuple[str, str]]:
    """Code value and scheme of each purpose that a reference states."""
    codes = items(item, "PurposeOfReferenceCodeSequence")
    return {(text(code, "CodeValue"), text(code, "CodingSchemeDesignator")) for code in codes}


def model_item(dataset: Dataset) -> Dataset | None:
    """The contributing equipment that is our model: the last one; None when the last is not ours."""
    named = items(dataset, "ContributingEquipmentSequence")
    return named[-1] if named and text(named[-1], "Manufacturer") == MANUFACTURER else None


def is_synthesized(dataset: Dataset) -> bool:
    """Whether the model that made the image says that it synthesized it (C10)."""
    model = model_item(dataset)
    return model is not None and any(code == SYNTHESIZING_EQUIPMENT for code, _ in purposes(model))
