"""The windows that slices are shown by."""

from pathlib import Path

import numpy as np
import pytest

from dicomnode.companions.windows import CT_WINDOW, Window, derived_window, result_window, source_window
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import phantom_derivation
from tests.builders_dicom import card_for

NONE = {"WindowCenter": None, "WindowWidth": None}


def test_the_sources_first_window_is_kept(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", WindowCenter=["50", "-600"], WindowWidth=["350", "1500"])
    assert source_window(derivation, 0) == result_window(derivation, 0) == Window(50, 350)
    assert derived_window(derivation, 0) == Window(50, 350)


def test_a_ct_without_a_window_is_shown_as_soft_tissue(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", **NONE)
    assert source_window(derivation, 1) == result_window(derivation, 1) == CT_WINDOW == Window(40, 400)


@pytest.mark.parametrize("modality", ["PT", "MR"])
def test_a_pet_or_mr_without_a_window_is_scaled_to_its_values(tmp_path: Path, modality: str) -> None:
    derivation = phantom_derivation(tmp_path / "s", modality, **NONE)
    window, values = source_window(derivation, 2), derivation.source.values[2]
    low, high = window.center - window.width / 2, window.center + window.width / 2
    assert low <= float(values.min()) + 1e-3 and float(np.median(values)) < high <= float(values.max()) + 1e-3
    assert derived_window(derivation, 2).width >= 1


def test_an_even_slice_still_has_a_window(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", "MR", values=np.zeros((3, 32, 32), np.int32), **NONE)
    assert source_window(derivation, 0).width == 1 and derived_window(derivation, 0).width >= 1


def test_a_synthetic_ct_is_shown_in_hu_beside_a_pet_in_its_own_window(tmp_path: Path) -> None:
    def soft_tissue(source: Volume) -> Outcome:
        return Outcome(source.with_values(np.zeros_like(source.values), Unit.HU))

    card = card_for("PT", to="CT")
    derivation = phantom_derivation(
        tmp_path / "s", "PT", outcome_of=soft_tissue, card=card, WindowCenter="4000", WindowWidth="8000"
    )
    assert source_window(derivation, 0) == Window(4000, 8000)
    assert result_window(derivation, 0) == Window(40, 400)
