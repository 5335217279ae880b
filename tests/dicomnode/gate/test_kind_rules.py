"""CT, PET and MR images are asked what only their kind has."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.gate.kind_rules import header_findings
from tests.builders_faults import good_image


def broken(dataset: Dataset) -> set[str]:
    return {finding.rule for finding in header_findings(dataset) if not finding.holds}


def good(kind: str) -> Dataset:
    return dcmread(BytesIO(good_image(kind).content))


@pytest.mark.parametrize(
    ("kind", "rules"), [("CT", {"T1", "T3"}), ("PT", {"P2", "P3", "P4", "P7"}), ("MR", {"M1", "M2"})]
)
def test_a_good_image_is_asked_the_rules_of_its_kind(kind: str, rules: set[str]) -> None:
    asked = {finding.rule for finding in header_findings(good(kind))}
    assert not broken(good(kind)) and rules <= asked
    assert not {rule for rule in asked if rule[0] in "TPM"} - {"T1", "T3", "P1", "P2", "P3", "P4", "P7", "M1", "M2"}


def test_an_object_of_no_kind_we_make_is_named() -> None:
    dataset = good("CT")
    dataset.Modality = "US"
    assert broken(dataset) == {"C1"}


def test_t1_12_bits_go_with_their_own_sign_and_intercept() -> None:
    dataset = good("CT")
    dataset.BitsStored, dataset.HighBit = 12, 11
    assert broken(dataset) == {"T1"}
    dataset.PixelRepresentation, dataset.RescaleIntercept = 0, "-1024"
    assert not broken(dataset)


def test_p4_the_index_of_a_dynamic_pet_counts_over_all_its_time_frames() -> None:
    dataset = good("PT")
    dataset.SeriesType, dataset.NumberOfTimeSlices, dataset.ImageIndex = ["DYNAMIC", "IMAGE"], 4, 12
    assert not broken(dataset)
    dataset.ImageIndex = 13
    assert broken(dataset) == {"P4"}
    dataset.SeriesType, dataset.ImageIndex = ["WHOLE BODY", "IMAGE"], 4
    assert broken(dataset) == {"P4"}


def test_p4_a_gated_pet_counts_over_intervals_and_slots() -> None:
    dataset = good("PT")
    dataset.SeriesType, dataset.NumberOfRRIntervals, dataset.NumberOfTimeSlots = ["GATED", "IMAGE"], 2, 8
    dataset.ImageIndex = 48
    assert not broken(dataset)
    dataset.ImageIndex = 49
    assert broken(dataset) == {"P4"}


def test_p2_no_decay_correction_goes_without_decy() -> None:
    dataset = good("PT")
    dataset.DecayCorrection, dataset.CorrectedImage = "NONE", ["NORM", "ATTN"]
    assert not broken(dataset)
