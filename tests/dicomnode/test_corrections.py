"""What a header says of attenuation correction is read alike where it enters and where it leaves."""

from pathlib import Path

import pytest

from dicomnode.corrections import names_a_method
from tests.builders_dicom import card_for, derived_datasets, write_pet_series


@pytest.mark.parametrize("said", ["NONE", "none, no AC", " None ", ""])
@pytest.mark.parametrize("to", ["", "CT"])
def test_a_pet_that_says_it_has_no_correction_enters_and_leaves(tmp_path: Path, said: str, to: str) -> None:
    assert not names_a_method(said)
    files = write_pet_series(tmp_path, attenuation_corrected=False, AttenuationCorrectionMethod=said)
    made = derived_datasets(files, card_for("PT", to=to))
    assert len(made) == 4
    assert to or {one.AttenuationCorrectionMethod.strip() for one in made} == {said.strip()}


def test_a_method_is_a_method() -> None:
    assert names_a_method("measured,AC CT") and names_a_method("CT-derived mu-map")
