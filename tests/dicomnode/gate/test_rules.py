"""A rule reads a data set that may hold anything, and says in a sentence where it does not hold."""

from pydicom.dataset import Dataset

from dicomnode.gate.rules import (
    Finding,
    asked,
    is_synthesized,
    items,
    model_item,
    number,
    numbers,
    purposes,
    text,
    texts,
)
from tests.builders_dicom import code
from tests.builders_faults import sets


def test_a_finding_has_a_sentence_only_where_the_rule_does_not_hold() -> None:
    assert asked("C1", [], "nothing is there") == Finding("C1", False, "nothing is there")
    assert asked("C1", "something", "nothing is there") == Finding("C1", True, "")


def test_absent_and_empty_attributes_read_as_nothing() -> None:
    dataset = Dataset()
    dataset.KVP, dataset.ImageType = None, []
    for keyword in ("KVP", "ImageType", "PatientID"):
        assert (texts(dataset, keyword), text(dataset, keyword), number(dataset, keyword)) == ((), "", None)
    assert list(items(dataset, "SourceImageSequence")) == []


def test_one_value_and_several_read_alike() -> None:
    dataset = Dataset()
    dataset.WindowWidth, dataset.PixelSpacing, dataset.Rows = "400", ["1.5", "2"], 64
    assert numbers(dataset, "WindowWidth") == (400.0,) and numbers(dataset, "PixelSpacing") == (1.5, 2.0)
    assert number(dataset, "Rows") == 64 and text(dataset, "Rows") == "64"


def test_a_word_is_no_number() -> None:
    dataset = Dataset()
    dataset.PatientID = "twelve"
    assert numbers(dataset, "PatientID") == () and number(dataset, "PatientID") is None


def test_only_the_last_equipment_can_be_our_model() -> None:
    dataset, scanner, model = Dataset(), Dataset(), Dataset()
    scanner.Manufacturer, model.Manufacturer = "Maker", "dicom-ai-node"
    model.PurposeOfReferenceCodeSequence = [code("109100", "DCM", "Synthesizing Equipment")]
    dataset.ContributingEquipmentSequence = [scanner, model]
    assert model_item(dataset) is not None and is_synthesized(dataset)
    assert purposes(model) == {("109100", "DCM")}
    dataset.ContributingEquipmentSequence = [model, scanner]
    assert model_item(dataset) is None and not is_synthesized(dataset)
    sets(ContributingEquipmentSequence=[])(dataset)
    assert model_item(dataset) is None
