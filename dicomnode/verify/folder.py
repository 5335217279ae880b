"""The output gate's rules asked of files in a folder: any derived series with its sources, beside it, its passport."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from dicomnode.errors import SeriesUnusable
from dicomnode.gate.image_rules import file_findings, uid_finding
from dicomnode.gate.kind_rules import header_findings
from dicomnode.gate.rules import Finding, model_item, text
from dicomnode.gate.series_rules import first_source, numbering_findings, series_findings
from dicomnode.gate.source_rules import rules_asked_of_source, source_findings
from dicomnode.multiframe.enhanced import source_images
from dicomnode.passport import passport_findings
from dicomnode.source_image import UNREADABLE, SourceImage
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from dicomnode.verbatim import verbatim_elements
from dicomnode.verify.companions import (
    ASKED_OF_SOURCE,
    companion_findings,
    companion_references,
    reference_findings,
    subject_findings,
)
from dicomnode.verify.files import FoundFiles, FoundInstance, Progress, found_files
from dicomnode.verify.pixels import PixelAnswers, pixel_answers, range_answers
from dicomnode.verify.tally import Tally, Verification

KEY_OF_STACK = ("Rows", "Columns", "PixelSpacing", "ImageType", "FrameOfReferenceUID", "EchoTime", "FrameReferenceTime")
SOURCE_MISSING = "the source image is not there"


def verify_folder(folder: Path, *, sources: Sequence[Path] = (), progress: Progress | None = None) -> Verification:
    """What every rule gives for the derived series in the folder; their sources lie there too, or in `sources`.

    progress: is told how many of how many steps are done; the number of steps grows once, when it is known how many
    of the files are ours. Raises NotADirectoryError for a folder that is none.
    """
    folders = (folder, *sources)
    found = found_files(folders, progress)
    survey = _Survey(found, progress)
    for subject, finding in found.findings:
        survey.tally.add(subject, [finding])
    series = []
    for uid, members in groupby(found.ours(), key=lambda one: one.series_instance_uid):
        listed = list(members)
        images = [one for one in listed if one.is_derived_image]
        if images:
            survey.ask_series(uid, images)
            series.append((uid, len(images)))
        for companion in listed:
            if not companion.is_derived_image:
                survey.ask_companion(companion)
    survey.ask_coverage()
    for path in found.passports:
        findings, missing = passport_findings(path, {uid: one.path for uid, one in found.instances.items()})
        survey.tally.add(path.name, findings)
        survey.miss("PASSPORT", path.name, missing, "files that the passport names are not there")
    return Verification(
        folders=tuple(str(one) for one in folders),
        files=found.count,
        series=tuple(series),
        companions=sum(not one.is_derived_image for one in found.ours()),
        passports=len(found.passports),
        rules=survey.tally.results(),
        missing=tuple(survey.missing),
        notes=(*found.notes, *survey.notes()),
    )


@dataclass(slots=True)
class _Checked:
    """One derived image that was read: its header, its source, what its pixels gave."""

    dataset: Dataset
    source: SourceImage | None
    pixels: PixelAnswers


@dataclass(slots=True)
class _Survey:
    """The findings as they gather over the files."""

    found: FoundFiles
    progress: Progress | None
    tally: Tally = field(default_factory=Tally)
    missing: dict[str, None] = field(default_factory=dict)
    _done: int = 0
    _rewritten: int = 0
    _sources: dict[Path, list[SourceImage]] = field(default_factory=dict)
    _derived_of: dict[tuple[str, str], dict[tuple[str, int], tuple[object, ...]]] = field(default_factory=dict)

    def miss(self, rule: str, subject: str, missing: Iterable[str], why: str) -> None:
        """Instances that a rule needs and that are not there."""
        named = list(missing)
        if named:
            self.missing |= dict.fromkeys(named)
            self.tally.not_asked(subject, [rule], why)

    def notes(self) -> list[str]:
        """What a reader should know beside the rules."""
        said = f"{self._rewritten} of our files were written again by another program: U6 was not asked of them"
        return [said] if self._rewritten else []

    def _step(self) -> None:
        self._done += 1
        if self.progress is not None:
            self.progress(self.found.count + self._done, self.found.count + len(self.found.ours()))

    def ask_series(self, series_instance_uid: str, images: Sequence[FoundInstance]) -> None:
        """One derived series: image by image, then as a whole."""
        checked = [one for one in map(self._ask_image, images) if one is not None]
        if not checked:
            return
        for uid, finding in range_answers([(text(one.dataset, "SOPInstanceUID"), one.pixels) for one in checked]):
            if finding is None:
                self.tally.not_asked(uid, ["T5"], SOURCE_MISSING)
            else:
                self.tally.add(uid, [finding])
        for finding, subject in series_findings([one.dataset for one in checked]):
            self.tally.add(subject or series_instance_uid, [finding])
        pairs = [(one.dataset, one.source) for one in checked if one.source is not None]
        if len(pairs) == len(checked):
            for finding, subject in numbering_findings(pairs):
                self.tally.add(subject, [finding])
        self._remember(checked)

    def _ask_image(self, instance: FoundInstance) -> _Checked | None:
        self._step()
        uid = instance.sop_instance_uid
        try:
            dataset = dcmread(instance.path)
            elements = verbatim_elements(dataset)  # before a text is read (K1)
            self.tally.add(uid, [*self._file_findings(dataset), *header_findings(dataset), uid_finding(dataset)])
            source = self._source_of(first_source(dataset))
            if source is None:
                self.tally.not_asked(uid, rules_asked_of_source(text(dataset, "Modality")), SOURCE_MISSING)
            else:
                self.tally.add(uid, source_findings(dataset, elements, source))
            pixels = pixel_answers(dataset, source)
            self.tally.add(uid, pixels.findings)
            for rule, why in pixels.not_asked.items():
                self.tally.not_asked(uid, [rule], why)
        except UNREADABLE as fault:
            self.tally.add(uid, [Finding("READ", False, f"{instance.path.name} is damaged ({type(fault).__name__})")])
            return None
        if "PixelData" in dataset:
            del dataset.PixelData
        return _Checked(dataset, source, pixels)

    def _file_findings(self, dataset: FileDataset) -> Iterator[Finding]:
        """As of our own file; a program that stores it may write its own head, and says so."""
        is_own = dataset.file_meta.get("ImplementationClassUID") == IMPLEMENTATION_CLASS_UID
        self._rewritten += not is_own
        return (finding for finding in file_findings(dataset) if is_own or finding.rule != "U6")

    def _source_of(self, named: str) -> SourceImage | None:
        uid, _, frame = named.partition(" ")
        there = self.found.instances.get(uid)
        if there is None:
            self.missing |= {uid: None} if uid else {}
            return None
        images = self._images_of(there.path)
        return next((image for image in images if not frame or str(image.frame) == frame), None)

    def _images_of(self, path: Path) -> list[SourceImage]:
        """The images of a file; the last few multi-frame files are kept, as their frames are asked one by one."""
        if path not in self._sources:
            while len(self._sources) > 2:
                self._sources.pop(next(iter(self._sources)))
            try:
                self._sources[path] = source_images(path)
            except SeriesUnusable as fault:
                self.tally.add(path.name, [Finding("READ", False, f"the source cannot be read: {fault}")])
                self._sources[path] = []
        return self._sources[path]

    def _remember(self, checked: Sequence[_Checked]) -> None:
        """Which source images the pipeline was given, over all its derived series: a series can have several stacks."""
        for one in checked:
            if one.source is None:
                continue
            model = model_item(one.dataset)
            by = text(one.dataset if model is None else model, "ManufacturerModelName")
            stacks = self._derived_of.setdefault((by, one.source.text("SeriesInstanceUID")), {})
            stacks[one.source.sop_instance_uid, one.source.frame] = _stack_of(one.source)

    def ask_coverage(self) -> None:
        """Every image of the stacks that were derived has its derived image (C13)."""
        for (by, series), derived in self._derived_of.items():
            stacks = set(derived.values())
            for there in self.found.of_series(series):
                if (there.sop_instance_uid, 0) in derived:
                    continue
                left_out = [
                    image
                    for image in self._images_of(there.path)
                    if (image.sop_instance_uid, image.frame) not in derived and _stack_of(image) in stacks
                ]
                if left_out:
                    fault = f"{by} derived no image of it, though it did of others of its stack"
                    self.tally.add(there.sop_instance_uid, [Finding("C13", False, fault)])

    def ask_companion(self, instance: FoundInstance) -> None:
        """One object beside a derived series."""
        self._step()
        uid = instance.sop_instance_uid
        try:
            dataset = dcmread(instance.path, stop_before_pixels=True)
            elements = verbatim_elements(dataset)
            self.tally.add(uid, companion_findings(dataset))
            references = companion_references(dataset)
            self.tally.add(uid, reference_findings(references, self.found.instances))
            missing = [one for one in references if one not in self.found.instances]
            self.miss("C14", uid, missing, "instances that it refers to are not there")
            source = self._source_behind(references)
            if source is None:
                self.tally.not_asked(uid, ASKED_OF_SOURCE, SOURCE_MISSING)
            else:
                self.tally.add(uid, subject_findings(elements, source))
        except UNREADABLE as fault:
            self.tally.add(uid, [Finding("READ", False, f"{instance.path.name} is damaged ({type(fault).__name__})")])

    def _source_behind(self, references: Iterable[str]) -> SourceImage | None:
        """A source image that the object refers to, itself or by way of a derived image."""
        there = [self.found.instances[uid] for uid in references if uid in self.found.instances]
        for one in sorted(there, key=lambda one: one.is_ours):
            if not one.is_ours:
                images = self._images_of(one.path)
                if images:
                    return images[0]
            elif one.is_derived_image:
                source = self._source_of(first_source(dcmread(one.path, stop_before_pixels=True)))
                if source is not None:
                    return source
        return None


def _stack_of(image: SourceImage) -> tuple[object, ...]:
    orientation = tuple(round(value, 3) for value in image.numbers("ImageOrientationPatient"))
    return (orientation, *(image.texts(keyword) for keyword in KEY_OF_STACK))
