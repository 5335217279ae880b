"""Each single fault in a result is caught before anything of it is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from dicomnode.derive import derive_series
from dicomnode.errors import OutputFault
from dicomnode.gate.kind_rules import header_findings
from dicomnode.gate.output_gate import check_instance, check_outcome, check_series, outcome_findings
from dicomnode.gate.series_rules import Members
from dicomnode.load import load_volume
from inference.pipeline import Outcome
from inference.volume import Geometry, Unit, Volume
from tests.builders_dicom import (
    card_for,
    derived_datasets,
    job_facts,
    write_ct_series,
    write_mr_series,
    write_pet_series,
)
from tests.builders_faults import FAULTS, G3_FAULTS, GoodImage, Spoil, good_image, sets, spoiled


def rule_of(check: Callable[[], Any]) -> str:
    with pytest.raises(OutputFault) as fault:
        check()
    assert "Phantom" not in str(fault.value)
    return fault.value.rule


def checked(good: GoodImage, content: bytes, **changes: Any) -> None:
    given = {"values": good.values, "outside": good.outside} | changes
    check_instance(content, given.pop("card", good.card), given.pop("image", good.image), **given)


@pytest.mark.parametrize("kind", ["CT", "PT", "MR", "SYN"])
def test_a_good_result_of_each_kind_passes_as_a_whole(kind: str) -> None:
    good = good_image(kind)
    checked(good, good.content)


def test_good_series_of_each_kind_pass(tmp_path: Path) -> None:
    for files, card in (
        (write_ct_series(tmp_path / "ct"), card_for("CT")),
        (write_pet_series(tmp_path / "pet"), card_for("PT")),
        (write_pet_series(tmp_path / "nac", attenuation_corrected=False), card_for("PT", to="CT")),
        (write_mr_series(tmp_path / "mr"), card_for("MR")),
        (write_mr_series(tmp_path / "mr-to-ct"), card_for("MR", to="CT")),
    ):
        for dataset in derived_datasets(files, card):
            assert [finding for finding in header_findings(dataset) if not finding.holds] == []


@pytest.mark.parametrize(("rule", "kind", "spoil"), G3_FAULTS)
def test_g3_a_fault_that_validators_pass_over_is_named_by_its_rule(rule: str, kind: str, spoil: Spoil) -> None:
    good = good_image(kind)
    assert rule_of(lambda: checked(good, spoiled(good.content, spoil))) == rule


@pytest.mark.parametrize(("rule", "kind", "spoil"), FAULTS)
def test_each_single_fault_is_named_by_its_rule(rule: str, kind: str, spoil: Spoil) -> None:
    good = good_image(kind)
    assert rule_of(lambda: checked(good, spoiled(good.content, spoil))) == rule


def test_every_rule_of_a_finished_image_has_its_fault() -> None:
    tried = {rule for rule, _, _ in (*FAULTS, *G3_FAULTS)}
    wanted = {f"C{number}" for number in range(1, 30)} | {f"T{number}" for number in range(1, 5)}
    wanted |= {f"P{number}" for number in (1, 2, 3, 4, 5, 7)} | {"M1", "M2", "U1", "U2", "U6", "K1"}
    assert wanted <= tried and len(FAULTS) + len(G3_FAULTS) >= 60


def test_p6_a_lost_philips_scale_factor_is_caught() -> None:
    good = good_image("PT")
    given = replace(
        good.image, elements={**good.image.elements, 0x70531000: dcmread(DicomBytesIO(good.content))["Units"]}
    )
    assert rule_of(lambda: checked(good, good.content, image=given)) == "P6"


def test_c20_a_lossy_history_that_was_lost_is_caught() -> None:
    good = good_image("CT")
    good.image.dataset.LossyImageCompression = "01"
    try:
        assert rule_of(lambda: checked(good, good.content)) == "C20"
    finally:
        del good.image.dataset.LossyImageCompression


def test_c13_the_neighbour_as_first_source_is_caught(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    made = list(derive_series(Outcome(source), card_for("CT"), images, job=job_facts()))
    faulty = lambda: check_instance(made[1].content, card_for("CT"), images[0], values=source.values[1])  # noqa: E731
    assert rule_of(faulty) in ("C5", "C13")


def test_the_image_of_another_pipeline_is_caught() -> None:
    good = good_image("CT")
    for rule, card in (
        ("C1", card_for("PT")),
        ("C10", card_for("CT", name="another")),
        ("C11", card_for("CT", token="MAR")),
        ("C23", card_for("CT", synthetic=True)),
    ):
        assert rule_of(lambda card=card: checked(good, good.content, card=card)) == rule


def test_c13_more_sources_than_the_pipeline_reads_are_caught(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    card = card_for("CT", context_slices=1)
    made = list(derive_series(Outcome(source), card, images, job=job_facts()))
    check_instance(made[1].content, card, images[1], values=source.values[1])
    narrow = card_for("CT")
    assert rule_of(lambda: check_instance(made[1].content, narrow, images[1], values=source.values[1])) == "C13"


@pytest.mark.parametrize(("kind", "rule"), [("CT", "T1"), ("PT", "P3"), ("MR", "M2")])
def test_a_single_wrong_voxel_is_caught(kind: str, rule: str) -> None:
    good = good_image(kind)
    changed = good.values.copy()
    changed[8, 8] += 3
    assert rule_of(lambda: checked(good, good.content, values=changed)) == rule


def test_t4_padding_that_is_not_the_sources_is_caught() -> None:
    good = good_image("CT")
    held = replace(good.image, outside_values=np.array([-2000], np.float32))
    assert rule_of(lambda: checked(good, good.content, image=held)) == "T4"


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


def test_c5_an_uneven_stack_is_held_slice_by_slice(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    corners = np.array([image.numbers("ImagePositionPatient") for image in images])
    uneven = replace(source.geometry, corners_mm=corners)
    check_outcome(outcome_with(source, geometry=uneven), card_for("CT"), images)
    moved = corners.copy()
    moved[2, 0] += 0.2
    for faulty in (moved, corners[:3], np.full_like(corners, np.nan)):
        geometry = replace(source.geometry, corners_mm=faulty)
        outcome = outcome_with(source, geometry=geometry)
        assert rule_of(lambda outcome=outcome: check_outcome(outcome, card_for("CT"), images)) == "C5"


def test_frames_of_one_instance_are_different_sources(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    uid = images[0].sop_instance_uid
    for image in images:
        image.dataset.SOPInstanceUID = uid
    frames = [replace(image, frame=number) for number, image in enumerate(images, 1)]
    check_outcome(Outcome(source), card_for("CT"), frames)
    assert rule_of(lambda: check_outcome(Outcome(source), card_for("CT"), images)) == "C13"


def test_what_comes_beside_the_image_is_held_too(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    shape = source.values.shape
    faults: list[tuple[str, dict[str, Any]]] = [
        ("S1", {"masks": {"metal": np.zeros(shape[1:], np.bool_)}}),
        ("S1", {"masks": {"metal": np.zeros(shape, np.uint8)}}),
        ("S3", {"uncertainty": np.zeros(shape[1:], np.float32)}),
        ("S3", {"uncertainty": np.full(shape, -1, np.float32)}),
        ("S3", {"uncertainty": np.full(shape, np.nan, np.float32)}),
        ("S5", {"measurements": {"volume_ml": float("inf")}}),
        ("C5", {"unchanged": frozenset({4})}),
    ]
    for rule, changes in faults:
        outcome = replace(Outcome(source), **changes)
        assert rule_of(lambda outcome=outcome: check_outcome(outcome, card_for("CT"), images)) == rule
    good = replace(Outcome(source), masks={"metal": np.zeros(shape, np.bool_)}, uncertainty=np.zeros(shape, np.float32))
    assert all(finding.holds for finding in outcome_findings(good, card_for("CT"), images))


def test_t1_an_old_receivers_ct_is_cut_to_12_bits_by_wish_and_a_wrong_voxel_is_still_caught(tmp_path: Path) -> None:
    values = np.full((2, 16, 16), 40)
    values[:, 4:8, 4:8] = 9000
    source, images = load_volume(write_ct_series(tmp_path, values=values))
    facts = job_facts(ct_pixels="unsigned-12")
    made = list(derive_series(Outcome(source), card_for("CT"), images, job=facts))
    dataset = dcmread(DicomBytesIO(made[0].content))
    assert (dataset.BitsStored, dataset.RescaleIntercept) == (12, -1024)
    check_instance(made[0].content, card_for("CT"), images[0], values=source.values[0])
    changed = source.values[0].copy()
    changed[0, 0] += 2
    assert rule_of(lambda: check_instance(made[0].content, card_for("CT"), images[0], values=changed)) == "T1"


def test_the_last_instance_is_given_only_when_all_make_one_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    made = derive_series(Outcome(source), card_for("CT"), images, job=job_facts())
    monkeypatch.setattr("dicomnode.description.instance_numbers", lambda images: [4, 3, 2, 1])
    given = []
    assert rule_of(lambda: given.extend(made)) == "C6"


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        ("C6", {"InstanceNumber": 4}),
        ("C7", {"SeriesNumber": 9}),
        ("C8", {"SeriesDescription": "Another (AI)"}),
        ("C3", {"SOPInstanceUID": "2.25.1"}),
        ("C23", {"SyntheticData": "YES"}),
    ],
)
def test_a_series_that_is_not_one_is_caught(tmp_path: Path, rule: str, faults: dict[str, Any]) -> None:
    files = write_ct_series(tmp_path)
    _, images = load_volume(files)
    made = derived_datasets(files, card_for("CT"))
    check_series(Members.of(made), images, card_for("CT"))
    assert rule_of(lambda: check_series(Members.of(made[:3]), images, card_for("CT"))) == "C13"
    some = made if rule in ("C23", "C7") else made[1:3]
    for dataset in some:
        sets(**faults)(dataset)
    assert rule_of(lambda: check_series(Members.of(made), images, card_for("CT"))) == rule
