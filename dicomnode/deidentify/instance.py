"""One stored instance in, its de-identified file out, and what was done; the stored file is only read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from warnings import catch_warnings, simplefilter

from pydicom import config, dcmread, dcmwrite
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from dicomnode.deidentify.burned_in import PIXELS, PixelPolicy, Risk, pixel_finding, refused
from dicomnode.deidentify.identity import UNREADABLE, Identity, identity_of
from dicomnode.deidentify.marks import fresh_meta, mark
from dicomnode.deidentify.profile import Action, Option
from dicomnode.deidentify.secret import Secret
from dicomnode.deidentify.walk import NotExported, Walk

NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, slots=True)
class Policy:
    """How an export de-identifies."""

    options: frozenset[Option]
    secret: Secret
    pixels: PixelPolicy = PixelPolicy.REFUSE


@dataclass(frozen=True, slots=True)
class Patient:
    """Who the patient is in the original, who stands for them, and by how many days the dates are earlier."""

    patient_id: str
    pseudonym: str
    days_earlier: int


@dataclass(frozen=True, slots=True)
class Deidentified:
    """One de-identified instance. original: the UIDs of study, series and instance, as new: those that stand for them.

    done: attribute and action -> how often. warnings: sentences for people, which name no one.
    """

    content: bytes
    original: tuple[str, str, str]
    new: tuple[str, str, str]
    patient: Patient
    done: Mapping[tuple[str, Action], int]
    warnings: tuple[str, ...]


def deidentify(path: Path, policy: Policy) -> Deidentified:
    """The de-identified instance of a stored file; NotExported where that cannot be done honestly."""
    with _unsaid():
        return _deidentified(path, policy)


@contextmanager
def _unsaid() -> Iterator[None]:
    """pydicom says nothing of odd values: its words would repeat them."""
    before = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    try:
        with catch_warnings():
            simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = before


def _deidentified(path: Path, policy: Policy) -> Deidentified:
    try:
        dataset = dcmread(path)
        reading = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, *UNREADABLE):
        raise NotExported("its file cannot be read") from None
    if any(not str(dataset.get(one) or "") for one in NEEDED):
        raise NotExported("its header lacks a UID")
    finding = pixel_finding(reading, has_pixels=any(one in dataset for one in PIXELS))
    if refused(finding, policy.pixels):
        raise NotExported(f"its pixels may name the patient: {finding.reason}")
    warnings = [] if finding.risk is Risk.NONE else [f"its pixels may name the patient: {finding.reason}"]
    if str(reading.get("RecognizableVisualFeatures") or "").upper() == "YES":
        warnings.append("its pixels may show a face that can be recognised (Recognizable Visual Features is YES)")
    try:
        identity = identity_of(reading, keep_institution=Option.INSTITUTION in policy.options)
    except RecursionError:
        raise NotExported("its sequences lie too deep in each other") from None
    patient, known = _patient(reading, policy.secret)
    if not known:
        warnings.append("it names no patient: its study stands for one")
    walk = Walk(
        options=policy.options,
        secret=policy.secret,
        identity=identity,
        earlier_days=patient.days_earlier,
        sop_class_uid=str(dataset.SOPClassUID),
    )
    original = _uids(dataset)
    walk.apply(dataset)
    if any(not str(dataset.get(one) or "") for one in NEEDED):
        raise NotExported("its header names persons where a UID must stand")
    mark(dataset, pseudonym=patient.pseudonym, options=policy.options)
    dataset.file_meta = fresh_meta(dataset, reading.file_meta)
    dataset.preamble = b"\0" * 128
    if walk.named:
        warnings.append(f"not kept, for what stood in them: {', '.join(sorted(walk.named))}")
    content = _encoded(dataset, identity.with_uids(walk.uids.keys() - walk.kept_uids))
    return Deidentified(content, original, _uids(dataset), patient, Counter(walk.done), tuple(warnings))


def _patient(dataset: FileDataset, secret: Secret) -> tuple[Patient, bool]:
    """Who stands for the patient; the issuer counts, since two hospitals may use the same number."""
    patient_id = str(dataset.get("PatientID") or "").strip()
    issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
    person = (issuer, patient_id) if patient_id else ("study", "", str(dataset.StudyInstanceUID))
    return Patient(patient_id, secret.pseudonym(*person), secret.days_earlier(*person)), bool(patient_id)


def _uids(dataset: FileDataset) -> tuple[str, str, str]:
    return str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)


def _encoded(dataset: FileDataset, identity: Identity) -> bytes:
    """The file; NotExported where its bytes still hold a word of the original's persons or one of its UIDs.

    That look at the bytes knows nothing of the walk: what one of them overlooks the other must find.
    """
    pixels = {one: dataset.pop(one) for one in PIXELS if one in dataset}
    if identity.named_in_bytes(_written(dataset)):
        raise NotExported("its encoded header still names somebody; please report this")
    for keyword, element in pixels.items():
        if dataset.file_meta.TransferSyntaxUID.is_compressed and identity.named_in_bytes(bytes(element.value or b"")):
            raise NotExported("its compressed pixels hold a comment that names somebody")
        dataset[keyword] = element
    return _written(dataset)


def _written(dataset: FileDataset) -> bytes:
    buffer = BytesIO()
    try:
        dcmwrite(buffer, dataset, enforce_file_format=True)
    except (OSError, *UNREADABLE):  # pydicom's words repeat values
        raise NotExported("it cannot be written again") from None
    return buffer.getvalue()
