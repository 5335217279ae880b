"""The page to read: Enhanced SR, TID 2000."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicomnode.companions.report import measurement_report
from dicomnode.companions.text_report import text_report
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import derivation_from, phantom_derivation, read, written
from tests.builders_dicom import card_for, with_bytes, write_ct_series
from tests.validators import dcmftest, dsrdump, unexpected


def test_the_page_says_what_was_done_how_far_to_trust_it_and_what_was_found(tmp_path: Path) -> None:
    card = card_for("CT", label="denoised", method="nlm", settings={"strength": 0.5}, intended_use="review")
    derivation = phantom_derivation(tmp_path / "s", card=card)
    (path,) = written(tmp_path / "made", text_report(derivation))
    text = "\n".join(dsrdump(path))
    for words in (
        "AI: denoised - RESEARCH, not for diagnosis",
        "For research only, not for diagnosis.",
        "Pipeline identity version 1.0, method nlm",
        "Settings: strength = 0.5.",
        'Source: CT series number 3 "Abdomen 3.0 B30f", 4 slices',
        "2 of 4 slices were passed through unchanged: image 1, 4.",
        "a block was changed.",
        f'"metal volume")="{derivation.outcome.measurements["metal_volume_ml"]:g}" (ml,UCUM,"milliliter")',
        "Compare with the source images.",
        "Intended use: review.",
    ):
        assert words in text, words
    headings = ["Summary", "Current Procedure Descriptions", "Findings", "Recommendations", "Key Images"]
    places = [text.index(f'CONTAINER:(,,"{heading}")') for heading in headings]
    assert places == sorted(places)


def test_the_root_says_its_template(tmp_path: Path) -> None:
    made = read(text_report(phantom_derivation(tmp_path / "s")))
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "2000"
    assert (made.PreliminaryFlag, made.CompletionFlag, made.VerificationFlag) == ("FINAL", "COMPLETE", "UNVERIFIED")


def test_the_page_points_at_the_derived_image_that_changed_most_and_at_its_source(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    made = read(text_report(derivation))
    images = [item for item in made.ContentSequence[-1].ContentSequence if item.ValueType == "IMAGE"]
    uids = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
    assert uids == [derivation.derived[1].SOPInstanceUID, derivation.images[1].sop_instance_uid]


def test_a_product_is_not_called_research(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", job={"content_qualification": "PRODUCT"})
    (path,) = written(tmp_path / "made", text_report(derivation))
    text = "\n".join(dsrdump(path))
    assert "PRODUCT" in text and "RESEARCH" not in text


def soft_tissue(source: Volume) -> Outcome:
    return Outcome(source.with_values(np.zeros_like(source.values), Unit.HU))


@pytest.mark.parametrize(("modality", "to"), [("CT", ""), ("PT", ""), ("MR", ""), ("PT", "CT"), ("MR", "CT")])
def test_the_page_is_right_for_every_modality(tmp_path: Path, modality: str, to: str) -> None:
    outcome_of = soft_tissue if to else None
    derivation = phantom_derivation(tmp_path / "s", modality, outcome_of=outcome_of, card=card_for(modality, to=to))
    (path,) = written(tmp_path / "made", text_report(derivation))
    assert unexpected(path) == [] and dcmftest(path)
    assert ("synthetic, not acquired" in "\n".join(dsrdump(path))) == bool(to)


def test_a_job_without_measurements_masks_and_notes_still_has_its_page(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=1, outcome_of=lambda source: Outcome(source))
    (path,) = written(tmp_path / "made", text_report(derivation))
    assert "0 of 1 slices were passed through unchanged." in "\n".join(dsrdump(path)) and unexpected(path) == []


NAMES = {
    "Japanese": (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    "Chinese": (["", "ISO 2022 IR 58"], b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"),
}


@pytest.mark.parametrize("language", NAMES)
def test_k1_dcmtk_reads_the_page_and_the_measurements_of_a_patient_whose_name_needs_escapes(
    tmp_path: Path, language: str
) -> None:
    character_set, name = NAMES[language]
    assert len(name) % 2 == 0
    placeholder = "P^" + "x" * (len(name) - 2)
    files = write_ct_series(tmp_path / "s", PatientName=placeholder, SpecificCharacterSet=character_set)
    for file in files:
        with_bytes(file, placeholder.encode(), name)
    derivation = derivation_from(files)
    reports = text_report(derivation), measurement_report(derivation, segmentations={})
    for path in written(tmp_path / "made", *reports):
        text = "\n".join(dsrdump(path))
        assert f"Patient             : {name.decode('latin-1').strip()} (O" in text
        assert "metal volume" in text and unexpected(path) == []


def test_the_same_work_gives_the_same_bytes(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    assert text_report(derivation) == text_report(replace(derivation))
