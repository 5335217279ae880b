"""Each single fault in a result is caught before anything of it is kept."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.derive import derive_series
from dicomnode.errors import OutputFault
from dicomnode.load import load_volume
from dicomnode.output_gate import check_header, check_instance, check_outcome
from dicomnode.source_image import SourceImage
from inference.pipeline import Card, Outcome
from inference.volume import Geometry, Unit, Volume
from tests.builders_dicom import (
    card_for,
    derived_datasets,
    job_facts,
    write_ct_series,
    write_mr_series,
    write_pet_series,
)


def rule_of(check: Callable[[], Any]) -> str:
    with pytest.raises(OutputFault) as fault:
        check()
    assert "Phantom" not in str(fault.value)
    return fault.value.rule


def test_good_results_pass(tmp_path: Path) -> None:
    for files, card in (
        (write_ct_series(tmp_path / "ct"), card_for("CT")),
        (write_pet_series(tmp_path / "pet"), card_for("PT")),
        (write_pet_series(tmp_path / "nac", attenuation_corrected=False), card_for("PT", to="CT")),
        (write_mr_series(tmp_path / "mr"), card_for("MR")),
    ):
        for dataset in derived_datasets(files, card):
            check_header(dataset)


def purpose(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[-1].PurposeOfReferenceCodeSequence[0].CodeValue = "121322"


def no_maker(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[0].Manufacturer = ""


def another_reference(dataset: Dataset) -> None:
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def no_references(dataset: Dataset) -> None:
    del dataset.SourceImageSequence
    del dataset.ReferencedSeriesSequence


def own_source(dataset: Dataset) -> None:
    uid = dataset.SOPInstanceUID
    dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = uid
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = uid


def sets(**attributes: Any) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.update(attributes_of(attributes))


def attributes_of(attributes: dict[str, Any]) -> Dataset:
    changed = Dataset()
    for keyword, value in attributes.items():
        setattr(changed, keyword, value)
    return changed


FAULTS: list[tuple[str, str, Callable[[Dataset], None]]] = [
    ("C11", "CT", sets(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])),
    ("C11", "PT", sets(ImageType=["DERIVED", "SECONDARY"])),
    ("C1", "CT", sets(Modality="PT")),
    ("C1", "CT", sets(Modality="OT")),
    ("C1", "CT", sets(SOPInstanceUID="1.2.3")),
    ("T1", "CT", sets(RescaleType="US")),
    ("P7", "PT", sets(RescaleType="BQML")),
    ("P7", "PT", sets(PatientPosition="HFS")),
    ("C10", "CT", purpose),
    ("C10", "CT", no_maker),
    ("C13", "CT", no_references),
    ("C14", "CT", another_reference),
    ("C3", "CT", own_source),
    ("C25", "CT", lambda dataset: dataset.add_new("PixelPaddingValue", "SS", -1024)),
    ("C20", "CT", sets(LossyImageCompression="01")),
    ("C22", "CT", sets(ContentQualification="")),
    ("C23", "CT", sets(SyntheticData="MAYBE")),
    ("P2", "PT", sets(CorrectedImage=["DECY", "SCAT"])),
    ("P2", "PT", sets(CorrectedImage=["ATTN", "SCAT"])),
    ("P2", "PT", sets(DecayCorrection="NONE")),
    ("P1", "PT", sets(SeriesTime="")),
    ("P3", "PT", sets(RescaleIntercept="1")),
    ("P4", "PT", sets(ImageIndex=0)),
]


@pytest.mark.parametrize(("rule", "modality", "spoil"), FAULTS)
def test_g3_a_fault_that_validators_pass_over_is_caught(
    tmp_path: Path, rule: str, modality: str, spoil: Callable[[Dataset], None]
) -> None:
    write = write_ct_series if modality == "CT" else write_pet_series
    dataset = derived_datasets(write(tmp_path), card_for(modality))[1]
    check_header(dataset)
    spoil(dataset)
    assert rule_of(lambda: check_header(dataset)) == rule


def finished(folder: Path, card: Card, **changes: Any) -> tuple[bytes, SourceImage, Any]:
    source, images = load_volume(write_ct_series(folder, **changes))
    made = next(iter(derive_series(Outcome(source), card, images, job=job_facts())))
    return made.content, images[0], source.values[0]


def rewritten(content: bytes, **attributes: Any) -> bytes:
    dataset, out = dcmread(BytesIO(content)), BytesIO()
    dataset.update(attributes_of(attributes))
    dataset.save_as(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("rule", "attributes"),
    [
        ("C2", {"PatientID": "PHANTOM-2"}),
        ("C2", {"PatientName": "Other^Name"}),
        ("C5", {"StudyInstanceUID": "1.2.3"}),
        ("C5", {"ImagePositionPatient": ["-32", "-32", "103"]}),
        ("C5", {"PixelSpacing": ["1.0", "1.01"]}),
        ("C5", {"FrameOfReferenceUID": "1.2.3"}),
        ("T1", {"RescaleIntercept": "-1024"}),
    ],
)
def test_what_must_be_the_sources_and_is_not_is_caught(tmp_path: Path, rule: str, attributes: dict[str, Any]) -> None:
    content, image, values = finished(tmp_path, card_for("CT"))
    check_instance(content, card_for("CT"), image, values=values)
    assert (
        rule_of(lambda: check_instance(rewritten(content, **attributes), card_for("CT"), image, values=values)) == rule
    )


def test_c13_the_neighbour_as_first_source_is_caught(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    made = list(derive_series(Outcome(source), card_for("CT"), images, job=job_facts()))
    assert rule_of(lambda: check_instance(made[1].content, card_for("CT"), images[0], values=source.values[1])) in (
        "C5",
        "C13",
    )


def test_a_single_wrong_voxel_is_caught(tmp_path: Path) -> None:
    content, image, values = finished(tmp_path, card_for("CT"))
    changed = values.copy()
    changed[3, 4] += 1
    assert rule_of(lambda: check_instance(content, card_for("CT"), image, values=changed)) == "T1"


def outcome_with(source: Volume, **changes: Any) -> Outcome:
    return Outcome(replace(source, **changes))


def test_a_result_on_another_grid_or_in_another_unit_is_caught(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    card, geometry = card_for("CT"), source.geometry
    moved = geometry.affine.copy()
    moved[2, 3] += 3.0
    turned = geometry.affine.copy()
    turned[:, [1, 2]] = turned[:, [2, 1]]
    faults = [
        ("C5", {"values": source.values[:3]}),
        ("C5", {"geometry": Geometry(moved, geometry.frame_of_reference_uid)}),
        ("C5", {"geometry": Geometry(turned, geometry.frame_of_reference_uid)}),
        ("C4", {"geometry": Geometry(geometry.affine, "1.2.3")}),
        ("T1", {"unit": Unit.ARBITRARY}),
        ("T5", {"values": np.full_like(source.values, np.nan)}),
    ]
    for rule, changes in faults:
        assert rule_of(lambda changes=changes: check_outcome(outcome_with(source, **changes), card, images)) == rule
    assert rule_of(lambda: check_outcome(Outcome(source), card, images[::-1])) == "C5"
    assert rule_of(lambda: check_outcome(Outcome(source), card, (images[0],) * 4)) == "C13"
    assert rule_of(lambda: check_outcome(Outcome(source), card_for("MR"), images)) == "C1"
    assert rule_of(lambda: check_outcome(Outcome(source), card_for("CT", to="US"), images)) == "C1"


def test_p2_activity_under_a_header_of_other_units_is_caught(tmp_path: Path) -> None:
    source, images = load_volume(write_pet_series(tmp_path))
    outcome = outcome_with(source, unit=Unit.SUV_BW)
    assert rule_of(lambda: check_outcome(outcome, card_for("PT", makes=Unit.SUV_BW), images)) == "P2"


@pytest.mark.parametrize("hounsfield", [-1101.0, 30001.0])
def test_t5_hu_that_cannot_be_are_caught(tmp_path: Path, hounsfield: float) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    values = source.values.copy()
    values[2, 5, 5] = hounsfield
    made = derive_series(outcome_with(source, values=values), card_for("CT"), images, job=job_facts())
    assert rule_of(lambda: list(made)) == "T5"


def test_t5_padding_of_the_source_is_no_fault_and_the_same_value_in_the_body_is(tmp_path: Path) -> None:
    values = np.full((2, 16, 16), 40)
    values[:, :4] = values[:, -4:] = -3024
    source, images = load_volume(write_ct_series(tmp_path, values=values))
    assert len(list(derive_series(Outcome(source), card_for("CT"), images, job=job_facts()))) == 2
    spoiled = source.values.copy()
    spoiled[0, 8, 8] = -3024
    made = derive_series(outcome_with(source, values=spoiled), card_for("CT"), images, job=job_facts())
    assert rule_of(lambda: list(made)) == "T5"
