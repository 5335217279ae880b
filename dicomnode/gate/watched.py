"""A data set that notes what is read of it, whatever the way it is read by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag

EVERY = -1
"""Noted where it is asked which elements there are."""
Encoding = str | MutableSequence[str]


class Notes:
    """The tags that were asked for; None while nobody wants to know."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        self.asked: set[int] | None = None


class Noting(MutableMapping[BaseTag, Any]):
    """Elements by their tags, as pydicom's data sets hold them: each that is looked up is noted, there or not.

    pydicom has many ways to the elements of a data set (keywords, slices, `walk`, `values`, `to_json`, the pixels'
    decoders), and all of them lead through these few methods.
    """

    __slots__ = ("_notes", "held")

    def __init__(self, held: dict[BaseTag, Any], notes: Notes) -> None:
        self.held, self._notes = held, notes

    def __getitem__(self, tag: BaseTag) -> Any:
        if self._notes.asked is not None:
            self._notes.asked.add(int(tag))
        return self.held[tag]

    def get(self, tag: BaseTag, default: Any = None) -> Any:
        """As of any mapping."""
        if self._notes.asked is not None:
            self._notes.asked.add(int(tag))
        return self.held.get(tag, default)

    def __contains__(self, tag: object) -> bool:
        if self._notes.asked is not None and isinstance(tag, int):
            self._notes.asked.add(int(tag))
        return tag in self.held

    def __iter__(self) -> Iterator[BaseTag]:
        if self._notes.asked is not None:
            self._notes.asked.add(EVERY)
        return iter(self.held)

    def __len__(self) -> int:
        if self._notes.asked is not None:
            self._notes.asked.add(EVERY)
        return len(self.held)

    def __setitem__(self, tag: BaseTag, element: Any) -> None:
        self.held[tag] = element

    def __delitem__(self, tag: BaseTag) -> None:
        del self.held[tag]


class Watched(Dataset):
    """A data set as it was read from a file, which notes which of its elements it is asked for, file meta and all."""

    def __init__(
        self, held: dict[BaseTag, Any], meta: dict[BaseTag, Any], encoding: Encoding, *, form: tuple[Any, Any]
    ) -> None:
        """held, meta: raw or decoded elements. form: whether Implicit VR, whether little endian."""
        self._notes = Notes()
        super().__init__(Noting(held, self._notes), parent_encoding=encoding)
        self.set_original_encoding(*form, encoding)
        self.file_meta = FileMetaDataset(meta)
        self.file_meta._dict = Noting(meta, self._notes)
        self.spans: Mapping[int, bytes] | None = None
        """The bytes of each element, head included; None where they are not known."""
        self._texts: dict[str, tuple[str, ...]] = {}

    @property
    def held(self) -> tuple[dict[BaseTag, Any], dict[BaseTag, Any]]:
        """The elements and those of the file meta, for who is not noted."""
        return self._dict.held, self.file_meta._dict.held  # type: ignore[attr-defined]

    def texts(self, keyword: str) -> tuple[str, ...]:
        """All values of an attribute as texts, as `texts_of` gives them of its value."""
        tag = tag_for_keyword(keyword)
        if tag is None:
            return texts_of(self.get(keyword))
        if self._notes.asked is not None:
            self._notes.asked.add(tag)
        known = self._texts.get(keyword)
        if known is None:
            known = self._texts[keyword] = texts_of(self.get(keyword))
        return known

    def take_texts(self, before: Watched, new: Collection[int]) -> None:
        """What was read of another file's elements is not read again, but for the new ones."""
        self._texts = {
            keyword: texts for keyword, texts in before._texts.items() if tag_for_keyword(keyword) not in new
        }

    def note(self, tags: Iterable[int]) -> None:
        """These count as asked for."""
        if self._notes.asked is not None:
            self._notes.asked.update(tags)

    @contextmanager
    def noting(self, asked: set[int]) -> Iterator[None]:
        """Within, what is asked for is noted there; who notes already notes it too."""
        before, self._notes.asked = self._notes.asked, asked
        try:
            yield
        finally:
            self._notes.asked = before
            self.note(asked)


def texts_of(value: Any) -> tuple[str, ...]:
    """All values of an attribute's value as texts; none when it is absent or empty."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return (str(value).strip(),)
    return tuple(str(single).strip() for single in value)
