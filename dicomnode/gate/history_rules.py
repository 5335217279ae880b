"""What was done to a derived image's source before stays said, byte for byte: equipment, steps, losses, synthesis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset

from dicomnode import iods
from dicomnode.gate.copy_rules import content_in, is_same, is_same_item, items_in, items_of
from dicomnode.gate.rules import Finding, asked, is_synthesized, model_item, text, texts
from dicomnode.provenance import LEFT_OUT, UNKNOWN, ascii_source_text, ascii_text
from dicomnode.source_image import SourceImage
from dicomnode.verbatim import Element

Code = tuple[bytes, bytes]
ACQUISITION_EQUIPMENT: Code = (b"109101", b"DCM")
PROCESSING_EQUIPMENT: Code = (b"109102", b"DCM")
LEAST_OF_DESCRIPTION = 500
"""How much of a long earlier description is kept at least: what was done last wants its room too."""


def history_findings(
    dataset: Dataset,
    elements: Mapping[int, Element],
    image: SourceImage,
    source_modality: str,
    *,
    of_synthetic: bool,
) -> Iterator[Finding]:
    """Earlier equipment, steps and losses are there as they were (C10 to C12, C20, C22, C23)."""
    yield from _equipment(elements, image)
    yield from _steps(dataset, elements, image, source_modality)
    if image.text("LossyImageCompression") == "01":
        yield asked("C20", text(dataset, "LossyImageCompression") == "01", "lossy history was lost")
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            kept = texts(dataset, keyword)[: len(image.texts(keyword))] == image.texts(keyword)
            yield asked("C20", kept, f"{keyword} is not the source's")
    is_research = image.text("ContentQualification") == "RESEARCH"
    stays = not is_research or text(dataset, "ContentQualification") == "RESEARCH"
    yield asked("C22", stays, "what is made of an image for research is not said to be for research")
    artificial = is_artificial(dataset, image, source_modality)
    is_said = text(dataset, "SyntheticData") == "YES"
    yield asked("C23", is_said or not artificial, "a synthetic image does not say so")
    yield asked("C23", artificial or of_synthetic or not is_said, "an image of acquired data says that it is synthetic")


def is_artificial(dataset: Dataset, image: SourceImage, source_modality: str) -> bool:
    """Whether an image is made artificially, by this step or by one before."""
    changed = source_modality != text(dataset, "Modality")
    return image.text("SyntheticData") == "YES" or changed or is_synthesized(dataset)


def _equipment(elements: Mapping[int, Element], image: SourceImage) -> Iterator[Finding]:
    """All that the source names, then the source's own equipment, then the model; compared as bytes (K1)."""
    named, before = (items_of(those, "ContributingEquipmentSequence") for those in (elements, image.elements))
    is_kept = len(named) == len(before) + 2 and all(
        is_same_item(one, other) for one, other in zip(named[:-2], before, strict=True)
    )
    yield asked("C10", is_kept, "the source's contributing equipment is not there as it was")
    if not is_kept:
        return
    scanner = named[-2]
    (maker,) = iods.tags(["Manufacturer"])
    is_its = (
        is_same(scanner.get_item(maker), image.elements.get(maker))
        if image.raw("Manufacturer")
        else content_in(scanner, "Manufacturer") == UNKNOWN.encode()
    )
    others = iods.tags(iods.CONTRIBUTING_EQUIPMENT)
    is_its = is_its and all(is_same(scanner.get_item(tag), image.elements.get(tag)) for tag in others)
    yield asked("C10", is_its, "the contributing equipment before the model is not the source's")
    is_original = image.texts("ImageType")[:1] == ("ORIGINAL",)
    expected = [ACQUISITION_EQUIPMENT if is_original else PROCESSING_EQUIPMENT]
    stated = [_code(one) for one in items_in(scanner, "PurposeOfReferenceCodeSequence")]
    yield asked("C10", stated == expected, "the source's equipment has another purpose")


def _steps(
    dataset: Dataset, elements: Mapping[int, Element], image: SourceImage, source_modality: str
) -> Iterator[Finding]:
    kind, kind_before = texts(dataset, "ImageType"), image.texts("ImageType")
    same_modality = source_modality == text(dataset, "Modality")
    if same_modality and kind_before[:1] == ("DERIVED",):
        first = {"CT": 4}.get(source_modality, 3)
        lost = [token for token in kind_before[first:] if token and token not in kind[first:]]
        yield asked("C11", not lost, "ImageType lost the steps that were done before")
    if source_modality == "MR" and same_modality and len(kind_before) > 2 and kind_before[2]:
        yield asked("C11", kind[2:3] == kind_before[2:3], "the third value of ImageType is not the source's")
    steps, before = (items_of(those, "DerivationCodeSequence") for those in (elements, image.elements))
    is_kept = len(steps) > len(before) and all(map(is_same_item, steps, before))
    yield asked("C12", is_kept, "the derivation codes of earlier steps were lost")
    words = ascii_text(ascii_source_text(image, "DerivationDescription"), longest=1024)
    if image.raw("DerivationDescription"):
        words = words or LEFT_OUT
    said, model = text(dataset, "DerivationDescription"), model_item(dataset) or Dataset()
    is_said = said.startswith(words[:LEAST_OF_DESCRIPTION].strip())
    yield asked("C12", is_said, "DerivationDescription lost what was done before")
    step = f"{text(model, 'ManufacturerModelName')} {text(model, 'SoftwareVersions')}"
    yield asked("C12", step in said, "DerivationDescription does not name the step")


def _code(item: Dataset) -> Code:
    return content_in(item, "CodeValue"), content_in(item, "CodingSchemeDesignator")
