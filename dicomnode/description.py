"""What a derived image is called and how it is shown: ImageType, numbers, description, window."""

from __future__ import annotations

from collections.abc import Sequence

from dicomnode.errors import OutputFault
from dicomnode.iods import is_unpaired
from dicomnode.provenance import JobFacts, ascii_source_text, ascii_text
from dicomnode.source_image import SourceImage
from inference.pipeline import Card

LARGEST_IS = 2**31 - 1
FIRST_BESIDE, FRAMES_LONGER = 500, 50
"""Where in its thousand the numbers of the series beside a derived one begin, and of how many time frames."""
TEN_DIGITS = 10**9
LARGEST_LONGER = TEN_DIGITS // 1000 - 1
"""Longer numbers stay below those of ten digits, which are given where three digits more do not do."""
MOST_APART, PLACES = 1000, 10
WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")


def image_type(image: SourceImage, card: Card) -> list[str]:
    """The derived ImageType; a chain keeps the tokens of earlier steps (C11, table 1)."""
    source = image.texts("ImageType")
    same_object = image.text("Modality") == card.result_modality
    was_derived = source[:1] == ("DERIVED",) and same_object
    match card.result_modality:
        case "CT":
            head, first_token = ["DERIVED", "SECONDARY", "AXIAL", ""], 4
        case "PT":
            head, first_token = ["DERIVED", "PRIMARY", ""], 3
        case _:
            head, first_token = ["DERIVED", "SECONDARY", source[2] if len(source) > 2 and source[2] else "OTHER"], 3
    earlier = [token for token in source[first_token:] if token and token != card.token] if was_derived else []
    return [*head, *earlier, card.token]


def series_number(image: SourceImage, card: Card, job: JobFacts) -> int:
    """The derived series' number, for each stack of a job another (C7).

    The source's number times a hundred and the pipeline's; an own range where that does not fit. A further stack of
    the same source has three digits more, its place among the stacks. Raises OutputFault where no number is left.
    """
    number = _of_the_first_stack(image, card, job)
    if not job.stack:
        return number
    if job.stack < FIRST_BESIDE and number <= LARGEST_LONGER:
        return number * 1000 + job.stack
    return _own_range(number, card, job, frame=0, place=0)


def series_number_beside(image: SourceImage, card: Card, job: JobFacts, *, frame: int, place: int) -> int:
    """The number of a series beside the derived one: of all stacks, time frames and places of a job another (C7).

    frame: number of the time frame within the derived series; place: 0 to 8, by what the series holds. Raises
    OutputFault where no number is left.
    """
    number = _of_the_first_stack(image, card, job)
    if not job.stack and frame < FRAMES_LONGER and number <= LARGEST_LONGER:
        return number * 1000 + FIRST_BESIDE + 10 * frame + place
    return _own_range(number, card, job, frame=frame, place=place + 1)


def _of_the_first_stack(image: SourceImage, card: Card, job: JobFacts) -> int:
    number = image.number("SeriesNumber")
    if number is not None and 0 < number * 100 + card.ordinal <= LARGEST_IS:
        return int(number) * 100 + card.ordinal
    return job.series_number_offset + card.ordinal


def _own_range(number: int, card: Card, job: JobFacts, *, frame: int, place: int) -> int:
    """A number of ten digits, or of fewer where the derived series has one of ten itself; for a thousand of each."""
    if job.stack >= MOST_APART or frame >= MOST_APART:
        raise OutputFault("C7", f"a job can number {MOST_APART} stacks of {MOST_APART} time frames at most")
    start = TEN_DIGITS if number < TEN_DIGITS else 0
    return start + ((card.ordinal % 100 * MOST_APART + job.stack) * MOST_APART + frame) * PLACES + place


def series_description(image: SourceImage, card: Card, job: JobFacts) -> str:
    """The source's words, cut, and the pipeline's, with what sets this stack of the source apart (C8)."""
    words = f"{card.label}, {job.apart}" if job.apart else card.label
    tail = f"{ascii_text(words, longest=45)} (AI)"
    head = ascii_text(ascii_source_text(image, "SeriesDescription"), longest=64 - 1 - len(tail))
    return f"{head} {tail}".strip()


def image_comments(card: Card, job: JobFacts) -> str:
    """The sentence that warns the reader (C24)."""
    use = (
        "For research only, not for diagnosis."
        if job.content_qualification == "RESEARCH"
        else "Not for diagnosis on its own: compare with the source images."
    )
    synthetic = " Synthetic image, not acquired." if card.synthetic else ""
    return ascii_text(
        f"Made by software: {card.name} {card.version}.{synthetic} {use} {card.intended_use}", longest=1000
    )


def instance_numbers(images: Sequence[SourceImage]) -> list[int]:
    """The sources' numbers where all have one of their own, else 1..N along the normal (C6)."""
    numbers = [image.number("InstanceNumber") for image in images]
    known = [int(number) for number in numbers if number is not None]
    return known if len(set(known)) == len(images) else list(range(1, len(images) + 1))


def image_indices(stacks: Sequence[Sequence[SourceImage]]) -> list[int]:
    """PET ImageIndex of the images of all stacks of the series, one stack after the other (P4).

    The sources' where they count exactly these images, or where a time frame keeps its place in its dynamic or gated
    series. Else anew in the same direction, as PS3.3 C.8.9.4.1.9 counts: first the slices, then the time frames.
    """
    images = [image for stack in stacks for image in stack]
    said = [int(image.number("ImageIndex") or 0) for image in images]
    if sorted(said) == list(range(1, len(images) + 1)) or _is_part_of_more(stacks, said):
        return said
    found: list[int] = []
    for stack in stacks:
        counted = range(len(found) + 1, len(found) + len(stack) + 1)
        first, last = said[len(found)], said[len(found) + len(stack) - 1]
        found += reversed(counted) if first > last else counted
    return found


def _is_part_of_more(stacks: Sequence[Sequence[SourceImage]], said: Sequence[int]) -> bool:
    """Whether these are whole time frames of a dynamic or gated series, each image with its own index in it."""
    is_timed = stacks[0][0].text("SeriesType") in ("DYNAMIC", "GATED")
    whole = all(image.number("NumberOfSlices") == len(stack) for stack in stacks for image in stack)
    return is_timed and whole and min(said) >= 1 and len(set(said)) == len(said)


def laterality(image: SourceImage) -> str | None:
    """The source's Laterality; else empty, for unknown; None, left out, where the body part has no sides."""
    if image.text("Laterality"):
        return image.text("Laterality")
    return None if is_unpaired(image.text("BodyPartExamined")) or image.text("ImageLaterality") else ""


def keeps_window(image: SourceImage) -> bool:
    """Whether the source has windows that may be shown again: as many widths as centres, none below 1."""
    centers, widths = image.numbers("WindowCenter"), image.numbers("WindowWidth")
    return bool(widths) and len(centers) == len(widths) and min(widths) >= 1


def new_window(largest: float, modality: str) -> dict[str, str]:
    """The window of values that have another unit than the source, or whose source has none (C27)."""
    if modality == "CT":
        return {"WindowCenter": "40", "WindowWidth": "400"}
    if modality == "PT":
        width = max(largest, 1.0)
        return {"WindowCenter": f"{width / 2:.8g}", "WindowWidth": f"{width:.8g}"}
    return {}
