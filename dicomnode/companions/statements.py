"""What reports, key images and the banner say in words: who made it, of what, how, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.measurement_codes import coded_name
from dicomnode.provenance import ascii_source_text, ascii_text, local_moment
from dicomnode.uids import MANUFACTURER
from inference.volume import Unit

COMPARE = "Compare with the source images."
LONGEST = 1000


def headline(derivation: Derivation) -> str:
    """The line that stands on a picture, e.g. "AI: denoised - RESEARCH, not for diagnosis"."""
    caution = (
        "RESEARCH, not for diagnosis"
        if derivation.content_qualification == "RESEARCH"
        else "compare with the source images"
    )
    synthetic = " - SYNTHETIC, not acquired" if derivation.card.synthetic else ""
    return ascii_text(f"AI: {derivation.card.label}{synthetic} - {caution}", longest=200)


def qualification(derivation: Derivation) -> str:
    """Whether the result may be used for diagnosis."""
    use = (
        "Content qualification: RESEARCH. For research only, not for diagnosis."
        if derivation.content_qualification == "RESEARCH"
        else "Content qualification: PRODUCT. Not for diagnosis on its own."
    )
    synthetic = " The images are synthetic, not acquired." if derivation.card.synthetic else ""
    return f"{use}{synthetic}"


def intended_use(derivation: Derivation) -> str:
    """What the pipeline says it is for."""
    return "".join(_sentences(f"Intended use: {derivation.card.intended_use}"))


def what_was_done(derivation: Derivation) -> tuple[str, ...]:
    """Sentences on the processing: purpose, pipeline, settings, source, derived series, job."""
    card, job, first = derivation.card, derivation.job, derivation.images[0]
    weights = f"weights sha256 {card.weights_sha256}" if card.weights_sha256 else "no learned weights"
    settings = ", ".join(f"{name} = {value}" for name, value in sorted(card.settings.items())) or "none"
    moment = local_moment(first, job.created_at)
    described = ascii_source_text(first, "SeriesDescription")
    called = f' "{described}"' if described else ""
    return _sentences(
        f"{card.label}: {card.purpose}",
        f"Pipeline {card.name} version {card.version}, method {card.method}, {weights}, "
        f"on {MANUFACTURER} {job.node_version}",
        f"Settings: {settings}",
        f"Source: {first.text('Modality')} series number {first.text('SeriesNumber') or 'unknown'}{called}, "
        f"{len(derivation.images)} slices, series instance UID {first.text('SeriesInstanceUID')}",
        f"Derived: {derivation.derived[0].get('Modality')} series number "
        f"{derivation.derived[0].get('SeriesNumber')}, "
        f"series instance UID {derivation.derived[0].get('SeriesInstanceUID')}",
        f"Job {job.key[:16]} of {moment.strftime('%Y-%m-%d %H:%M:%S')}",
    )


def remarks(derivation: Derivation) -> tuple[str, ...]:
    """What the reader has to know of this result: slices unchanged, masks that are empty, the pipeline's notes."""
    outcome = derivation.outcome
    empty = [
        f"The {name} mask is empty: no {name.replace('_', ' ')} was found, so there is no segmentation of it"
        for name, mask in sorted(outcome.masks.items())
        if not mask.any()
    ]
    strange = [
        f"The measurement {coded_name(name).concept.meaning} has no number"
        for name, value in sorted(outcome.measurements.items())
        if not np.isfinite(value)
    ]
    return _sentences(unchanged_slices(derivation), *empty, *strange, *outcome.notes)


def unchanged_slices(derivation: Derivation) -> str:
    """How many slices are the source's own, and which, by their image numbers."""
    total, unchanged = len(derivation.images), sorted(derivation.outcome.unchanged)
    if not unchanged:
        return f"0 of {total} slices were passed through unchanged"
    numbers = ranges(int(derivation.derived[k].InstanceNumber) for k in unchanged)
    return f"{len(unchanged)} of {total} slices were passed through unchanged: image {numbers}"


def ranges(numbers: Iterable[int]) -> str:
    """1-3, 7 for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def unit_words(unit: Unit) -> str:
    """The unit as it stands behind a number; empty where the number has none."""
    return "" if unit is Unit.ARBITRARY else f" {unit.value}"


def _sentences(*texts: str) -> tuple[str, ...]:
    cut = (ascii_text(text, longest=LONGEST) for text in texts)
    return tuple(text if text.endswith((".", "!", "?")) else f"{text}." for text in cut if text)
