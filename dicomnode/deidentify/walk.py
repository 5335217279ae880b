"""The walk through a data set that applies the profile to every element, at any depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicomnode.deidentify import private, structured
from dicomnode.deidentify.descriptors import cleaned
from dicomnode.deidentify.identity import UNREADABLE, Identity, texts_of
from dicomnode.deidentify.profile import DATES, Action, Option, action_of, basic_action, row_of
from dicomnode.deidentify.required import needed_of
from dicomnode.deidentify.secret import Secret
from dicomnode.deidentify.unlisted import unlisted_action
from dicomnode.deidentify.values import BYTES, FORMS, PUBLIC_CODES, WELL_KNOWN, dummy, moved, of_its_form, told_age
from dicomnode.errors import NodeFault

WORDS = frozenset({"LO", "SH", "ST", "LT", "UC", "UT", "PN", "AE", "UR"})
_LONGEST = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
_NUMBERS = frozenset(["DS", "IS", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "AT"])
_PIXELS = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})
_LOOKED_AT_BYTES = 1 << 20
"""Longer arrays are looked at once, with the whole encoded header."""


class NotExported(NodeFault):
    """An instance cannot be de-identified honestly; it stays out of the export, and the export says so."""


@dataclass(slots=True)
class Walk:
    """What is known while one instance is walked through, and what was done. earlier_days: of the patient's dates."""

    options: frozenset[Option]
    secret: Secret
    identity: Identity
    earlier_days: int
    sop_class_uid: str = ""
    done: Counter[tuple[str, Action]] = field(default_factory=Counter)
    """Attribute and action -> how often, without what was kept."""
    uids: dict[str, str] = field(default_factory=dict)
    """Original UID -> the one that stands for it."""
    kept_uids: set[str] = field(default_factory=set)
    """Original UIDs that an option keeps somewhere."""
    named: Counter[str] = field(default_factory=Counter)
    """Attributes that the profile keeps but whose value named somebody, or was none of its representation."""

    def apply(self, dataset: Dataset, *, at_root: bool = True) -> None:
        """The data set holds only what the profile and its options leave."""
        kept_private = private.safe_elements(dataset) if Option.SAFE_PRIVATE in self.options else frozenset()
        for tag in list(dataset.keys()):
            if tag.is_private and tag in kept_private:
                self._keep(dataset, tag, dataset[tag], dataset.get_item(tag), at_root=at_root)
            else:
                self._element(dataset, tag, at_root=at_root)

    def new_uid(self, uid: str, *, of_an_instance: bool) -> str:
        """The UID that stands for this one; those of the standard stand for themselves.

        of_an_instance: for an attribute of the table, where devices are known to make their own below the standard's.
        """
        uid = uid.strip(" \0")
        if not uid or UID(uid).type or (not of_an_instance and uid.startswith((WELL_KNOWN, PUBLIC_CODES))):
            return uid
        return self.uids.setdefault(uid, self.secret.uid(uid))

    def _element(self, dataset: Dataset, tag: BaseTag, *, at_root: bool) -> None:
        raw = dataset.get_item(tag)
        try:
            element = dataset[tag]
            value = element.value
        except UNREADABLE:  # what cannot be read cannot be judged
            self._removed(dataset, tag)
            return
        vr = element.VR
        row = row_of(tag)
        if row is None:
            action = self._unlisted(tag, vr)
            basic = Action.EMPTY if vr == "PN" else Action.DUMMY
        else:
            needed = needed_of(keyword_for_tag(tag), sop_class_uid=self.sop_class_uid, at_root=at_root)
            action = action_of(row, vr=vr, options=self.options, needed=needed)
            basic = basic_action(row.basic, needed=needed)
        if action is Action.CLEAN and vr == "SQ" and keyword_for_tag(tag) in structured.SEQUENCES:
            if structured.without_words(value):
                action, self.done[_name(tag), Action.CLEAN] = Action.KEEP, self.done[_name(tag), Action.CLEAN] + 1
            else:
                action = basic
        if action is Action.CLEAN and (tag.is_private or (vr not in DATES and vr not in WORDS and vr != "SQ")):
            action = basic
        if action is Action.REMOVE:
            self._removed(dataset, tag)
        elif vr == "SQ" and action in (Action.KEEP, Action.CLEAN, Action.UID):
            for item in value:
                self.apply(item, at_root=False)
        elif action is Action.EMPTY:
            self._replace(dataset, tag, vr, Items([]) if vr == "SQ" else None, Action.EMPTY)
        elif action is Action.DUMMY:
            self._dummy(dataset, tag, element)
        elif action is Action.UID and vr == "UI":
            self._map_uids(dataset, tag, texts_of(value))
        elif action is Action.CLEAN:
            self._clean(dataset, tag, vr, texts_of(value), basic)
        elif action is Action.KEEP:
            self._keep(dataset, tag, element, raw, at_root=at_root)
        else:
            self._dummy(dataset, tag, element)

    def _unlisted(self, tag: BaseTag, vr: str) -> Action:
        known = dictionary_VR(tag) if dictionary_has_tag(tag) else vr
        if vr in known.split(" or "):
            return unlisted_action(tag, vr, self.options)
        if {vr, known} <= _NUMBERS:
            return Action.KEEP
        if {vr, known} <= WORDS:
            return unlisted_action(tag, "PN" if "PN" in (vr, known) else "LT", self.options)
        return Action.REMOVE

    def _clean(self, dataset: Dataset, tag: BaseTag, vr: str, values: Sequence[str], basic: Action) -> None:
        if vr in DATES:
            new = [moved(vr, value, days=self.earlier_days) for value in values]
        else:
            new = [cleaned(self.identity.taken_out_of(value), most=_LONGEST.get(vr, 1024)) for value in values]
            new = ["" if self.identity.named_in(value) else value for value in new]
        if any(new):
            self._replace(dataset, tag, vr, new if len(new) > 1 else new[0], Action.CLEAN)
        elif basic is Action.REMOVE:
            self._removed(dataset, tag)
        elif basic is Action.EMPTY or vr in DATES:
            self._replace(dataset, tag, vr, None, Action.EMPTY)
        else:
            self._replace(dataset, tag, vr, dummy(vr), Action.DUMMY)

    def _map_uids(self, dataset: Dataset, tag: BaseTag, uids: Sequence[str]) -> None:
        if not of_its_form("UI", uids):
            self._removed(dataset, tag)
            return
        new = [self.new_uid(uid, of_an_instance=row_of(tag) is not None) for uid in uids]
        if new != [uid.strip(" \0") for uid in uids]:
            self._replace(dataset, tag, "UI", new if len(new) != 1 else new[0], Action.UID)

    def _keep(self, dataset: Dataset, tag: BaseTag, element: DataElement, raw: object, *, at_root: bool) -> None:
        """The element as it was read, byte for byte, unless its value names somebody or is none of its kind."""
        if (at_root and element.keyword in _PIXELS) or self._says_nothing_of_anybody(element):
            dataset[tag] = raw  # type: ignore[assignment]
            if element.VR == "AS" and (told := [told_age(one) for one in texts_of(element.value)]):
                dataset[tag] = DataElement(tag, "AS", told)
            if element.VR == "UI":
                self.kept_uids.update(one.strip(" \0") for one in texts_of(element.value))
            return
        self.named[_name(tag)] += 1
        if element.VR in WORDS:
            self._replace(dataset, tag, element.VR, dummy(element.VR), Action.DUMMY)
        elif element.VR in DATES:  # some of them must be there, and may be empty
            self._replace(dataset, tag, element.VR, None, Action.EMPTY)
        else:
            self._removed(dataset, tag)

    def _says_nothing_of_anybody(self, element: DataElement) -> bool:
        if element.VR in BYTES:
            value = element.value if isinstance(element.value, bytes | bytearray) else b""
            return len(value) > _LOOKED_AT_BYTES or not self.identity.named_in_bytes(bytes(value))
        if element.VR not in WORDS and element.VR not in FORMS:
            return True
        values = texts_of(element.value)
        if not of_its_form(element.VR, values):
            return False
        return element.VR in ("DS", "IS", "TM", "UI") or not any(self.identity.named_in(value) for value in values)

    def _dummy(self, dataset: Dataset, tag: BaseTag, element: DataElement) -> None:
        keyword = keyword_for_tag(tag)
        if keyword == "EncapsulatedDocument":
            raise NotExported("it is a document whose pages may name the patient; documents are not exported")
        if element.VR == "UI":
            self._map_uids(dataset, tag, texts_of(element.value))
        elif element.VR != "SQ":
            self._replace(dataset, tag, element.VR, dummy(element.VR), Action.DUMMY)
        elif keyword == "ContentSequence":
            self._replace(dataset, tag, "SQ", Items([structured.dummy_content()]), Action.DUMMY)
        else:
            del element.value[1:]
            for item in element.value:
                self._scrub(item)
            self.done[_name(tag), Action.DUMMY] += 1

    def _scrub(self, item: Dataset) -> None:
        """An item keeps its structure, code strings and numbers; every word, date, identifier and byte in it goes."""
        for tag in list(item.keys()):
            try:
                element = item[tag]
                value = element.value
            except UNREADABLE:
                del item[tag]
                continue
            if tag.is_private or not dictionary_has_tag(tag) or _always_removed(tag):
                del item[tag]
            elif element.VR == "SQ":
                for inner in value:
                    self._scrub(inner)
            elif element.VR == "UI":
                self._map_uids(item, tag, texts_of(value))
            elif element.VR in WORDS or element.VR in DATES or element.VR in BYTES or element.VR == "AS":
                item[tag] = DataElement(tag, element.VR, dummy(element.VR))
            elif not self._says_nothing_of_anybody(element):
                del item[tag]

    def _replace(self, dataset: Dataset, tag: BaseTag, vr: str, value: object, action: Action) -> None:
        dataset[tag] = DataElement(tag, vr, value)
        self.done[_name(tag), action] += 1

    def _removed(self, dataset: Dataset, tag: BaseTag) -> None:
        del dataset[tag]
        self.done[_name(tag), Action.REMOVE] += 1


def _always_removed(tag: BaseTag) -> bool:
    row = row_of(tag)
    return row is not None and row.basic == "X"


def _name(tag: BaseTag) -> str:
    """The keyword; the number of an element that has none. A private creator's words are not repeated."""
    return keyword_for_tag(tag) or f"({tag.group:04x},{tag.element:04x})"
