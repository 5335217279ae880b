"""What every derived image says of itself is asked, and a header that says nothing at all breaks no rule's reading."""

from copy import deepcopy
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset

from dicomnode.gate.image_rules import file_findings, image_findings, uid_finding
from dicomnode.gate.rules import Finding
from tests.builders_faults import good_image


def broken(findings: list[Finding]) -> set[str]:
    return {finding.rule for finding in findings if not finding.holds}


@pytest.mark.parametrize("kind", ["CT", "PT", "MR", "SYN"])
def test_a_good_image_of_each_kind_breaks_no_rule(kind: str) -> None:
    dataset = dcmread(BytesIO(good_image(kind).content))
    findings = [*file_findings(dataset), *image_findings(dataset), uid_finding(dataset)]
    assert not broken(findings) and len(findings) > 50


def test_an_empty_header_is_answered_rule_by_rule_and_raises_nothing() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    found = broken([*file_findings(dataset), *image_findings(dataset), uid_finding(dataset)])
    assert {"C1", "C2", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C11", "C12", "C13", "C15", "U1", "U2"} <= found


def test_u2_an_image_under_another_uid_or_of_another_source_is_found() -> None:
    dataset = dcmread(BytesIO(good_image("CT").content))
    assert uid_finding(dataset).holds
    dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    assert not uid_finding(dataset).holds


def test_what_others_keep_in_private_elements_is_found_and_philips_scale_factors_are_not() -> None:
    dataset = dcmread(BytesIO(good_image("PT").content))
    dataset.add_new(0x70530010, "LO", "Philips PET Private Group")
    dataset.add_new(0x70531000, "DS", "0.5")
    dataset.add_new(0x70531009, "DS", "0.5")
    assert not broken(list(image_findings(dataset)))
    dataset.add_new(0x70531003, "DS", "0.5")
    assert broken(list(image_findings(dataset))) == {"C25"}


def test_several_faults_are_all_named() -> None:
    dataset = dcmread(BytesIO(good_image("CT").content))
    dataset.ImageComments, dataset.SeriesNumber, dataset.ContentQualification = "Fine.", None, "GOOD"
    assert broken(list(image_findings(dataset))) == {"C7", "C22", "C24"}


def test_c15_only_what_was_read_beside_the_source_may_lie_in_another_study() -> None:
    dataset = dcmread(BytesIO(good_image("CT").content))
    beside = deepcopy(dataset.RelatedSeriesSequence[0])
    beside.StudyInstanceUID, beside.SeriesInstanceUID = "2.25.1", "2.25.2"
    dataset.RelatedSeriesSequence.append(beside)
    assert not broken(list(image_findings(dataset)))
    beside.PurposeOfReferenceCodeSequence[0].CodeValue = "122403"
    assert broken(list(image_findings(dataset))) == {"C15"}
    del dataset.RelatedSeriesSequence[1]
    dataset.RelatedSeriesSequence[0].StudyInstanceUID = "2.25.1"
    assert broken(list(image_findings(dataset))) == {"C15"}
