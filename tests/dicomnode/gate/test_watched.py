"""What is read of a data set is noted, and nothing else."""

from copy import copy

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from dicomnode.gate.read_back import Reader
from dicomnode.gate.watched import EVERY, Watched, texts_of
from tests.builders_faults import good_image

NAME, SEQUENCE, SYNTAX = 0x00100010, 0x00082112, 0x00020010


def watched() -> Watched:
    return Reader().read(good_image("CT").content).dataset


def test_what_is_asked_for_is_noted_there_or_not() -> None:
    asked: set[int] = set()
    dataset = watched()
    with dataset.noting(asked):
        assert dataset.PatientName and "EthnicGroup" not in dataset and dataset.get("Units") is None
        assert dataset.file_meta.TransferSyntaxUID
    assert asked == {NAME, 0x00102160, 0x00541001, SYNTAX}


def test_of_an_item_of_a_sequence_the_sequence_is_noted() -> None:
    asked: set[int] = set()
    dataset = watched()
    with dataset.noting(asked):
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert SEQUENCE in asked and asked <= {SEQUENCE, 0x00280103}


def test_which_elements_there_are_is_noted_as_that_and_their_values_one_by_one() -> None:
    dataset = watched()
    for part in (dataset, dataset.file_meta):
        looked, read = set[int](), set[int]()
        with dataset.noting(looked):
            tags = [int(tag) for tag in part.keys()]  # noqa: SIM118
        with dataset.noting(read):
            assert len(list(part.values())) == len(tags)
        assert looked == {EVERY}
        assert read >= {EVERY, *tags}


def test_nothing_is_noted_while_nobody_asks_and_texts_known_already_are_noted_as_well() -> None:
    asked: set[int] = set()
    dataset = watched()
    assert dataset.texts("PatientName") == texts_of(dataset.PatientName)
    with dataset.noting(asked):
        dataset.texts("PatientName")
    dataset.texts("PatientID")
    assert asked == {NAME}


def test_who_notes_around_another_notes_the_same_also_where_it_fails() -> None:
    outer, inner = set[int](), set[int]()
    dataset = watched()
    with dataset.noting(outer):
        with pytest.raises(KeyError), dataset.noting(inner):
            _ = dataset["EthnicGroup"]
        dataset.note([1])
    assert inner == {0x00102160} and outer == {0x00102160, 1}


def test_a_copy_notes_with_the_data_set_that_it_is_of() -> None:
    asked: set[int] = set()
    dataset = watched()
    with dataset.noting(asked):
        assert copy(dataset).PatientName
    assert NAME in asked


def test_texts_of_another_file_are_taken_but_for_what_is_new() -> None:
    before = watched()
    before.texts("PatientName"), before.texts("PatientID")
    element = RawDataElement(BaseTag(0x00100020), "LO", 4, b"A-B ", 0, False, True)
    after = Watched({element.tag: element}, {}, "iso8859", form=(False, True))
    after.take_texts(before, [0x00100020])
    assert after.texts("PatientID") == ("A-B",)
    assert after.texts("PatientName") == before.texts("PatientName") != ()


def test_an_element_can_be_set_and_taken_away() -> None:
    dataset = watched()
    dataset.PatientID = "ANOTHER"
    del dataset.PatientName
    assert dataset.texts("PatientID") == ("ANOTHER",) and "PatientName" not in dataset


@pytest.mark.parametrize(
    ("value", "texts"),
    [(None, ()), ("", ()), (" a ", ("a",)), (7, ("7",)), (["a ", 2], ("a", "2")), ([], ())],
)
def test_all_values_of_an_attribute_are_texts(value: object, texts: tuple[str, ...]) -> None:
    assert texts_of(value) == texts
