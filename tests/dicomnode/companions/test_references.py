"""UIDs and references of the objects beside a derived series."""

from pathlib import Path
from uuid import uuid4

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, KeyObjectSelectionDocumentStorage, MRImageStorage, generate_uid

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.references import check_references, check_texts, settle_uids
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault
from dicomnode.uids import deterministic_uid
from tests.builders_companions import phantom_derivation


@pytest.fixture
def derivation(tmp_path: Path) -> Derivation:
    return phantom_derivation(tmp_path / "s", slices=2, rows=16, columns=16)


def made_object(derivation: Derivation, *references: Dataset) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = KeyObjectSelectionDocumentStorage, derivation.instance_uid("key-selection")
    made.StudyInstanceUID = derivation.images[0].text("StudyInstanceUID")
    made.SeriesInstanceUID = derivation.series_uid("key-selection")
    made.ReferencedInstanceSequence = list(references)
    return made


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def test_a_random_uid_becomes_the_same_deterministic_one_wherever_it_stands(derivation: Derivation) -> None:
    uids = []
    for _ in range(2):
        made, random_uid, item = made_object(derivation), generate_uid(), Dataset()
        made.DimensionOrganizationSequence, made.UID = [item], random_uid
        item.DimensionOrganizationUID, made.TrackingUID = random_uid, f"2.25.{uuid4().int}"
        settle_uids(made, derivation)
        assert item.DimensionOrganizationUID == made.UID != random_uid
        uids.append((made.UID, made.TrackingUID))
    assert uids[0] == uids[1]
    assert uids[0][0] != uids[0][1]


def test_uids_of_the_source_of_the_standard_and_of_the_node_stay(derivation: Derivation) -> None:
    made = made_object(derivation)
    ours = deterministic_uid(derivation.job.deployment_uuid, ["anything"])
    made.FrameOfReferenceUID = derivation.images[0].text("FrameOfReferenceUID")
    made.TransferSyntaxUID = ["1.2.840.10008.1.2", ours]
    before = made.to_json()
    settle_uids(made, derivation)
    assert made.to_json() == before


def test_sources_derived_images_and_named_companions_may_be_referred_to(derivation: Derivation) -> None:
    companion = DerivedInstance("1.2.3", "1.2.4", str(MRImageStorage), "", b"")
    check_references(
        made_object(
            derivation,
            reference(CTImageStorage, derivation.images[0].sop_instance_uid),
            reference(CTImageStorage, derivation.derived[1].SOPInstanceUID),
            reference(MRImageStorage, "1.2.3"),
        ),
        derivation,
        [companion],
    )


def test_an_instance_that_nobody_gave_is_a_fault(derivation: Derivation) -> None:
    with pytest.raises(OutputFault, match=r"C14.*1\.2\.3"):
        check_references(made_object(derivation, reference(MRImageStorage, "1.2.3")), derivation, [])


def test_a_reference_with_the_class_of_another_object_is_a_fault(derivation: Derivation) -> None:
    wrong = reference(MRImageStorage, derivation.images[0].sop_instance_uid)
    with pytest.raises(OutputFault, match="another class"):
        check_references(made_object(derivation, wrong), derivation, [])


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "ReferencedFrameOfReferenceUID"])
def test_a_strange_place_is_a_fault(derivation: Derivation, keyword: str) -> None:
    item = Dataset()
    setattr(item, keyword, "1.2.3")
    with pytest.raises(OutputFault, match=keyword):
        check_references(made_object(derivation, item), derivation, [])


def test_a_text_of_ours_that_is_not_ascii_is_a_fault(derivation: Derivation) -> None:
    item = Dataset()
    item.CodeMeaning = "Gr\u00f6\u00dfe"
    with pytest.raises(OutputFault, match="CodeMeaning"):
        check_texts(made_object(derivation, item))
    item.CodeMeaning = "Size"
    check_texts(made_object(derivation, item))
