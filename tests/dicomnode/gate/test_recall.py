"""An answer is given again only while all that its question read has the same bytes, however it read it."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.gate.image_rules import IMAGE_RULES
from dicomnode.gate.read_back import Reader
from dicomnode.gate.recall import Recall
from dicomnode.gate.rules import Finding, asked, items, text, texts
from dicomnode.gate.watched import Watched
from tests.builders_faults import Spoil, good_image, in_item, meta, sets, spoiled

Question = Callable[[Dataset], Any]


def first_and(change: Callable[[bytes], bytes]) -> tuple[Watched, Watched]:
    """A file whose texts are more than ASCII, and the same one changed, both read one after the other."""
    reader = Reader()
    content = spoiled(good_image("CT").content, sets(PatientName="M\u00fcller^X"))
    return reader.read(content).dataset, reader.read(change(content)).dataset


@cache
def compared() -> tuple[Watched, Watched]:
    return first_and(bytes)


def equality(dataset: Dataset) -> list[bool]:
    return [dataset == other for other in compared()]


def walked(dataset: Dataset) -> list[str]:
    said: list[str] = []
    dataset.walk(lambda _, element: said.append(str(element)))
    return said


def values_of(*elements: Any) -> list[str]:
    return [f"{int(one.tag):08x} {one.value!r}" for one in elements]


WAYS: dict[str, Question] = {
    "attribute": lambda dataset: str(dataset.PatientName),
    "get": lambda dataset: str(dataset.get("PatientName")),
    "get by tag": lambda dataset: str(dataset.get(0x00100010)),
    "get by group and element": lambda dataset: str(dataset.get((0x0010, 0x0010))),
    "keyword": lambda dataset: str(dataset["PatientName"].value),
    "tag": lambda dataset: str(dataset[0x00100010].value),
    "slice": lambda dataset: values_of(*dataset[0x00100000:0x00110000]),
    "group": lambda dataset: values_of(*dataset.group_dataset(0x10)),
    "get_item": lambda dataset: str(dataset.get_item("PatientName")),
    "get_item of a slice": lambda dataset: values_of(*dataset.get_item(slice(0x00100000, 0x00110000))),
    "data_element": lambda dataset: str(dataset.data_element("PatientName")),
    "texts": lambda dataset: texts(dataset, "PatientName"),
    "hasattr": lambda dataset: hasattr(dataset, "EthnicGroup"),
    "in": lambda dataset: ("PatientName" in dataset, 0x00102160 in dataset, (0x0010, 0x2160) in dataset),
    "in keys": lambda dataset: 0x00102160 in dataset.keys(),  # noqa: SIM118
    "keys": lambda dataset: [int(tag) for tag in dataset.keys()],  # noqa: SIM118
    "len": len,
    "dir": lambda dataset: (dataset.dir("patient"), dir(dataset)),
    "iteration": lambda dataset: values_of(*dataset),
    "items": lambda dataset: values_of(*(element for _, element in dataset.items())),
    "values": lambda dataset: values_of(*dataset.values()),
    "elements": lambda dataset: values_of(*dataset.elements()),
    "iterall": lambda dataset: values_of(*dataset.iterall()),
    "walk": walked,
    "str": str,
    "top": lambda dataset: dataset.top(),
    "json": lambda dataset: dataset.to_json(suppress_invalid_tags=True),
    "equality": equality,
    "sequence": lambda dataset: text(items(dataset, "SourceImageSequence")[0], "ReferencedSOPInstanceUID"),
    "whole sequence": lambda dataset: str(dataset.get("SourceImageSequence")),
    "setdefault": lambda dataset: str(dataset.setdefault("PatientName", "x").value),
    "file meta": lambda dataset: str(dataset.file_meta.get("MediaStorageSOPInstanceUID")),
    "whole file meta": lambda dataset: str(dataset.file_meta),
    "texts of the file meta": lambda dataset: texts(dataset.file_meta, "SourceApplicationEntityTitle"),
    "character set": lambda dataset: dataset._character_set,
    "character set as read": lambda dataset: dataset.original_character_set,
    "pixels": lambda dataset: int(dataset.pixel_array.sum()),
    "bytes of the pixels": lambda dataset: bytes(dataset.PixelData)[-4:],
}
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "changed": lambda content: spoiled(content, sets(PatientName="Other^Name")),
    "added": lambda content: spoiled(content, sets(EthnicGroup="added")),
    "removed": lambda content: spoiled(content, lambda dataset: delattr(dataset, "PatientName")),
    "within a sequence": lambda content: spoiled(
        content, in_item("SourceImageSequence", 0, ReferencedSOPInstanceUID="1.2.3")
    ),
    "file meta": lambda content: spoiled(
        content, meta(MediaStorageSOPInstanceUID="1.2.3", SourceApplicationEntityTitle="SOMEBODY")
    ),
    "character set": lambda content: spoiled(content, sets(SpecificCharacterSet="ISO_IR 144")),
    "pixels": lambda content: content[:-2] + b"\x07\x00",
}


def answered(question: Question, dataset: Dataset) -> Any:
    """What a question gives; what it raises too is an answer."""
    try:
        return question(dataset)
    except (AttributeError, KeyError) as fault:
        return str(fault)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
def test_whatever_differs_the_answer_is_the_one_that_the_file_gives(way: str, change: str) -> None:
    recall, question = Recall(), lambda dataset: answered(WAYS[way], dataset)
    first, second = first_and(CHANGES[change])
    _, alone = first_and(CHANGES[change])
    assert recall.of(question, first) == answered(WAYS[way], first)
    assert recall.of(question, second) == answered(WAYS[way], alone)
    assert recall.of(question, first) == answered(WAYS[way], first)


@pytest.mark.parametrize(
    ("spoil", "times"),
    [(sets(PatientName="Other^Name"), 2), (sets(SpecificCharacterSet="ISO_IR 144"), 2), (sets(PatientID="2"), 1)],
)
def test_a_question_is_asked_again_only_where_it_has_read_what_differs(spoil: Spoil, times: int) -> None:
    calls: list[str] = []

    def question(dataset: Dataset) -> str:
        calls.append(str(dataset.get("PatientName")))
        return calls[-1]

    recall = Recall()
    for dataset in first_and(lambda content: spoiled(content, spoil)):
        assert recall.of(question, dataset) == str(dataset.PatientName)
    assert len(calls) == times


def test_what_a_question_asks_of_another_question_counts_as_its_own() -> None:
    recall = Recall()

    def outer(dataset: Dataset) -> str:
        return str(recall.of(WAYS["attribute"], dataset))

    first, second = first_and(CHANGES["changed"])
    recall.of(WAYS["attribute"], first)
    assert (recall.of(outer, first), recall.of(outer, second)) == ("M\u00fcller^X", "Other^Name")


def test_a_question_that_failed_has_no_answer_to_give_again() -> None:
    def question(dataset: Dataset) -> str:
        return str(dataset.EthnicGroup)

    recall, (first, second) = Recall(), first_and(CHANGES["added"])
    for _ in range(2):
        with pytest.raises(AttributeError):
            recall.of(question, first)
    assert recall.of(question, second) == "added"


def test_a_plain_data_set_is_always_asked() -> None:
    calls: list[Dataset] = []
    recall, dataset = Recall(), Dataset()
    for _ in range(2):
        recall.of(calls.append, dataset)
    assert len(calls) == 2


def test_all_findings_of_a_rule_are_kept_and_no_rule_stands_for_another() -> None:
    def rule(dataset: Dataset) -> Iterator[Finding]:
        yield asked("C2", dataset.PatientName == "Other^Name", "another patient")
        yield asked("C2", True, "")

    recall, (first, second) = Recall(), first_and(CHANGES["changed"])
    assert [one.holds for one in recall.findings(rule, first)] == [False, True]
    assert [one.holds for one in recall.findings(rule, first)] == [False, True]
    assert [one.holds for one in recall.findings(rule, second)] == [True, True]
    for one in IMAGE_RULES:
        assert recall.findings(one, second) == tuple(one(second))
