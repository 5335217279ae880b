"""Objects beside a derived series are asked for class, subject, equipment, times and references."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomnode.companions.companions import COMPANIONS, derive_companions
from dicomnode.verbatim import verbatim_elements
from dicomnode.verify.companions import (
    companion_findings,
    companion_references,
    reference_findings,
    series_findings_beside,
    subject_findings,
)
from dicomnode.verify.files import found_files
from tests.builders_companions import derived_files, phantom_derivation, read, written
from tests.builders_faults import lacks, meta, sets


def broken(dataset: Dataset) -> set[str]:
    return {finding.rule for finding in companion_findings(dataset) if not finding.holds}


def test_every_object_we_make_is_good(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "source")
    files = derived_files(tmp_path / "derived", derivation)
    made = [one for companion in derive_companions(COMPANIONS, derivation) for one in companion.instances]
    beside = written(tmp_path / "beside", *made)
    known = found_files([tmp_path]).instances
    assert len(files) == 4 and len(beside) >= 7
    for instance in made:
        dataset = read(instance)
        elements = verbatim_elements(dataset)
        assert not broken(dataset)
        assert all(finding.holds for finding in subject_findings(elements, derivation.images[0]))
        references = companion_references(dataset)
        assert references and set(references) <= set(known)
        assert all(finding.holds for finding in reference_findings(references, known))


@pytest.mark.parametrize(
    ("rule", "name", "fault"),
    [
        ("C1", "segmentation", sets(Modality="CT")),
        ("C1", "segmentation", meta(MediaStorageSOPInstanceUID="1.2.3")),
        ("U1", "banner", sets(SeriesInstanceUID="1.2.3")),
        ("C3", "text_report", lambda dataset: setattr(dataset, "SeriesInstanceUID", dataset.SOPInstanceUID)),
        ("C9", "key_images", sets(ManufacturerModelName="Scanner")),
        ("C9", "segmentation", sets(DeviceSerialNumber="1")),
        ("C7", "banner", sets(SeriesNumber=None)),
        ("C17", "banner", lacks("PresentationCreationDate")),
        ("C17", "text_report", sets(ContentTime="")),
        ("C22", "segmentation", sets(ContentQualification="")),
        ("S5", "measurement_report", lacks("CurrentRequestedProcedureEvidenceSequence")),
    ],
)
def test_a_single_fault_is_named(tmp_path: Path, rule: str, name: str, fault: Callable[[Dataset], None]) -> None:
    derivation = phantom_derivation(tmp_path)
    (companion,) = [made for made in derive_companions([name], derivation) if made.name == name]
    dataset = read(companion.instances[0])
    fault(dataset)
    assert rule in broken(dataset)


def test_c14_a_reference_under_another_class_is_found(tmp_path: Path) -> None:
    derived_files(tmp_path / "derived", phantom_derivation(tmp_path / "source"))
    known = found_files([tmp_path]).instances
    uid = next(iter(known))
    assert [one.holds for one in reference_findings({uid: "1.2.3", "9.9": "1.2.3"}, known)] == [False]


def test_what_an_object_says_of_itself_is_what_the_derived_images_say(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path, BurnedInAnnotation="YES")
    (companion,) = derive_companions(["segmentation"], derivation)
    dataset, derived = read(companion.instances[0]), derivation.derived[0]

    def missed() -> set[str]:
        return {one.rule for one in series_findings_beside(dataset, derived) if not one.holds}

    assert missed() == set()
    dataset.ContentQualification, dataset.SyntheticData, dataset.BurnedInAnnotation = "PRODUCT", "YES", "YES"
    assert missed() == {"C22", "C23"}, "burned in there, too"
    derived.BurnedInAnnotation = "NO"
    assert missed() == {"C21", "C22", "C23"}
