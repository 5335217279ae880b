"""The objects beside derived series: each is asked its own rules and held against the images it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.gate.rules import Finding, model_item, text
from dicomnode.gate.series_rules import Member, along_normal
from dicomnode.source_image import UNREADABLE
from dicomnode.verbatim import Element, verbatim_elements
from dicomnode.verify.companions import (
    ASKED_OF_DERIVED,
    ASKED_OF_SOURCE,
    companion_findings,
    companion_references,
    reference_findings,
    series_findings_beside,
    subject_findings,
)
from dicomnode.verify.files import FoundInstance
from dicomnode.verify.frames import RULE_OF, frame_answers
from dicomnode.verify.lookup import Lookup

SOURCE_MISSING = "the source image is not there"
DERIVED_MISSING = "the derived images it stands beside are not there"
COUNTED_THROUGH = ("DYNAMIC", "GATED")


def made_by(dataset: Dataset) -> str:
    """Which model it was and what it says of its work: method, parameters, job; the same in all of a job (C10)."""
    model = model_item(dataset)
    words = ("ManufacturerModelName", "SoftwareVersions", "ContributionDescription")
    return "" if model is None else "; ".join(text(model, word) for word in words)


@dataclass(frozen=True, slots=True)
class DerivedStack:
    """What of a derived series the objects beside it are held against.

    by: what the model says of its work. members: in slice order. is_unchanged: SOP Instance UID -> whether the image
    shows its source's own values, where that can be said.
    """

    by: str
    members: tuple[Member, ...]
    is_unchanged: Mapping[str, bool]


@dataclass(slots=True)
class Beside:
    """The findings of the objects beside derived series."""

    lookup: Lookup
    _series: dict[str, DerivedStack] = field(default_factory=dict)
    _series_of: dict[str, list[str]] = field(default_factory=dict)
    _change_said: dict[str, set[str]] = field(default_factory=dict)

    def remember(
        self, series_instance_uid: str, by: str, members: Sequence[Member], is_unchanged: Mapping[str, bool]
    ) -> None:
        """A derived series that was asked; must come before what stands beside it is."""
        ordered = tuple(member for _, member in along_normal(members)) or tuple(members)
        self._series[series_instance_uid] = DerivedStack(by, ordered, is_unchanged)
        for member in members:
            for uid in (member.uid, member.source.partition(" ")[0]):
                listed = self._series_of.setdefault(uid, [])
                if series_instance_uid not in listed:
                    listed.append(series_instance_uid)

    def ask(self, instance: FoundInstance) -> list[str]:
        """One object; gives the instances that it refers to and that are not there."""
        lookup, uid = self.lookup, instance.sop_instance_uid
        tally, instances = lookup.tally, lookup.found.instances
        try:
            dataset = dcmread(instance.path, stop_before_pixels=True)
            elements = verbatim_elements(dataset)  # before a text is read (K1)
            tally.add(uid, companion_findings(dataset))
            references = companion_references(dataset)
            tally.add(uid, reference_findings(references, instances))
            self._ask_series(uid, dataset, elements, references)
            if instance.sop_class_uid in RULE_OF:
                self._ask_frames(instance)
            return [one for one in references if one not in instances]
        except UNREADABLE as fault:
            tally.add(uid, [Finding("READ", False, f"{instance.path.name} is damaged ({type(fault).__name__})")])
            return []

    def _ask_series(
        self, uid: str, dataset: Dataset, elements: Mapping[int, Element], references: Iterable[str]
    ) -> None:
        """Its subject is the source's, and what it says of itself is what the derived images say."""
        tally = self.lookup.tally
        members = list(self._members_behind(references, made_by(dataset)))
        derived = next(filter(None, (self.lookup.derived(member.uid) for member in members)), None)
        if derived is None:
            tally.not_asked(uid, ASKED_OF_DERIVED, DERIVED_MISSING)
        else:
            tally.add(uid, series_findings_beside(dataset, derived))
        of_subject = self._subject(elements, members)
        if of_subject:
            tally.add(uid, of_subject)
        else:
            tally.not_asked(uid, ASKED_OF_SOURCE, SOURCE_MISSING)

    def _members_behind(self, references: Iterable[str], by: str) -> Iterator[Member]:
        """The members of the derived series it stands beside, the one in the first slice first.

        by: what the model says of its work; a source may have been worked on by several, or be derived itself.
        """
        behind = dict.fromkeys(series for uid in references for series in self._series_of.get(uid, ()))
        for series in sorted(behind):
            if self._series[series].by == by:
                yield from self._series[series].members

    def _subject(self, elements: Mapping[int, Element], members: Sequence[Member]) -> list[Finding]:
        """As the source of the first slice says it; where the sources vary, as one of them does."""
        first: list[Finding] = []
        for member in members:
            source = self.lookup.source(member.source)
            if source is None:
                continue
            found = list(subject_findings(elements, source))
            if all(finding.holds for finding in found):
                return found
            first = first or found
        return first

    def _ask_frames(self, instance: FoundInstance) -> None:
        uid, tally = instance.sop_instance_uid, self.lookup.tally
        answers = frame_answers(dcmread(instance.path), self.lookup)
        tally.add(uid, answers.findings)
        if answers.not_asked:
            tally.not_asked(uid, [RULE_OF[instance.sop_class_uid]], answers.not_asked)
        for one in answers.changed:
            for series in self._series_of.get(one, ()):
                if any(member.uid == one for member in self._series[series].members):
                    self._change_said.setdefault(series, set()).add(one)

    def ask_changes(self) -> None:
        """Where a change map says what changed, nothing else did (S3); asked when every object has been."""
        for series, said in self._change_said.items():
            stack = self._series[series]
            if stack.members[0].series_type in COUNTED_THROUGH:
                continue  # each time frame has a map of its own, and one that is not there says nothing
            for member in stack.members:
                is_unchanged = stack.is_unchanged.get(member.uid)
                if member.uid not in said and is_unchanged is False:
                    fault = "it is not its source's, and the change map does not say so"
                    self.lookup.tally.add(member.uid, [Finding("S3", False, fault)])
