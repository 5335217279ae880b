"""An input is one whole stack of the source's own patient, or the job is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import SeriesUnusable
from dicomnode.input_series import load_input
from inference.volume import Unit
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_stacks import write_dynamic_pet


def refusal(files: list[Path], sources: list[Path]) -> str:
    with pytest.raises(SeriesUnusable) as caught:
        load_input("ct", files, sources, accept_lossy=False)
    return caught.value.reason_code


def test_an_input_is_a_volume_in_its_unit(tmp_path: Path) -> None:
    volume = load_input("ct", write_ct_series(tmp_path / "ct"), write_pet_series(tmp_path / "pet"), accept_lossy=False)
    assert (volume.unit, volume.values.shape) == (Unit.HU, (4, 64, 64))


def test_one_image_of_another_patient_refuses_the_job(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        if k == 2:
            dataset.PatientID = "SOMEBODY-ELSE"

    assert refusal(write_ct_series(tmp_path / "ct", each=spoil), write_pet_series(tmp_path / "pet")) == (
        "input-other-patient"
    )


def test_an_input_with_a_gap_or_of_several_stacks_is_refused(tmp_path: Path) -> None:
    pet = write_pet_series(tmp_path / "pet")
    gap = write_ct_series(tmp_path / "gap", slices=6)
    assert refusal([*gap[:3], *gap[4:]], pet) == "slices-missing"

    def two_kernels(k: int, dataset: Dataset) -> None:
        dataset.ConvolutionKernel = ("B30f", "B70f")[k % 2]

    assert refusal(write_ct_series(tmp_path / "two", slices=6, each=two_kernels), pet).startswith("mixed-")


def test_a_dynamic_input_is_not_one_stack(tmp_path: Path) -> None:
    assert refusal(write_dynamic_pet(tmp_path / "frames"), write_pet_series(tmp_path / "pet")) == "input-not-one-stack"
