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
from dicomnode.uids import MANUFACTURER, MODEL_NAME

LAYER = "AI_BANNER"
BOX = (0.01, 0.01, 0.99, 0.06)
"""Left, top, right and bottom of the words, as parts of the displayed area."""


def banner(derivation: Derivation) -> DerivedInstance | None:
    """A Grayscale Softcopy Presentation State over the whole derived series.

    None where no single state shows all images as their headers do: slopes that differ, and one of them negative.
    """
    images = [neutral_derived(image) for image in derivation.derived]
    layer = GraphicLayer(LAYER, order=1, description="AI banner")
    text = TextObject(statements.headline(derivation), units="DISPLAY", bounding_box=BOX, text_justification="LEFT")
    scale = _common_scale(derivation)
    if scale is None and min(_scale_of(header)[0] for header in derivation.derived) <= 0:
        return None
    if scale is None:
        _forget_scales(images)
    is_inverted = images[0].get("PhotometricInterpretation") == "MONOCHROME1"
    made: Dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        series_instance_uid=derivation.series_uid(BANNER),
        series_number=1,
        sop_instance_uid=derivation.instance_uid(BANNER),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=derivation.job.node_version,
        device_serial_number=derivation.job.deployment_uuid,
        content_label=LAYER,
        content_description="AI banner",
        graphic_annotations=[GraphicAnnotation(images, layer, text_objects=[text])],
        graphic_layers=[layer],
        modality_lut_transformation=scale,
        voi_lut_transformations=_windows(derivation, images, in_stored_values=scale is None),
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


def _common_scale(derivation: Derivation) -> ModalityLUTTransformation | None:
    """The Modality LUT that all derived images share; None where they have none, or each its own as in PET."""
    if len({_scale_of(header) for header in derivation.derived}) > 1 or "RescaleSlope" not in derivation.derived[0]:
        return None
    slope, intercept = _scale_of(derivation.derived[0])
    return ModalityLUTTransformation(
        rescale_intercept=DSfloat(intercept, auto_format=True),
        rescale_slope=DSfloat(slope, auto_format=True),
        rescale_type=str(derivation.derived[0].get("RescaleType") or "US"),
    )


def _forget_scales(images: list[Dataset]) -> None:
    """highdicom would refuse images that do not agree on one Modality LUT."""
    for image in images:
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            if keyword in image:
                delattr(image, keyword)


def _windows(
    derivation: Derivation, images: list[Dataset], *, in_stored_values: bool
) -> list[SoftcopyVOILUTTransformation]:
    """The images' first windows, one item for all images of the same window.

    A presentation state has one Modality LUT for all its images, and none means identity (PS3.4 N.2). Where each image
    has its own slope, the windows are therefore given in stored values: what is seen is the same.
    """
    groups: dict[Window, list[Dataset]] = defaultdict(list)
    for k, image in enumerate(images):
        window = derived_window(derivation, k)
        groups[_in_stored_values(window, derivation.derived[k]) if in_stored_values else window].append(image)
    return [
        SoftcopyVOILUTTransformation(
            window_center=DSfloat(window.center, auto_format=True),
            window_width=DSfloat(window.width, auto_format=True),
            voi_lut_function=window.function or None,
            referenced_images=ReferencedImageSequence(members) if len(groups) > 1 else None,
        )
        for window, members in groups.items()
    ]


def _in_stored_values(window: Window, header: Dataset) -> Window:
    slope, intercept = _scale_of(header)
    # PS3.3 C.11.2.1.2: a width is at least 1
    return Window((window.center - intercept) / slope, max(window.width / slope, 1.0), window.function)
