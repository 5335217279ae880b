"""Every attribute of the derived CT, PET and MR images, by module, with the rule by which it gets its value."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cache

from pydicom.datadict import tag_for_keyword

from dicomnode import iods
from dicomnode.conformance.made import MADE, MADE_OF, ON_A_CONDITION
from dicomnode.conformance.tables import table, tag_of
from dicomnode.iod_tables import tables

COLUMNS = (("CT", "CT"), ("PT", "PT"), ("MR", "MR"), ("PT", "CT"))
"""Modality of the source and of the result; the last stands for every CT made of something else."""
OBJECTS = {"CT": "CT", "PT": "PET", "MR": "MR"}
HEADS = ("CT", "PET", "MR", "CT of PET or MR")
COPIED_WHERE_NOT_MADE = frozenset({"SeriesDate", "SeriesTime"})
"""Of a PET: they are the reference of its times and of its decay (PS3.3 C.8.9.1)."""


class Given(StrEnum):
    """Where an attribute's value comes from."""

    SOURCE = "source"
    ON_A_CONDITION = "source *"
    SOURCE_OR_EMPTY = "source, or empty"
    EMPTY = "empty"
    MADE = "made"
    NEVER = "-"


MEANINGS = {
    Given.SOURCE: "copied byte for byte from the source image, where it has it",
    Given.ON_A_CONDITION: "the same, on the condition below",
    Given.SOURCE_OR_EMPTY: "the same; written empty where the source has none (Type 2)",
    Given.EMPTY: "written empty (Type 2): what the source says is not true of the result",
    Given.MADE: "made by the node, as the table below says",
    Given.NEVER: "not written",
}


@cache
def given(keyword: str, source: str, target: str) -> Given:
    """Where a derived image of `target` has the attribute from, when the source is of modality `source`."""
    tag = tag_for_keyword(keyword)
    if tag is None:  # of a later edition than the dictionary that the node runs with
        return Given.NEVER
    if how_made(keyword, target):
        return Given.MADE
    if keyword in MADE_OF and keyword not in COPIED_WHERE_NOT_MADE:
        return Given.NEVER
    kept = frozenset().union(*iods.kept_tags(source, target))
    is_wanted = tag in iods.type_two_tags(target) & frozenset().union(*iods.kept_tags(target, target))
    if tag in kept:
        if condition(keyword, target):
            return Given.ON_A_CONDITION
        return Given.SOURCE_OR_EMPTY if is_wanted else Given.SOURCE
    return Given.EMPTY if is_wanted else Given.NEVER


def how_made(keyword: str, target: str) -> str:
    """How the node makes the attribute for a result of that modality; empty: it does not."""
    return MADE.get(keyword, "") or MADE_OF.get(keyword, {}).get(target, "")


def condition(keyword: str, target: str) -> str:
    """On what condition the attribute is copied; empty: on none."""
    if target == "PT" and keyword in iods.PET_CONDITIONS and keyword not in MADE_OF:
        return f"only where SeriesType is {' or '.join(iods.PET_CONDITIONS[keyword])}"
    return ON_A_CONDITION.get(keyword, {}).get(target, "")


def image_sections() -> str:
    """The section on derived images: what the words mean, the modules, how what is made is made."""
    parts = [
        "Words used below:\n",
        table(("word", "meaning"), [(f"`{one}`", meaning) for one, meaning in MEANINGS.items()]),
        *_modules(),
        "#### Beside the modules\n",
        _beside(),
        "#### What is copied on a condition\n",
        table(("attribute", "of", "condition"), list(_conditions())),
        "#### What is made\n",
        table(("attribute", "tag", "how"), list(_made())),
    ]
    return "\n".join(parts)


def _modules() -> Iterator[str]:
    """A table for each module of any of the three objects."""
    known = tables()
    for module in dict.fromkeys(name for iod in known["iods"].values() for name in iod):
        attributes = known["modules"][module]
        uses = {head: known["iods"][target].get(module) for target, head in OBJECTS.items()}
        used = ", ".join(f"{head} {use[0]}" for head, use in uses.items() if use)
        yield f"#### {module.replace('-', ' ').capitalize()} ({used})\n"
        rows, never = [], []
        for keyword, kind in sorted(attributes.items(), key=lambda one: (tag_of(one[0]) or "~", one[0])):
            cells = [
                str(given(keyword, source, target)) if module in known["iods"][target] else ""
                for source, target in COLUMNS
            ]
            if set(cells) <= {"", str(Given.NEVER)}:
                never.append(keyword)
            else:
                rows.append((keyword, tag_of(keyword), kind, *cells))
        if rows:
            yield table(("attribute", "tag", "type", *HEADS), rows)
        if never:
            yield f"Not written: {', '.join(never)}.\n"


def _beside() -> str:
    """What may be there though no module of the object has it."""
    extended = ", ".join(f"{keyword} {tag_of(keyword)}" for keyword in sorted(iods.MR_EXTENDED))
    earlier = ", ".join(f"{keyword} {tag_of(keyword)}" for keyword in sorted(iods.EARLIER_EDITIONS))
    private = " and ".join(f"(7053,xx{element:02X})" for element in iods.PHILIPS_PET_ELEMENTS)
    return (
        f"Standard Extended SOP Class, MR only: {extended}.\n\n"
        f"Of earlier editions of the Patient and Patient Study modules, copied from the source: {earlier}.\n\n"
        f'Private, PET only, copied from the source: {private} of "{iods.PHILIPS_PET_CREATOR}" (scale factors for SUV '
        "and activity). No other private attribute is written.\n"
    )


def _conditions() -> Iterator[tuple[str, str, str]]:
    for keyword in sorted({*ON_A_CONDITION, *iods.PET_CONDITIONS}):
        for target, head in OBJECTS.items():
            if words := condition(keyword, target):
                yield keyword, head, words


def _made() -> Iterator[tuple[str, str, str]]:
    for keyword in sorted({*MADE, *MADE_OF}, key=tag_of):
        of = MADE_OF.get(keyword, {})
        words = MADE.get(keyword) or "; ".join(f"{OBJECTS[target]}: {how}" for target, how in of.items())
        yield keyword, tag_of(keyword), words
