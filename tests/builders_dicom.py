"""Made-up CT, PET and MR series as DICOM files, sane by default, with faults on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, config, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from dicomnode.derive import JobFacts, derive_series
from dicomnode.load import load_volume
from inference.pipeline import Card, Outcome
from inference.volume import Unit

Array = NDArray[Any]
Mend = Callable[[int, Dataset], None]


def code(value: str, scheme: str, meaning: str, **more: Any) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for keyword, content in more.items():
        setattr(item, keyword, content)
    return item


def ct_values(slices: int, rows: int, columns: int) -> Array:
    """HU: an ellipse of soft tissue with a bone and an air hole in it, in air; each slice a little different."""
    j, i = np.mgrid[0:rows, 0:columns]
    y, x = (j - rows / 2) / rows, (i - columns / 2) / columns
    values = np.full((slices, rows, columns), -1000, np.int32)
    for k in range(slices):
        values[k][(x / 0.4) ** 2 + (y / 0.3) ** 2 < 1] = 40 + k
        values[k][(x - 0.15) ** 2 + y**2 < 0.004] = 700
        values[k][(x + 0.15) ** 2 + y**2 < 0.006] = -850
    return values


def pet_values(slices: int, rows: int, columns: int) -> Array:
    """Bq/ml: a warm ellipse with a hot lesion, the slices at very different maxima."""
    j, i = np.mgrid[0:rows, 0:columns]
    y, x = (j - rows / 2) / rows, (i - columns / 2) / columns
    values = np.zeros((slices, rows, columns), np.float64)
    for k in range(slices):
        values[k][(x / 0.4) ** 2 + (y / 0.3) ** 2 < 1] = 2000.0 + 10.0 * k
        values[k][(x - 0.1) ** 2 + y**2 < 0.003] = 9000.0 * (k + 1)
    return values


def mr_values(slices: int, rows: int, columns: int) -> Array:
    """Stored values of an MR image: a bright ellipse with a dark core."""
    j, i = np.mgrid[0:rows, 0:columns]
    y, x = (j - rows / 2) / rows, (i - columns / 2) / columns
    values = np.zeros((slices, rows, columns), np.int32)
    for k in range(slices):
        values[k][(x / 0.4) ** 2 + (y / 0.3) ** 2 < 1] = 600 + 3 * k
        values[k][x**2 + y**2 < 0.006] = 90
    return values


def write_ct_series(
    folder: Path,
    *,
    slices: int = 4,
    rows: int = 64,
    columns: int = 64,
    values: Array | None = None,
    intercept: float = -1024.0,
    slope: float = 1.0,
    each: Mend | None = None,
    **options: Any,
) -> list[Path]:
    """A CT series of 12 bits; `values` is (slices, rows, columns) HU. Other options as in `write_series`."""
    hounsfield = ct_values(slices, rows, columns) if values is None else values
    stored = np.rint((hounsfield - intercept) / slope)
    bits = 12 if stored.min() >= 0 and stored.max() < 4096 else 16

    def fill(k: int, dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.KVP, dataset.AcquisitionNumber, dataset.ConvolutionKernel = "120", "1", "B30f"
        dataset.PatientPosition, dataset.XRayTubeCurrent, dataset.ExposureTime = "HFS", "200", "500"
        dataset.SeriesDescription = "Abdomen 3.0 B30f"
        _set_pixels(dataset, stored[k], bits=bits, signed=bool(stored.min() < 0))
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = intercept, slope, "HU"
        dataset.WindowCenter, dataset.WindowWidth = "40", "400"

    return write_series(
        folder, fill, sop_class_uid=CTImageStorage, modality="CT", slices=len(hounsfield), each=each, **options
    )


def write_pet_series(
    folder: Path,
    *,
    slices: int = 4,
    rows: int = 32,
    columns: int = 32,
    values: Array | None = None,
    attenuation_corrected: bool = True,
    each: Mend | None = None,
    **options: Any,
) -> list[Path]:
    """A PET series, every slice with its own slope; not attenuation-corrected: the header a Siemens Vision writes."""
    activity = pet_values(slices, rows, columns) if values is None else values

    def fill(k: int, dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY"]
        dataset.SeriesDescription = "PET WB" if attenuation_corrected else "PET WB NAC"
        peak = float(np.abs(activity[k]).max())
        dataset.RescaleSlope = f"{peak / 32767 * 1.001:.9g}"[:16] if peak else "1"
        dataset.RescaleIntercept = "0"
        _set_pixels(dataset, np.rint(activity[k] / float(dataset.RescaleSlope)), bits=16, signed=True)
        _fill_pet(dataset, attenuation_corrected=attenuation_corrected)
        dataset.NumberOfSlices, dataset.ImageIndex = len(activity), k + 1

    options.setdefault("spacing_mm", (3.0, 4.0, 4.0))
    return write_series(
        folder,
        fill,
        sop_class_uid=PositronEmissionTomographyImageStorage,
        modality="PT",
        slices=len(activity),
        each=each,
        **options,
    )


def write_mr_series(
    folder: Path,
    *,
    slices: int = 4,
    rows: int = 64,
    columns: int = 64,
    values: Array | None = None,
    each: Mend | None = None,
    **options: Any,
) -> list[Path]:
    """A T1 spin echo series without rescale; `values` are the stored values."""
    stored = mr_values(slices, rows, columns) if values is None else values

    def fill(k: int, dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.SeriesDescription, dataset.PatientPosition = "T1 SE TRA", "HFS"
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.MRAcquisitionType, dataset.RepetitionTime, dataset.EchoTime = "2D", "500", "12"
        dataset.EchoTrainLength, dataset.MagneticFieldStrength, dataset.AcquisitionNumber = "1", "1.5", "1"
        _set_pixels(dataset, stored[k], bits=16, signed=bool(stored.min() < 0))
        dataset.WindowCenter, dataset.WindowWidth = "300", "600"

    return write_series(
        folder, fill, sop_class_uid=MRImageStorage, modality="MR", slices=len(stored), each=each, **options
    )


def write_series(
    folder: Path,
    fill: Mend,
    *,
    sop_class_uid: str,
    modality: str,
    slices: int,
    each: Mend | None = None,
    spacing_mm: tuple[float, float, float] = (3.0, 1.0, 1.0),
    first_position_mm: tuple[float, float, float] = (-32.0, -32.0, 100.0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    study_instance_uid: str = "",
    series_instance_uid: str = "",
    frame_of_reference_uid: str = "",
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    **attributes: Any,
) -> list[Path]:
    """Files 001.dcm ... along the stack normal, InstanceNumber 1 first.

    `attributes` are set by keyword on every instance (None takes the attribute away); `each(k, dataset)` mends or
    spoils single instances last of all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series = study_instance_uid or generate_uid(), series_instance_uid or generate_uid()
    frame_of_reference = frame_of_reference_uid or generate_uid()
    normal = np.cross(np.asarray(orientation[:3], float), np.asarray(orientation[3:], float))
    paths = []
    for k in range(slices):
        dataset = _instance(sop_class_uid, modality)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.InstanceNumber = frame_of_reference, k + 1
        position = np.asarray(first_position_mm) + k * spacing_mm[0] * normal
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in position]
        dataset.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
        dataset.PixelSpacing = [f"{value:.10g}" for value in spacing_mm[1:]]
        dataset.SliceThickness = f"{spacing_mm[0]:.10g}"
        fill(k, dataset)
        for keyword, value in attributes.items():
            if value is None:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if each is not None:
            each(k, dataset)
        path = folder / f"{k + 1:03d}.dcm"
        write_instance(path, dataset, transfer_syntax_uid=transfer_syntax_uid)
        paths.append(path)
    return paths


def write_instance(path: Path, dataset: Dataset, *, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> None:
    """One Part 10 file; compressed by pydicom when the transfer syntax asks for it; values are not validated."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "") or CTImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "") or generate_uid()
    target = UID(transfer_syntax_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if target.is_compressed else target
    instance = FileDataset(str(path), dataset, file_meta=meta, preamble=b"\0" * 128)
    if target.is_compressed:
        instance.compress(target, generate_instance_uid=False)
    if not target.is_little_endian and "PixelData" in instance:
        instance["PixelData"].value = np.frombuffer(instance.PixelData, "<u2").astype(">u2").tobytes()
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        dcmwrite(path, instance, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = before


def _instance(sop_class_uid: str, modality: str) -> Dataset:
    """What all three kinds of image share."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = sop_class_uid, generate_uid(), modality
    dataset.PatientName, dataset.PatientID = "Phantom^Made Up", "PHANTOM-1"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientWeight = "19500101", "O", "70"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20240229", "101500", "S1"
    dataset.StudyDescription, dataset.AccessionNumber, dataset.ReferringPhysicianName = "Made-up study", "A1", ""
    dataset.SeriesDate, dataset.SeriesTime, dataset.SeriesNumber = "20240229", "102000", "3"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240229", "102010"
    dataset.ContentDate, dataset.ContentTime = "20240229", "102100"
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = "Maker", "Scanner 9", "v1"
    dataset.InstitutionName, dataset.BodyPartExamined, dataset.PositionReferenceIndicator = "Hospital", "ABDOMEN", ""
    return dataset


def _set_pixels(dataset: Dataset, stored: Array, *, bits: int, signed: bool) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.add_new("PixelData", "OW", _even(stored.astype("<i2" if signed else "<u2").tobytes()))


def _even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)


def _fill_pet(dataset: Dataset, *, attenuation_corrected: bool) -> None:
    dataset.SeriesType, dataset.CountsSource = ["WHOLE BODY", "IMAGE"], "EMISSION"
    dataset.CollimatorType, dataset.DecayCorrection = "NONE", "START"
    dataset.RandomsCorrectionMethod, dataset.ReconstructionMethod = "DLYD", "OSEM 3i10s"
    dataset.FrameReferenceTime, dataset.ActualFrameDuration, dataset.DecayFactor = "1000", "120000", "1.01"
    if attenuation_corrected:
        dataset.Units, dataset.CorrectedImage = "BQML", ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
        dataset.AttenuationCorrectionMethod = "measured,AC CT"
        dataset.ScatterCorrectionMethod = "Model-based"
    else:
        dataset.Units, dataset.CorrectedImage = "PROPCPS", ["NORM", "DTIM", "DECY", "RAN"]
    nuclide = Dataset()
    nuclide.Radiopharmaceutical, nuclide.RadiopharmaceuticalStartTime = "Fluorodeoxyglucose", "092000"
    nuclide.RadionuclideTotalDose, nuclide.RadionuclideHalfLife = "350000000", "6586.2"
    nuclide.RadionuclideCodeSequence = DicomSequence([code("77004003", "SCT", "^18^Fluorine")])
    dataset.RadiopharmaceuticalInformationSequence = DicomSequence([nuclide])
    supine = DicomSequence([code("40199007", "SCT", "supine")])
    recumbent = code("102538003", "SCT", "recumbent", PatientOrientationModifierCodeSequence=supine)
    dataset.PatientOrientationCodeSequence = DicomSequence([recumbent])
    dataset.PatientGantryRelationshipCodeSequence = DicomSequence([code("102540008", "SCT", "headfirst")])


def card_for(modality: str, *, to: str = "", **changes: Any) -> Card:
    """The card of a made-up pipeline for a modality; `to` another modality makes it a synthetic image."""
    facts: dict[str, Any] = {
        "name": "identity",
        "version": "1.0",
        "ordinal": 7,
        "label": "identity",
        "purpose": "Nothing is changed.",
        "token": "SYNTHETIC" if to else "IDENTITY",
        "modality": modality,
        "takes": frozenset(Unit),
        "makes": Unit.HU if to else None,
        "method": "none",
        "intended_use": "Tests.",
        "makes_modality": to,
        "synthetic": bool(to),
    }
    return Card(**(facts | changes))


def job_facts(**changes: Any) -> JobFacts:
    """The facts of a made-up job, always the same unless changed."""
    facts: dict[str, Any] = {
        "key": "ab" * 32,
        "created_at": datetime(2025, 3, 1, 9, 30, 15, tzinfo=UTC),
        "deployment_uuid": "12345678-1234-5678-1234-567812345678",
    }
    return JobFacts(**(facts | changes))


def derived_datasets(
    files: Sequence[Path], card: Card, outcome: Outcome | None = None, **job: Any
) -> list[FileDataset]:
    """What a pipeline's outcome (without one: the source itself) becomes as DICOM, read back in slice order."""
    source, images = load_volume(files)
    if outcome is None:
        values = source.values if card.makes in (None, source.unit) else np.minimum(source.values, 1000)
        outcome = Outcome(source.with_values(values, card.makes))
    return [dcmread(BytesIO(made.content)) for made in derive_series(outcome, card, images, job=job_facts(**job))]


def with_bytes(path: Path, placeholder: bytes, content: bytes) -> None:
    """Puts bytes that no encoder would write in the place of a placeholder of the same length."""
    assert len(placeholder) == len(content)
    before = path.read_bytes()
    assert placeholder in before
    path.write_bytes(before.replace(placeholder, content))
