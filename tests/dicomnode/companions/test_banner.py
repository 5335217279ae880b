"""The banner: a presentation state over the derived series."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.companions.banner import banner
from dicomnode.companions.derivation import Derivation
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import phantom_derivation, read, written
from tests.builders_dicom import card_for
from tests.validators import dcmftest, dcmpschk, unexpected


def soft_tissue(source: Volume) -> Outcome:
    return Outcome(source.with_values(np.zeros_like(source.values), Unit.HU))


def banner_of(derivation: Derivation) -> Dataset:
    instance = banner(derivation)
    assert instance is not None
    return read(instance)


def referenced(items: list[Dataset]) -> list[str]:
    return [str(item.ReferencedSOPInstanceUID) for item in items]


def test_the_words_stand_over_every_derived_image(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", card=card_for("CT", label="denoised"))
    made, expected = banner_of(derivation), [str(image.SOPInstanceUID) for image in derivation.derived]
    assert made.Modality == "PR"
    (annotation,) = made.GraphicAnnotationSequence
    (text,) = annotation.TextObjectSequence
    assert text.UnformattedTextValue == "AI: denoised - RESEARCH, not for diagnosis"
    assert text.BoundingBoxAnnotationUnits == "DISPLAY"
    assert referenced(annotation.ReferencedImageSequence) == expected
    (series,) = made.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == derivation.derived[0].SeriesInstanceUID
    assert referenced(series.ReferencedImageSequence) == expected


@pytest.mark.parametrize(
    ("modality", "to", "options"),
    [
        ("CT", "", {}),
        ("CT", "", {"WindowCenter": ["50", "-600"], "WindowWidth": ["350", "1500"]}),
        ("CT", "", {"slices": 1, "rows": 9, "columns": 7}),
        ("PT", "", {"slices": 1}),
        ("MR", "", {}),
        ("MR", "", {"WindowCenter": None, "WindowWidth": None}),
        ("MR", "", {"PhotometricInterpretation": "MONOCHROME1"}),
        ("PT", "CT", {}),
        ("MR", "CT", {"spacing_mm": (3.0, 2.0, 0.5)}),
    ],
)
def test_validators_of_other_makers_pass_it(tmp_path: Path, modality: str, to: str, options: dict[str, object]) -> None:
    card = card_for(modality, to=to)
    derivation = phantom_derivation(
        tmp_path / "s", modality, outcome_of=soft_tissue if to else None, card=card, **options
    )
    instance = banner(derivation)
    assert instance is not None
    (path,) = written(tmp_path / "made", instance)
    assert dcmpschk(path) == [] and unexpected(path) == [] and dcmftest(path)


def shown(made: Dataset, derivation: Derivation, k: int, value: float) -> float:
    """The grey, 0 to 1, that the presentation state gives to a value of derived image k."""
    header = derivation.derived[k]
    stored = (value - float(header.get("RescaleIntercept") or 0)) / float(header.get("RescaleSlope") or 1)
    behind = stored * float(made.get("RescaleSlope") or 1) + float(made.get("RescaleIntercept") or 0)
    (window,) = [
        item
        for item in made.SoftcopyVOILUTSequence
        if "ReferencedImageSequence" not in item
        or str(header.SOPInstanceUID) in referenced(item.ReferencedImageSequence)
    ]
    grey = (behind - float(window.WindowCenter)) / float(window.WindowWidth) + 0.5
    return 1 - grey if made.PresentationLUTShape == "INVERSE" else grey


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_every_image_is_shown_by_its_own_window_in_the_images_own_unit(tmp_path: Path, modality: str) -> None:
    options = {"slices": 1} if modality == "PT" else {}
    derivation = phantom_derivation(tmp_path / "s", modality, **options)
    made = banner_of(derivation)
    for k, header in enumerate(derivation.derived):
        center, width = float(header.WindowCenter), float(header.WindowWidth)
        assert shown(made, derivation, k, center) == pytest.approx(0.5, abs=1e-4)
        assert shown(made, derivation, k, center + width / 2) == pytest.approx(1.0, abs=1e-3)


def test_every_banner_has_the_modality_lut_of_its_images_whether_a_viewer_takes_it_from_here_or_there(
    tmp_path: Path,
) -> None:
    for modality, options in (("CT", {}), ("PT", {"slices": 1}), ("MR", {})):
        derivation = phantom_derivation(tmp_path / modality, modality, **options)
        made = banner_of(derivation)
        for header in derivation.derived:
            assert made.get("RescaleSlope") == header.get("RescaleSlope")
            assert made.get("RescaleIntercept") == header.get("RescaleIntercept")


def test_pet_slices_with_slopes_of_their_own_get_no_banner_rather_than_windows_in_stored_values(
    tmp_path: Path,
) -> None:
    derivation = phantom_derivation(tmp_path / "s", "PT")
    assert len({header.RescaleSlope for header in derivation.derived}) > 1
    assert banner(derivation) is None


def test_pet_slices_of_one_slope_get_a_banner(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", "PT")
    headers = [Dataset(header) for header in derivation.derived]
    for header in headers:
        header.RescaleSlope = "0.5"
    made = banner_of(replace(derivation, derived=tuple(headers)))
    assert (made.RescaleSlope, made.RescaleIntercept) == (0.5, 0)


def test_an_mr_that_is_dark_where_high_stays_so(tmp_path: Path) -> None:
    made = banner_of(phantom_derivation(tmp_path / "s", "MR", PhotometricInterpretation="MONOCHROME1"))
    assert made.PresentationLUTShape == "INVERSE"


def test_pixels_that_are_not_square_are_shown_in_their_proportions(tmp_path: Path) -> None:
    made = banner_of(phantom_derivation(tmp_path / "s", spacing_mm=(3.0, 2.0, 0.5)))
    (area,) = made.DisplayedAreaSelectionSequence
    assert [float(value) for value in area.PresentationPixelSpacing] == [2.0, 0.5]
    assert "PresentationPixelAspectRatio" not in area


def test_the_same_work_gives_the_same_bytes(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    assert banner(derivation) == banner(derivation)
