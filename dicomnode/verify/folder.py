"""The output gate's rules asked of files in a folder: any derived series with its sources, beside it, its passport."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicomnode.derived_header import UNCHANGED
from dicomnode.gate.image_rules import file_findings, uid_finding
from dicomnode.gate.kind_rules import header_findings
from dicomnode.gate.rules import Finding, asked, model_item, text
from dicomnode.gate.series_rules import (
    Member,
    Members,
    first_source,
    numbering_findings,
    series_findings,
    synthesis_findings,
)
from dicomnode.gate.source_rules import rules_asked_of_source, source_findings
from dicomnode.passport import RULE as PASSPORT
from dicomnode.passport import passport_findings
from dicomnode.source_image import UNREADABLE, SourceImage
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from dicomnode.verbatim import verbatim_elements
from dicomnode.verify.beside import SOURCE_MISSING, Beside, made_by
from dicomnode.verify.files import FoundFiles, FoundInstance, Progress, found_files
from dicomnode.verify.lookup import Lookup
from dicomnode.verify.pixels import PixelAnswers, pixel_answers, range_answers
from dicomnode.verify.tally import Tally, Verification

KEY_OF_STACK = ("Rows", "Columns", "ImageType", "FrameOfReferenceUID")
NEARLY = ("ImageOrientationPatient", "PixelSpacing", "EchoTime", "FrameReferenceTime")
"""What tells stacks apart by its numbers, however they are written."""


def verify_folder(folder: Path, *, sources: Sequence[Path] = (), progress: Progress | None = None) -> Verification:
    """What every rule gives for the derived series in the folder; their sources lie there too, or in `sources`.

    progress: is told how many of how many steps are done; the number of steps grows once, when it is known how many
    of the files are ours. Raises NotADirectoryError for a folder that is none.
    """
    folders = (folder, *sources)
    found = found_files(folders, progress)
    tally = Tally()
    survey = _Survey(found, progress, tally, lookup=Lookup(found, tally))
    for subject, finding in found.findings:
        tally.add(subject, [finding])
    beside = Beside(survey.lookup)
    series = []
    ours = found.ours()
    for uid, members in groupby(ours, key=lambda one: one.series_instance_uid):
        images = [one for one in members if one.is_derived_image]
        if images:
            survey.ask_series(uid, images, beside)
            series.append((uid, len(images)))
    for companion in ours:
        if not companion.is_derived_image:
            survey.step()
            missing = beside.ask(companion)
            survey.miss("C14", companion.sop_instance_uid, missing, "instances that it refers to are not there")
    beside.ask_changes()
    survey.ask_coverage()
    survey.ask_passports()
    return Verification(
        folders=tuple(str(one) for one in folders),
        files=found.count,
        series=tuple(series),
        companions=sum(not one.is_derived_image for one in ours),
        passports=len(found.passports),
        rules=tally.results(),
        missing=tuple(survey.lookup.missing),
        notes=(*found.notes, *survey.notes()),
    )


@dataclass(slots=True)
class _Checked:
    """One derived image that was read: as a member of its series, who made it and how, its source, its pixels."""

    member: Member
    model: str
    by: str
    source: SourceImage | None
    pixels: PixelAnswers


@dataclass(slots=True)
class _Survey:
    """The findings as they gather over the files."""

    found: FoundFiles
    progress: Progress | None
    tally: Tally
    lookup: Lookup
    _done: int = 0
    _rewritten: int = 0
    _derived_of: dict[tuple[str, str], dict[tuple[str, int], tuple[object, ...]]] = field(default_factory=dict)

    def miss(self, rule: str, subject: str, missing: Iterable[str], why: str) -> None:
        """Instances that a rule needs and that are not there."""
        named = list(missing)
        if named:
            self.lookup.missing |= dict.fromkeys(named)
            self.tally.not_asked(subject, [rule], why)

    def notes(self) -> list[str]:
        """What a reader should know beside the rules."""
        said = f"{self._rewritten} of our files were written again by another program: U6 was not asked of them"
        return [said] if self._rewritten else []

    def step(self) -> None:
        """One of our files more."""
        self._done += 1
        if self.progress is not None:
            self.progress(self.found.count + self._done, self.found.count + len(self.found.ours()))

    def ask_series(self, series_instance_uid: str, images: Sequence[FoundInstance], beside: Beside) -> None:
        """One derived series: image by image, then as a whole."""
        members = Members()
        checked = [one for one in (self._ask_image(image, members) for image in images) if one is not None]
        if not checked:
            return
        for uid, finding in range_answers([(one.member.uid, one.pixels) for one in checked]):
            if finding is None:
                self.tally.not_asked(uid, ["T5"], SOURCE_MISSING)
            else:
                self.tally.add(uid, [finding])
        findings = list(series_findings(members.all))
        pairs = [(one.member, one.source) for one in checked if one.source is not None]
        if len(pairs) == len(checked):
            findings += [*numbering_findings(pairs), *synthesis_findings(pairs)]
        for finding, subject in findings:
            self.tally.add(subject or series_instance_uid, [finding])
        known = {one.member.uid: one.pixels.is_unchanged for one in checked}
        known_of = {uid: bool(one) for uid, one in known.items() if one is not None}
        beside.remember(series_instance_uid, checked[0].by, members.all, known_of)
        self._remember(checked)

    def _ask_image(self, instance: FoundInstance, members: Members) -> _Checked | None:
        self.step()
        uid = instance.sop_instance_uid
        try:
            dataset = dcmread(instance.path)
            elements = verbatim_elements(dataset)  # before a text is read (K1)
            self.tally.add(uid, [*self._file_findings(dataset), *header_findings(dataset), uid_finding(dataset)])
            source = self.lookup.source(first_source(dataset))
            if source is None:
                self.tally.not_asked(uid, rules_asked_of_source(text(dataset, "Modality")), SOURCE_MISSING)
            else:  # whether another image of the source is synthetic, the series is asked
                self.tally.add(uid, source_findings(dataset, elements, source, of_synthetic=True))
            pixels = pixel_answers(dataset, source)
            self.tally.add(uid, [*pixels.findings, *_passed_through(dataset, pixels)])
            for rule, why in pixels.not_asked.items():
                self.tally.not_asked(uid, [rule], why)
        except UNREADABLE as fault:
            self.tally.add(uid, [Finding("READ", False, f"{instance.path.name} is damaged ({type(fault).__name__})")])
            return None
        model = model_item(dataset)
        name = text(dataset if model is None else model, "ManufacturerModelName")
        return _Checked(members.add(dataset), name, made_by(dataset), source, pixels)

    def _file_findings(self, dataset: FileDataset) -> Iterator[Finding]:
        """As of our own file; a program that stores it may write its own head, and says so."""
        is_own = dataset.file_meta.get("ImplementationClassUID") == IMPLEMENTATION_CLASS_UID
        self._rewritten += not is_own
        return (finding for finding in file_findings(dataset) if is_own or finding.rule != "U6")

    def _remember(self, checked: Sequence[_Checked]) -> None:
        """Which source images the pipeline was given, over all its derived series: a series can have several stacks."""
        for one in checked:
            if one.source is not None:
                stacks = self._derived_of.setdefault((one.model, one.source.text("SeriesInstanceUID")), {})
                stacks[one.source.sop_instance_uid, one.source.frame] = _stack_of(one.source)

    def ask_coverage(self) -> None:
        """Every image of the stacks that were derived has its derived image (C13)."""
        for (model, series), derived in self._derived_of.items():
            stacks = set(derived.values())
            for there in self.found.of_series(series):
                if (there.sop_instance_uid, 0) in derived:
                    continue
                left_out = [
                    image
                    for image in self.lookup.images_of(there.path)
                    if (image.sop_instance_uid, image.frame) not in derived and _stack_of(image) in stacks
                ]
                if left_out:
                    fault = f"{model} derived no image of it, though it did of others of its stack"
                    self.tally.add(there.sop_instance_uid, [Finding("C13", False, fault)])

    def ask_passports(self) -> None:
        """Every passport agrees with the files, and every one of our files has a passport that names it."""
        named: set[str] = set()
        files = {uid: one.path for uid, one in self.found.instances.items()}
        for path in self.found.passports:
            check = passport_findings(path, files)
            named |= check.named
            self.tally.add(path.name, check.findings)
            self.miss(PASSPORT, path.name, check.missing, "files that the passport names are not there")
            for uid in check.unsettled:
                why = "the pixels are the same, but the passport does not say which header it had"
                self.tally.not_asked(uid, [PASSPORT], why)
        for one in self.found.ours():
            if one.sop_instance_uid not in named:
                why = "no passport names it: whether it is as the node made it cannot be said"
                self.tally.not_asked(one.sop_instance_uid, [PASSPORT], why)


def _passed_through(dataset: FileDataset, pixels: PixelAnswers) -> Iterator[Finding]:
    """An image that is said to be unchanged is (C12)."""
    if text(dataset, "ImageComments").startswith(UNCHANGED) and pixels.is_unchanged is not None:
        yield asked("C12", pixels.is_unchanged, "it is said to be unchanged, and is not its source's")


def _stack_of(image: SourceImage) -> tuple[object, ...]:
    near = tuple(tuple(round(value, 3) + 0.0 for value in image.numbers(keyword)) for keyword in NEARLY)
    return (near, *(image.texts(keyword) for keyword in KEY_OF_STACK))
