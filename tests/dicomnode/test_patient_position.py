"""How the patient lies is said the same way in CT, MR and PET."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomnode.patient_position import MEANINGS, orientation_codes, patient_position
from dicomnode.source_image import SourceImage


def image(position: str = "", codes_of: str = "") -> SourceImage:
    header = Dataset()
    if position:
        header.PatientPosition = position
    for keyword, sequence in orientation_codes(codes_of).items() if codes_of else ():
        setattr(header, keyword, sequence)
    return SourceImage(Path("none"), header, {})


POSITIONS = [entering + lying for entering in ("HF", "FF") for lying in ("S", "P", "DR", "DL")]


@pytest.mark.parametrize("position", POSITIONS)
def test_c29_every_lying_position_survives_the_codes_of_pet(position: str) -> None:
    assert patient_position(image(codes_of=position)) == position
    assert patient_position(image(position)) == position


def test_the_older_codes_are_understood() -> None:
    older = image(codes_of="HFS").dataset
    recumbent = older.PatientOrientationCodeSequence[0]
    recumbent.PatientOrientationModifierCodeSequence[0].CodeValue = "F-10310"
    older.PatientGantryRelationshipCodeSequence[0].CodeValue = "F-10480"
    assert patient_position(SourceImage(Path("none"), older, {})) == "FFP"


def test_two_that_disagree_and_none_at_all_are_left_open() -> None:
    assert patient_position(image("HFS", "FFS")) == ""
    assert patient_position(image("HFS", "HFS")) == "HFS"
    assert patient_position(image()) == ""


def test_a_position_without_codes_gives_empty_sequences() -> None:
    assert not any(orientation_codes("").values())
    assert not any(orientation_codes("SITTING").values())
    assert set(MEANINGS) == {"S", "P", "DR", "DL", "HF", "FF"}
