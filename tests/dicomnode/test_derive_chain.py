"""What is derived of a derived series keeps the whole history of it (C10, C11, C12, C20, C23)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import FileDataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.derive import derive_series
from dicomnode.load import Allowed, load_stack, planned_stacks
from inference.pipeline import Card, Outcome
from tests.builders import fixtures_folder
from tests.builders_dicom import card_for, code, job_facts, write_ct_series, write_pet_series
from tests.builders_texts import TEXTS, with_texts
from tests.validators import errors, inconsistent

MAR = card_for("CT", name="ct_metal_artifact_reduction", token="MAR", label="metal artifact reduction", ordinal=1)
DENOISED = card_for("CT", name="ct_denoising", token="DENOISED", label="denoised", ordinal=2)
PET_TO_CT = card_for("PT", to="CT", name="pet_to_ct", label="synthetic CT", ordinal=4)


def step(files: Sequence[Path], card: Card, folder: Path, *, unchanged: frozenset[int] = frozenset()) -> list[Path]:
    """A derived series as files, of a source that may be one too."""
    (plan,) = planned_stacks(files, allowed=Allowed(accept_own=True, accept_lossy=True))
    source, images = load_stack(plan)
    volume = source if card.makes in (None, source.unit) else source.with_values(source.values * 0, card.makes)
    outcome = replace(Outcome(volume), unchanged=unchanged)
    folder.mkdir()
    paths = []
    for k, made in enumerate(derive_series(outcome, card, images, job=job_facts())):
        paths.append(folder / f"{k}.dcm")
        paths[-1].write_bytes(made.content)
    return paths


def read(paths: Sequence[Path]) -> list[FileDataset]:
    return [dcmread(path) for path in paths]


def test_a_denoised_mar_names_scanner_and_both_models_and_both_steps(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source")
    first = step(files, MAR, tmp_path / "mar")
    second = step(first, DENOISED, tmp_path / "denoised")
    one = read(second)[0]
    assert list(one.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "", "MAR", "DENOISED"]
    assert [item.CodeValue for item in one.DerivationCodeSequence] == ["MAR", "DENOISED"]
    assert [item.CodingSchemeDesignator for item in one.CodingSchemeIdentificationSequence] == ["99DCMNODE"]
    named = [
        (item.Manufacturer, item.get("ManufacturerModelName"), item.PurposeOfReferenceCodeSequence[0].CodeValue)
        for item in one.ContributingEquipmentSequence
    ]
    assert named == [
        ("Maker", "Scanner 9", "109101"),
        ("dicom-ai-node", "ct_metal_artifact_reduction", "109102"),
        ("dicom-ai-node", "dicom-ai-node", "109102"),
        ("dicom-ai-node", "ct_denoising", "109102"),
    ]
    text = one.DerivationDescription
    assert text.index("ct_metal_artifact_reduction 1.0") < text.index("ct_denoising 1.0")
    assert one.SeriesDescription == "Abdomen 3.0 B30f metal artifact reduction (AI) denoised (AI)"
    assert one.SeriesNumber == 30102
    assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == read(first)[0].SOPInstanceUID
    assert (one.KVP, one.AcquisitionTime, one.InstitutionName) == (120, "102010", "Hospital")
    assert [errors(path) for path in second] == [[]] * 4
    assert inconsistent([*first, *second], sources=files) == []


@pytest.mark.parametrize("name", ["ct_dental_metal_TCGA-E3-A3E5", "pet_wholebody_ac_STS_001"])
def test_two_steps_on_a_real_series_give_no_error(tmp_path: Path, name: str) -> None:
    files = sorted((fixtures_folder() / name).glob("*.dcm"))
    modality = dcmread(files[0], stop_before_pixels=True).Modality
    first = step(files, card_for(modality, name="first", token="FIRST", context_slices=1), tmp_path / "first")
    second = step(first, card_for(modality, name="second", token="SECOND"), tmp_path / "second")
    assert {line for path in second for line in errors(path)} == set()
    assert inconsistent([*first, *second], sources=files) == []
    for source, one in zip(sorted(read(files), key=height), sorted(read(second), key=height), strict=True):
        values, made = (of.pixel_array * float(of.RescaleSlope) + float(of.RescaleIntercept) for of in (source, one))
        assert np.abs(values - made).max() <= max(1.0 if modality == "CT" else 0.0, float(one.RescaleSlope) * 1.001)


def height(dataset: FileDataset) -> float:
    return float(dataset.ImagePositionPatient[2])


def test_a_step_of_a_chain_says_of_each_slice_what_was_done_to_that_slice(tmp_path: Path) -> None:
    first = step(write_ct_series(tmp_path / "source"), MAR, tmp_path / "mar", unchanged=frozenset({0}))
    second = read(step(first, DENOISED, tmp_path / "denoised"))
    assert ["unchanged" in one.DerivationDescription for one in second] == [True, False, False, False]
    assert not any("unchanged" in one.ImageComments for one in second), "the second step changed every slice"


def test_c23_t3_what_is_made_of_a_synthetic_ct_stays_synthetic_and_has_no_tube(tmp_path: Path) -> None:
    first = step(write_pet_series(tmp_path / "source", attenuation_corrected=False), PET_TO_CT, tmp_path / "synthetic")
    paths = step(first, DENOISED, tmp_path / "denoised")
    one = read(paths)[0]
    assert one.SyntheticData == "YES" and list(one.ImageType)[4:] == ["SYNTHETIC", "DENOISED"]
    assert (one.KVP, one.AcquisitionNumber, one.PatientPosition) == (None, None, "HFS")
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in one.ContributingEquipmentSequence]
    assert purposes == ["109101", "109100", "109102", "109102"]
    assert errors(paths[0]) == []


def test_c20_two_lossy_compressions_stay_two(tmp_path: Path) -> None:
    files = write_ct_series(
        tmp_path / "source",
        LossyImageCompression="01",
        LossyImageCompressionRatio=["8.5", "2.25"],
        LossyImageCompressionMethod=["ISO_10918_1", "ISO_15444_1"],
    )
    for one in read(step(step(files, MAR, tmp_path / "mar"), DENOISED, tmp_path / "denoised")):
        assert one.LossyImageCompression == "01"
        assert list(one.LossyImageCompressionRatio) == [8.5, 2.25]
        assert list(one.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1"]


def test_t4_padding_survives_both_steps(tmp_path: Path) -> None:
    values = np.full((2, 32, 32), 40)
    values[:, :6], values[:, -6:] = -2000, -2000
    first = step(write_ct_series(tmp_path / "source", values=values), MAR, tmp_path / "mar")
    for one in read(step(first, DENOISED, tmp_path / "denoised")):
        assert one.PixelPaddingValue == -2000 and (one.pixel_array == values[0]).all()


def test_c12_the_description_of_a_long_chain_fits_its_vr_and_keeps_the_beginning(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source", slices=1)
    for number in range(4):
        card = card_for("CT", name=f"step_{number}", token=f"STEP{number}", purpose="Something was done. " * 30)
        files = step(files, card, tmp_path / str(number), unchanged=frozenset({0}))
    (one,) = read(files)
    assert len(one.DerivationDescription) <= 1024
    assert one.DerivationDescription.startswith("step_0 1.0") and "step_3 1.0" in one.DerivationDescription
    assert [item.CodeValue for item in one.DerivationCodeSequence] == ["STEP0", "STEP1", "STEP2", "STEP3"]
    assert errors(files[0]) == []


def test_u5_a_chain_run_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source")
    runs = []
    for run in ("one", "two"):
        first = step(files, MAR, tmp_path / f"mar {run}")
        runs.append([path.read_bytes() for path in step(first, DENOISED, tmp_path / f"denoised {run}")])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", TEXTS)
def test_k1_c10_makers_and_hospitals_keep_their_bytes_through_a_chain_in_every_character_set(
    tmp_path: Path, name: str
) -> None:
    text = TEXTS[name]
    words = {"Manufacturer": text.name, "InstitutionName": text.name}
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code("109103", "DCM", "Modifying Equipment")]
    for keyword, value in words.items():
        item[Tag(keyword)] = RawDataElement(Tag(keyword), "LO", len(value), value, 0, False, True)
    item.set_original_encoding(False, True, item._character_set)
    files = write_ct_series(tmp_path / "source", slices=2, ContributingEquipmentSequence=[item])
    for path in files:
        with_texts(path, text.declared, words)
    first = step(files, MAR, tmp_path / "mar")
    second = step(first, DENOISED, tmp_path / "denoised")
    for path, inherited in ((first[0], 2), (second[0], 2)):
        dataset = dcmread(path)
        equipment = dataset.ContributingEquipmentSequence
        for keyword in words:
            held = [one.get_item(Tag(keyword)) for one in equipment[:inherited]]
            assert [element.value for element in held if element is not None] == [text.name] * 2, keyword
        assert len(equipment) == (3 if path == first[0] else 5)
        assert dataset.get("SpecificCharacterSet") == dcmread(files[0]).get("SpecificCharacterSet")
