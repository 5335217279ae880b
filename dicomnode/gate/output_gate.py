"""What must hold of a result before anything of it is kept; also what validators of other makers do not see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.acquisition import unit_of
from dicomnode.errors import OutputFault
from dicomnode.gate.image_rules import file_findings, uid_finding
from dicomnode.gate.kind_rules import header_rules
from dicomnode.gate.pixel_rules import (
    all_finite,
    length_findings,
    padding_findings,
    precision_findings,
    range_finding,
    restored_findings,
    stored_values,
)
from dicomnode.gate.read_back import ReadBack, Reader
from dicomnode.gate.recall import Recall
from dicomnode.gate.rules import Finding, asked, items, model_item, number, text, texts
from dicomnode.gate.series_rules import Members, numbering_findings, series_findings, synthesis_findings
from dicomnode.gate.source_rules import source_findings
from dicomnode.iods import SOP_CLASS_OF
from dicomnode.provenance import ascii_text
from dicomnode.source_image import SourceImage
from inference.pipeline import Card, Outcome
from inference.volume import Unit

POSITION_TOLERANCE_MM = 0.1
DIRECTION_TOLERANCE = 1e-3


def check_outcome(outcome: Outcome, card: Card, images: Sequence[SourceImage]) -> None:
    """The outcome as a whole: unit, grid, order of the sources, finite values; raises OutputFault."""
    _hold_all(outcome_findings(outcome, card, images))


def check_instance(
    content: bytes,
    card: Card,
    image: SourceImage,
    *,
    values: NDArray[np.float32],
    outside: NDArray[np.bool_] | None = None,
    of_synthetic: bool = False,
) -> Dataset:
    """One finished file alone, as `InstanceGate.check`."""
    return InstanceGate(card, of_synthetic=of_synthetic).check(content, image, values=values, outside=outside).dataset


class InstanceGate:
    """Where each finished file of one series has to pass; what is the same bytes from file to file is asked once."""

    def __init__(self, card: Card, *, of_synthetic: bool = False) -> None:
        """of_synthetic: whether an image of the source series is synthetic."""
        self._card, self._of_synthetic = card, of_synthetic
        self._reader, self.recall = Reader(), Recall()

    def check(
        self,
        content: bytes,
        image: SourceImage,
        *,
        values: NDArray[np.float32],
        outside: NDArray[np.bool_] | None = None,
    ) -> ReadBack:
        """One finished file, read back as a receiver would: its pixels are the values, its header holds the rules.

        outside: where the values are the source's own padding, which no range is asked of. Gives what was read. Raises
        OutputFault.
        """
        read = self._reader.read(content)
        dataset = read.dataset
        _hold_all(file_findings(dataset))
        for rule in header_rules(text(dataset, "Modality")):
            self._hold(rule, dataset)
        self._hold(self._of_card, dataset)
        _hold_all(source_findings(dataset, read.elements, image, of_synthetic=self._of_synthetic))
        _hold_all([uid_finding(dataset)])
        _hold_all(pixel_findings(dataset, self._card, image, values=values, outside=outside))
        return read

    def _of_card(self, dataset: Dataset) -> Iterator[Finding]:
        return card_findings(dataset, self._card)

    def _hold(self, rule: Callable[[Dataset], Iterator[Finding]], dataset: Dataset) -> None:
        _hold_all(self.recall.findings(rule, dataset))


def check_series(members: Members, images: Sequence[SourceImage], card: Card) -> None:
    """The instances as one series, when all of them are made; raises OutputFault.

    members: what was read of each by `check_instance`, in the order of `images`, their sources.
    """
    is_whole = len(members.all) == len(images)
    _hold_all([asked("C13", is_whole, f"{len(members.all)} images were made of {len(images)}")])
    _hold_all(finding for finding, _ in series_findings(members.all))
    pairs = list(zip(members.all, images, strict=True))
    _hold_all(finding for finding, _ in numbering_findings(pairs))
    _hold_all(finding for finding, _ in synthesis_findings(pairs, is_synthesized=card.synthetic))


def _hold_all(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if not finding.holds:
            raise OutputFault(finding.rule, finding.message)


def outcome_findings(outcome: Outcome, card: Card, images: Sequence[SourceImage]) -> Iterator[Finding]:
    """What must hold of an outcome before a file is made of it; later ones are asked only if the earlier hold."""
    volume = outcome.volume
    can_be = card.result_modality in SOP_CLASS_OF and bool(images)
    yield asked("C1", can_be, f"no image object for {card.result_modality!r} and {len(images)} images")
    modality = images[0].text("Modality")
    yield asked("C1", modality == card.modality, f"{card.name} is for {card.modality}, its source is {modality}")
    kept = card.makes is None or volume.unit == card.makes
    yield asked("C1", kept, f"{card.name} promised {card.makes} and made {volume.unit}")
    is_ct = card.result_modality == "CT"
    fits = is_ct == (volume.unit == Unit.HU)
    yield asked("T1", fits, f"a {card.result_modality} image cannot hold values in {volume.unit}")
    if card.result_modality == card.modality:
        said = unit_of(images[0])
        yield asked("P2", volume.unit == said, f"the result is in {volume.unit}, the copied header says {said}")
    shape = (len(images), int(images[0].dataset.Rows), int(images[0].dataset.Columns))
    yield asked("C5", volume.values.shape == shape, f"the result has shape {volume.values.shape}, its sources {shape}")
    named = {(image.sop_instance_uid, image.frame) for image in images}
    yield asked("C13", len(named) == len(images), "a source image is there twice")
    yield from _geometry(outcome, images)
    yield asked("T5", all_finite(volume.values), "the result holds values that are not finite")
    known = volume.outside is None or volume.outside.shape == shape
    yield asked("T4", known, "what lies outside the field of view is said on another grid")
    yield from _beside(outcome, shape)


def _geometry(outcome: Outcome, images: Sequence[SourceImage]) -> Iterator[Finding]:
    """Every slice of the result lies where its source image lies (C4, C5), also in an uneven stack."""
    geometry = outcome.volume.geometry
    same_frame = all(geometry.frame_of_reference_uid == image.text("FrameOfReferenceUID") for image in images)
    yield asked("C4", same_frame, "the result lies in another frame of reference than its source")
    affine, corners = geometry.affine, geometry.corners_mm
    if corners is not None:
        is_placed = corners.shape == (len(images), 3) and bool(np.isfinite(corners).all())
        yield asked("C5", is_placed, "the result does not say where each of its slices lies")
    step = float(np.linalg.norm(affine[:3, 0]))
    tolerance = POSITION_TOLERANCE_MM if corners is not None else max(POSITION_TOLERANCE_MM, 0.01 * step)
    for k, image in enumerate(images):
        position = np.array(image.numbers("ImagePositionPatient"))
        expected = affine[:3, 3] + k * affine[:3, 0] if corners is None else corners[k]
        is_there = position.shape == (3,) and float(np.abs(expected - position).max()) <= tolerance
        yield asked("C5", is_there, f"slice {k} of the result does not lie where its source image lies")
        orientation, spacing = image.numbers("ImageOrientationPatient"), image.numbers("PixelSpacing")
        if len(orientation) != 6 or len(spacing) != 2:
            yield Finding("C5", False, f"the source of slice {k} does not say how it lies")
            continue
        for axis, direction, width in ((2, orientation[:3], spacing[1]), (1, orientation[3:], spacing[0])):
            along = np.array(direction) / np.linalg.norm(direction) * width
            is_along = float(np.abs(affine[:3, axis] - along).max()) <= DIRECTION_TOLERANCE * width
            yield asked("C5", is_along, "rows or columns of the result do not run as those of its source")


def _beside(outcome: Outcome, shape: tuple[int, ...]) -> Iterator[Finding]:
    """What the outcome brings beside the image lies on the same grid and is made of numbers (S1, S3, S5)."""
    for name, mask in outcome.masks.items():
        is_mask = mask.shape == shape and mask.dtype == np.bool_
        yield asked("S1", is_mask, f"the mask {name} is not one of the result's grid")
    uncertainty = outcome.uncertainty
    if uncertainty is not None:
        yield asked("S3", uncertainty.shape == shape, "the uncertainty does not lie on the result's grid")
        is_deviation = bool(np.isfinite(uncertainty).all()) and bool((uncertainty >= 0).all())
        yield asked("S3", is_deviation, "the uncertainty holds values that are no standard deviation")
    for name, value in outcome.measurements.items():
        yield asked("S5", np.isfinite(value), f"the measurement {name} is not a finite number")
    inside = all(0 <= k < shape[0] for k in outcome.unchanged)
    yield asked("C5", inside, "a slice that is said to be unchanged does not exist")


def card_findings(dataset: Dataset, card: Card) -> Iterator[Finding]:
    """The image says which pipeline made it, and what the pipeline says of itself."""
    modality = text(dataset, "Modality")
    yield asked("C1", modality == card.result_modality, f"{card.name} makes {card.result_modality}, not {modality}")
    model = model_item(dataset)
    named = model is not None and text(model, "ManufacturerModelName") == card.name[:64].strip()
    yield asked("C10", named, "the contributing equipment does not name the pipeline")
    yield asked(
        "C11", texts(dataset, "ImageType")[-1:] == (card.token,), "ImageType does not end with the pipeline's step"
    )
    step = f"{ascii_text(card.name, longest=64)} {card.version}"
    yield asked("C12", step in text(dataset, "DerivationDescription"), "DerivationDescription does not name the step")
    most = 1 + 2 * card.context_slices
    count = len(items(dataset, "SourceImageSequence"))
    yield asked("C13", count <= most, f"{count} source images are named, the pipeline reads {most}")
    said = text(dataset, "SyntheticData") == "YES"
    yield asked("C23", said or not card.synthetic, "a synthetic image does not say so")


def pixel_findings(
    dataset: Dataset,
    card: Card,
    image: SourceImage,
    *,
    values: NDArray[np.float32],
    outside: NDArray[np.bool_] | None,
) -> Iterator[Finding]:
    """The pixels of a finished file give the values, and the values are such that can be."""
    yield from length_findings(dataset)
    sized = (number(dataset, "Rows"), number(dataset, "Columns")) == values.shape
    yield asked("C5", sized, "Rows and Columns are not those of the result")
    yield asked("T5", all_finite(values), "the result holds values that are not finite")
    is_ct = card.result_modality == "CT"
    if is_ct:
        source_range = (image.lowest, image.highest) if card.modality == "CT" else None
        yield range_finding(values, source_range=source_range, outside=outside)
    stored = stored_values(dataset)
    yield from precision_findings(dataset, stored, values, slope=image.slope, intercept=image.intercept)
    yield from padding_findings(dataset, stored, outside)
    if is_ct:
        yield from restored_findings(
            values, image.outside_values, outside, is_12_bit=number(dataset, "BitsStored") == 12
        )
