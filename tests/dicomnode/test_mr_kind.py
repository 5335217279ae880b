"""Only the magnitude of the signal is run; maps, parts and weighted images are known by their header's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode.mr_kind import undeclared_mr
from dicomnode.source_image import read_source_image
from tests.builders_dicom import write_ct_series, write_mr_series


def reason_of(folder: Path, *words: str, **attributes: Any) -> str:
    (path,) = write_mr_series(folder, slices=1, ImageType=["DERIVED", "PRIMARY", *words], **attributes)
    fault = undeclared_mr(read_source_image(path))
    return "" if fault is None else fault.reason_code


@pytest.mark.parametrize(
    "words",
    [
        ("DIFFUSION", "ADC"),
        ("DIFFUSION", "FA"),
        ("ADC", "NORM", "DIS2D"),
        ("PERFUSION", "RELCBF"),
        ("EADC",),
        ("T1 MAP",),
        ("M", "T2_STAR MAP"),
        ("METABOLITE_MAP",),
        ("OTHER", "rcbv"),
    ],
)
def test_m3_a_calculated_map_is_no_signal(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert reason_of(tmp_path, *words) == "calculated-map"
    assert reason_of(tmp_path / "b", *words, DiffusionBValue=0.0) == "calculated-map"


@pytest.mark.parametrize("words", [("P",), ("PHASE MAP", "P"), ("r",), ("I",), ("VELOCITY",)])
def test_m3_a_part_of_the_complex_signal_is_not_its_magnitude(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert reason_of(tmp_path, *words) == "not-magnitude"


@pytest.mark.parametrize("words", [("DIFFUSION", "NONE"), ("DIFFUSION", "TRACEW", "NORM"), ("DWI",)])
def test_m3_a_word_says_diffusion_weighted_unless_a_b_value_of_nought_says_otherwise(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert reason_of(tmp_path, *words) == "diffusion"
    assert reason_of(tmp_path / "weighted", *words, DiffusionBValue=800.0) == "diffusion"
    assert reason_of(tmp_path / "b0", *words, DiffusionBValue=0.0) == ""


@pytest.mark.parametrize(
    "words", [("M", "ND"), ("M_SE", "M", "SE"), ("OTHER",), ("PERFUSION", "NONE", "MOCO"), ("MPR",), ("WATER",)]
)
def test_m3_a_magnitude_image_is_taken_whatever_else_its_type_says(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert reason_of(tmp_path, *words) == ""


def test_a_ct_is_never_asked(tmp_path: Path) -> None:
    (path,) = write_ct_series(tmp_path, slices=1, ImageType=["DERIVED", "SECONDARY", "AXIAL", "P", "ADC"])
    assert undeclared_mr(read_source_image(path)) is None
