"""The words "AI, not for diagnosis" over every derived image, as a presentation state: the pixels stay untouched."""

from __future__ import annotations

from collections import defaultdict

from highdicom.content import ModalityLUTTransformation, PresentationLUTTransformation, ReferencedImageSequence
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from dicomnode.companions import statements
from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import BANNER, harmonise, neutral_derived
from dicomnode.companions.windows import Window, derived_window
from dicomnode.derived_instance import DerivedInstance
from dicomnode.uids import MODEL_NAME

LAYER = "AI_BANNER"
BOX = (0.01, 0.01, 0.99, 0.06)
"""Left, top, right and bottom of the words, as parts of the displayed area."""


def banner(derivation: Derivation) -> DerivedInstance | None:
    """A Grayscale Softcopy Presentation State over the whole derived series; None where the slopes differ, as in PET.

    A state has one Modality LUT for all its images (PS3.3 C.11.35, note), and none in it means identity: that of the
    image is not used (PS3.4 N.2.1.2). Windows in stored values would be right by the standard, and wrong in every
    viewer that rescales nevertheless; no window at all means identity too, which shows PET black (PS3.4 N.2.1.3). The
    Variable Modality LUT state, made for this in 2023, is read by few. A wrong window is worse than no banner.
    """
    if len({_scale_of(header) for header in derivation.derived}) > 1:
        return None
    images = [neutral_derived(image) for image in derivation.derived]
    layer = GraphicLayer(LAYER, order=1, description="AI banner")
    text = TextObject(statements.headline(derivation), units="DISPLAY", bounding_box=BOX, text_justification="LEFT")
    is_inverted = images[0].get("PhotometricInterpretation") == "MONOCHROME1"
    made: Dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        **derivation.placed(BANNER),
        manufacturer_model_name=MODEL_NAME,
        software_versions=derivation.job.node_version,
        device_serial_number=derivation.job.deployment_uuid,
        content_label=LAYER,
        content_description="AI banner",
        graphic_annotations=[GraphicAnnotation(images, layer, text_objects=[text])],
        graphic_layers=[layer],
        modality_lut_transformation=_scale(derivation),
        voi_lut_transformations=_windows(derivation, images),
        # PS3.3 C.11.6.1.2: P-values are bright where high, whatever the images' own polarity
        presentation_lut_transformation=PresentationLUTTransformation("INVERSE" if is_inverted else "IDENTITY"),
    )
    area = made.DisplayedAreaSelectionSequence[0]
    del area.PresentationPixelAspectRatio  # highdicom takes all pixels for square
    area.PresentationPixelSpacing = list(derivation.derived[0].PixelSpacing)
    return harmonise(made, derivation, role=BANNER, description="banner")


def _scale_of(header: Dataset) -> tuple[float, float]:
    """Slope and intercept; one and zero where the header has none."""
    return float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)


def _scale(derivation: Derivation) -> ModalityLUTTransformation | None:
    """The Modality LUT that all derived images share; None where they have none."""
    if "RescaleSlope" not in derivation.derived[0]:
        return None
    slope, intercept = _scale_of(derivation.derived[0])
    return ModalityLUTTransformation(
        rescale_intercept=DSfloat(intercept, auto_format=True),
        rescale_slope=DSfloat(slope, auto_format=True),
        rescale_type=str(derivation.derived[0].get("RescaleType") or "US"),
    )


def _windows(derivation: Derivation, images: list[Dataset]) -> list[SoftcopyVOILUTTransformation]:
    """The images' first windows, one item for all images of the same window."""
    groups: dict[Window, list[Dataset]] = defaultdict(list)
    for k, image in enumerate(images):
        groups[derived_window(derivation, k)].append(image)
    return [
        SoftcopyVOILUTTransformation(
            window_center=DSfloat(window.center, auto_format=True),
            window_width=DSfloat(window.width, auto_format=True),
            voi_lut_function=window.function or None,
            referenced_images=ReferencedImageSequence(members) if len(groups) > 1 else None,
        )
        for window, members in groups.items()
    ]
