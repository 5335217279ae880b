"""Texts in every character set: pydicom's files, the standard's own Chinese example, and Latin-1 without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_charset_files
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag


@dataclass(frozen=True)
class Text:
    """A person's name as bytes, padded to even length. declared: the bytes of Specific Character Set; None: absent."""

    declared: bytes | None
    name: bytes


def _raw(dataset: Dataset, keyword: str) -> bytes | None:
    element = dataset.get_item(keyword)
    return element.value if isinstance(element, RawDataElement) else None


def _declared(dataset: Dataset) -> bytes | None:
    """pydicom has read this one attribute already."""
    if "SpecificCharacterSet" not in dataset:
        return None
    terms = dataset.SpecificCharacterSet
    value = (terms if isinstance(terms, str) else "\\".join(terms)).encode()
    return value + b" " * (len(value) % 2)


def _of_file(path: str) -> Text:
    dataset = dcmread(path)
    name = _raw(dataset, "PatientName")
    if name is None:  # two files hold their names in a sequence
        item = dataset.RequestedProcedureCodeSequence[0]
        return Text(_declared(item) or _declared(dataset), item_name(item))
    return Text(_declared(dataset), name)


def item_name(item: Dataset) -> bytes:
    """The bytes of the name in a sequence's item."""
    name = _raw(item, "PatientName")
    assert name is not None
    return name


CHINESE = Text(b"\\ISO 2022 IR 58 ", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= ")
"""The example of PS3.5 K.2: Zhang^XiaoDong=张^小东=."""
UNDECLARED = Text(None, b"M\xfcller^J\xf6rg ")
"""Latin-1, as many old devices send it, without Specific Character Set."""

TEXTS: dict[str, Text] = {Path(path).stem: _of_file(path) for path in sorted(get_charset_files("*.dcm"))}
TEXTS |= {"Chinese": CHINESE, "undeclared": UNDECLARED}


def with_texts(path: Path, declared: bytes | None, texts: Mapping[str, bytes]) -> Path:
    """Puts bytes into text elements of a file as they are."""
    dataset = dcmread(path)
    elements = {tag: dataset.get_item(tag) for tag in dataset.keys()}  # noqa: SIM118 - nothing is decoded this way
    content = dict(texts) if declared is None else {"SpecificCharacterSet": declared, **texts}
    for keyword, value in content.items():
        tag = Tag(tag_for_keyword(keyword) or 0)
        elements[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    if declared is None:
        del elements[Tag("SpecificCharacterSet")]
    mended = Dataset({tag: elements[tag] for tag in sorted(elements)})
    mended.set_original_encoding(False, True, mended._character_set)
    mended.file_meta = dataset.file_meta
    mended.save_as(path, enforce_file_format=True)
    for value in content.values():
        assert value in path.read_bytes()
    return path
