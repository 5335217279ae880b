"""Before and after at a glance: Secondary Captures of the slices that changed most, and a Key Object Selection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode import provenance
from dicomnode.companions import statements
from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import KEY_IMAGE, KEY_SELECTION, harmonise, neutral_dataset, neutral_derived
from dicomnode.companions.image_references import series_items, source_items
from dicomnode.companions.observer import node_as_observer
from dicomnode.companions.picture import Panel, side_by_side, windowed
from dicomnode.companions.shown_slices import same_unit, shown_slices, shown_values
from dicomnode.companions.windows import Window, result_window, source_window
from dicomnode.derived_instance import DerivedInstance
from inference.volume import Unit

OF_INTEREST = Code("113000", "DCM", "Of Interest")
NO_DIFFERENCE = "no difference is shown: source and result have different units"
LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
"""The patient's side in the positive and in the negative direction of x, y and z (LPS)."""


def key_images(derivation: Derivation) -> tuple[DerivedInstance, ...]:
    """One to three pictures, the slice of the largest change first, and the document that points at them."""
    slices = shown_slices(derivation)
    captures = [_capture(derivation, k, number) for number, k in enumerate(slices, start=1)]
    # the document is built first: it reads the captures' headers, which `harmonise` uses up
    document = _selection(derivation, slices, captures)
    pictures = tuple(
        harmonise(capture, derivation, role=KEY_IMAGE, description="before and after", number=number)
        for number, capture in enumerate(captures, start=1)
    )
    return (
        *pictures,
        harmonise(document, derivation, role=KEY_SELECTION, description="key images", companions=pictures),
    )


def key_picture(derivation: Derivation, k: int) -> NDArray[np.uint8]:
    """Source, result and, where both have one unit, their difference of slice k; (rows, columns, 3) uint8."""
    before, after = shown_values(derivation, k)
    source, result = derivation.source, derivation.outcome.volume
    is_inverted = derivation.images[k].text("PhotometricInterpretation") == "MONOCHROME1"
    window = source_window(derivation, k)
    panels = [_panel("source", before, window, source.unit, is_inverted=is_inverted)]
    shown = result_window(derivation, k)
    stays_inverted = is_inverted and derivation.derived[k].get("PhotometricInterpretation") == "MONOCHROME1"
    panels.append(_panel("derived", after, shown, result.unit, is_inverted=stays_inverted))
    if same_unit(derivation):
        difference = windowed(after - before, 0.0, window.width)
        span, unit = window.width / 2, statements.unit_words(source.unit)
        panels.append(
            Panel(difference, ("difference: derived - source", f"black -{span:.6g}, white +{span:.6g}{unit}"))
        )
    footer = [statements.headline(derivation), _place(derivation, k)]
    if not same_unit(derivation):
        footer.append(NO_DIFFERENCE)
    _, row_mm, column_mm = source.geometry.spacing_mm
    return side_by_side(panels, footer, pixel_mm=(row_mm, column_mm), directions=_directions(derivation))


def _panel(title: str, values: NDArray[np.float32], window: Window, unit: Unit, *, is_inverted: bool) -> Panel:
    grey = windowed(values, window.center, window.width)
    words = f"window C {window.center:.6g} W {window.width:.6g}{statements.unit_words(unit)}"
    return Panel(255 - grey if is_inverted else grey, (title, words))


def _place(derivation: Derivation, k: int) -> str:
    """Which image of the derived series it is, and which slice of the stack; numbers only."""
    number = derivation.derived[k].get("InstanceNumber")
    unchanged = ", passed through unchanged" if k in derivation.outcome.unchanged else ""
    return f"image {number}, slice {k + 1} of {len(derivation.images)}{unchanged}"


def _directions(derivation: Derivation) -> tuple[str, str]:
    """The patient's side at the right and at the bottom of the picture."""
    affine = derivation.source.geometry.affine
    return _letter(affine[:3, 2]), _letter(affine[:3, 1])


def _letter(direction: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return LETTERS[axis][0 if direction[axis] > 0 else 1]


def _capture(derivation: Derivation, k: int, number: int) -> Dataset:
    """The picture of slice k as a Secondary Capture; what highdicom fills from the clock is set from the job."""
    first = neutral_dataset(derivation.images[0])
    made: Dataset = SCImage(
        pixel_array=key_picture(derivation, k),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=first.StudyInstanceUID,
        **derivation.placed(KEY_IMAGE, number=number),
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        patient_orientation=_directions(derivation),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    moment = provenance.local_moment(derivation.images[0], derivation.job.created_at)
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    # words and numbers of the node, nothing of the patient; `harmonise` says YES where the image shown says so (C21)
    made.BurnedInAnnotation = "NO"
    made.DerivationDescription = provenance.ascii_text(
        f"Source, result and difference side by side. {statements.headline(derivation)}", longest=1000
    )
    made.SourceImageSequence = source_items(derivation, [k])
    made.ReferencedSeriesSequence = series_items(derivation, [k])
    return made


def _selection(derivation: Derivation, slices: Sequence[int], captures: Sequence[Dataset]) -> Dataset:
    """The document that points at the derived images shown and at their pictures."""
    objects = [*(neutral_derived(derivation.derived[k]) for k in slices), *captures]
    content = KeyObjectSelection(
        document_title=OF_INTEREST,
        referenced_objects=objects,
        observer_device_context=node_as_observer(derivation),
        description=f"{statements.headline(derivation)}. The slices that changed most, before and after.",
    )
    made: Dataset = KeyObjectSelectionDocument(
        evidence=objects,
        content=content,
        **derivation.placed(KEY_SELECTION),
    )
    return made
