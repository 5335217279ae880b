"""What the objects beside a derived series say in words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.companions import statements
from dicomnode.companions.derivation import Derivation
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import phantom_derivation
from tests.builders_dicom import card_for


def test_the_headline_warns_that_it_is_research(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", card=card_for("CT", label="denoised"))
    assert statements.headline(derivation) == "AI: denoised - RESEARCH, not for diagnosis"
    product = phantom_derivation(tmp_path / "p", card=derivation.card, job={"content_qualification": "PRODUCT"})
    assert statements.headline(product) == "AI: denoised - compare with the source images"
    assert "PRODUCT" in statements.qualification(product) and "RESEARCH" in statements.qualification(derivation)


def test_c22_words_follow_the_derived_images_not_the_job(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", job={"content_qualification": "PRODUCT"})
    research = [Dataset(header) for header in derivation.derived]
    for header in research:
        header.ContentQualification = "RESEARCH"  # as the images of a research source are
    of_research = replace(derivation, derived=tuple(research))
    assert "RESEARCH, not for diagnosis" in statements.headline(of_research)
    assert "RESEARCH. For research only" in statements.qualification(of_research)


def test_a_synthetic_image_is_called_so(tmp_path: Path) -> None:
    def soft_tissue(source: Volume) -> Outcome:
        return Outcome(source.with_values(np.zeros_like(source.values), Unit.HU))

    derivation = phantom_derivation(tmp_path / "s", "PT", outcome_of=soft_tissue, card=card_for("PT", to="CT"))
    assert "SYNTHETIC, not acquired" in statements.headline(derivation)
    assert "synthetic, not acquired" in statements.qualification(derivation)


def test_what_was_done_names_pipeline_method_settings_source_and_job(tmp_path: Path) -> None:
    card = card_for("CT", version="2.1", method="nmar", settings={"strength": 0.5}, weights_sha256="ef" * 32)
    text = " ".join(statements.what_was_done(phantom_derivation(tmp_path / "s", card=card)))
    for words in (
        "Pipeline identity version 2.1, method nmar, weights sha256 efef",
        "Settings: strength = 0.5.",
        'CT series number 3 "Abdomen 3.0 B30f", 4 slices',
        "Job abababababababab of 2025-03-01",
    ):
        assert words in text


def test_words_of_the_source_that_are_not_plain_ascii_are_left_out_rather_than_misread(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", SeriesDescription="Schädel")
    text = " ".join(statements.what_was_done(derivation))
    assert text.isascii() and "Sch" not in text


def with_outcome(derivation: Derivation, **changes: object) -> Derivation:
    return replace(derivation, outcome=replace(derivation.outcome, **changes))  # type: ignore[arg-type]


def test_unchanged_slices_are_counted_and_named_by_their_image_numbers(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=6)
    unchanged = with_outcome(derivation, unchanged=frozenset({0, 1, 4}))
    assert statements.unchanged_slices(unchanged) == "3 of 6 slices were passed through unchanged: image 1-2, 5"
    none = with_outcome(derivation, unchanged=frozenset())
    assert statements.unchanged_slices(none) == "0 of 6 slices were passed through unchanged"


def test_an_empty_mask_and_a_measurement_without_a_number_are_said_in_words(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    nothing = np.zeros_like(derivation.outcome.masks["metal"])
    changed = with_outcome(derivation, masks={"metal": nothing}, measurements={"streak_before_hu": float("nan")})
    text = " ".join(statements.remarks(changed))
    assert "no metal was found" in text and "The measurement streak before has no number." in text
    assert "a block was changed." in text
    assert "no metal was found" not in " ".join(statements.remarks(derivation))
