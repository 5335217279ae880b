"""What must hold of a derived image beside the source image it was made of: what is copied, what is not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset

from dicomnode import iods
from dicomnode.description import keeps_window
from dicomnode.gate.copy_rules import (
    COPIED,
    COPIED_SAME_MODALITY,
    OTHERWISE,
    copy_findings,
    is_empty,
    is_same,
)
from dicomnode.gate.history_rules import history_findings
from dicomnode.gate.rules import Finding, asked, items, number, numbers, text, texts
from dicomnode.patient_position import patient_position
from dicomnode.provenance import ascii_source_text, ascii_text
from dicomnode.source_image import SourceImage
from dicomnode.verbatim import Element

ASKED_OF_ALL = (
    *("C1", "C3", "C7", "C8", "C10", "C11", "C12", "C13", "C14", "C15", "C20", "C21", "C22", "C23", "C27", "C28"),
    OTHERWISE,
)


def rules_asked_of_source(modality: str) -> tuple[str, ...]:
    """Every rule that a source image is needed for."""
    of_kind = COPIED_SAME_MODALITY.get(modality, {})
    return tuple(sorted({"C2", *ASKED_OF_ALL, *COPIED, *of_kind, *(("P6",) if modality == "PT" else ())}))


def source_findings(
    dataset: Dataset, elements: Mapping[int, Element], image: SourceImage, *, of_synthetic: bool = False
) -> Iterator[Finding]:
    """What must be the source's is, and what must not be is not; nothing of `image` is decoded in place (K1).

    elements: of the derived image, taken before a text of `dataset` was read. of_synthetic: whether another image of
    the source series says that it is synthetic, which then holds for all that is derived of it (C23).
    """
    source_modality, modality = modality_of(image), text(dataset, "Modality")
    if source_modality not in iods.SOP_CLASS_OF or modality not in iods.SOP_CLASS_OF:
        yield Finding("C1", False, "source or derived image is neither CT, PET nor MR")
        return
    yield asked("C1", modality in (source_modality, "CT"), f"a {modality} image cannot be made of {source_modality}")
    yield from copy_findings(elements, image, source_modality, modality)
    yield asked("C28", _character_set_is_kept(elements, image), "SpecificCharacterSet is not the source's")
    yield from _identity(dataset, image)
    yield from history_findings(dataset, elements, image, source_modality, of_synthetic=of_synthetic)
    yield from _words(dataset, image, source_modality)
    yield from _window(dataset, image, source_modality)
    if modality == "MR":
        yield asked("M2", _rescale_of(dataset) == _rescale_of(image), "the way back to the values is not the source's")
    if modality == "PT":
        private = [tag for tag in image.elements if tag >> 16 == 0x7053]
        kept = all(is_same(elements.get(tag), image.elements[tag]) for tag in private)
        yield asked("P6", kept, "the private scale factors of Philips PET are not the source's")


def modality_of(image: SourceImage) -> str:
    """The kind of image that the source stands for; empty where the node knows none."""
    return iods.MODALITY_OF.get(image.image_class_uid, "")


def _rescale_of(one: Dataset | SourceImage) -> tuple[float, float]:
    """Slope and intercept; what is absent or empty changes nothing."""
    slope, intercept = (
        one.number(keyword) if isinstance(one, SourceImage) else number(one, keyword)
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _character_set_is_kept(elements: Mapping[int, Element], image: SourceImage) -> bool:
    """The source's, or one that the admin declares where the source says none (K4)."""
    (tag,) = iods.tags(["SpecificCharacterSet"])
    said = image.elements.get(tag)
    return is_empty(said) or is_same(elements.get(tag), said)


def _identity(dataset: Dataset, image: SourceImage) -> Iterator[Finding]:
    """New UIDs, and references that lead to this very image."""
    series = image.text("SeriesInstanceUID")
    yield asked("C3", text(dataset, "SeriesInstanceUID") != series, "the series UID is the source's")
    yield asked("C3", text(dataset, "SOPInstanceUID") != image.sop_instance_uid, "the instance UID is the source's")
    own = next(iter(items(dataset, "SourceImageSequence")), Dataset())
    is_own = text(own, "ReferencedSOPInstanceUID") == image.sop_instance_uid
    yield asked("C13", is_own, "the first source image is not the slice's own")
    same_class = text(own, "ReferencedSOPClassUID") == image.text("SOPClassUID")
    yield asked("C13", same_class, "the source image is referenced under another class")
    frames = (str(image.frame),) if image.frame else ()
    yield asked("C13", texts(own, "ReferencedFrameNumber") == frames, "the frame of the source is not the slice's own")
    listed = {
        text(item, "ReferencedSOPInstanceUID"): text(one, "SeriesInstanceUID")
        for one in items(dataset, "ReferencedSeriesSequence")
        for item in items(one, "ReferencedInstanceSequence")
    }
    yield asked("C14", listed.get(image.sop_instance_uid) == series, "the source is not listed under its series")
    related = {text(item, "SeriesInstanceUID") for item in items(dataset, "RelatedSeriesSequence")}
    yield asked("C15", series in related, "RelatedSeriesSequence does not name the source's series")


def _words(dataset: Dataset, image: SourceImage, source_modality: str) -> Iterator[Finding]:
    """Numbers and words that follow from the source's."""
    before = image.number("SeriesNumber")
    is_new = before is None or number(dataset, "SeriesNumber") != before
    yield asked("C7", is_new, "SeriesNumber is the source's")
    head = ascii_text(ascii_source_text(image, "SeriesDescription"), longest=13).strip()
    yield asked("C8", text(dataset, "SeriesDescription").startswith(head), "SeriesDescription lost the source's words")
    is_burned = image.text("BurnedInAnnotation") == "YES"
    yield asked(
        "C21", (text(dataset, "BurnedInAnnotation") == "YES") == is_burned, "BurnedInAnnotation is not as it was"
    )
    side = image.text("Laterality")
    yield asked("C29", text(dataset, "Laterality") == side, "Laterality is not the source's")
    modality = text(dataset, "Modality")
    if modality != "PT":
        same = text(dataset, "PatientPosition") == patient_position(image)
        yield asked("C29", same, "PatientPosition is not the source's")
    if modality == "CT" != source_modality:
        for keyword in ("IrradiationEventUID", "AcquisitionNumber"):
            yield asked("C18", not text(dataset, keyword), f"{keyword} is of another modality's acquisition")


def _window(dataset: Dataset, image: SourceImage, source_modality: str) -> Iterator[Finding]:
    """The source's windows where it has some of the same unit, else the one that the node gives (C27)."""
    modality = text(dataset, "Modality")
    found = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if source_modality == modality and keeps_window(image):
        kept = found == (image.numbers("WindowCenter"), image.numbers("WindowWidth"))
        yield asked("C27", kept, "the window is not the source's")
        for keyword in ("WindowCenterWidthExplanation", "VOILUTFunction"):
            yield asked("C27", texts(dataset, keyword) == image.texts(keyword), f"{keyword} is not the source's")
        return
    if modality == "CT":
        yield asked("C27", found == ((40.0,), (400.0,)), "the window is not 40/400, which a CT without one gets")
    elif modality == "PT":
        is_whole = len(found[0]) == 1 and math.isclose(2 * found[0][0], found[1][0], rel_tol=1e-6)
        yield asked("C27", is_whole, "the window does not begin at zero, as one of a PET without one does")
    else:
        yield asked("C27", not any(found), "an MR whose source has no window has one")
