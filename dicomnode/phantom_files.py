"""Phantoms as DICOM files: a CT series and a PET series with the headers a scanner would give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from dicomnode.uids import deterministic_uid

NAMESPACE = "5f0c5d0e-3f0b-5a53-9a2e-6b8f2f1b7d21"
IMPLEMENTATION_CLASS_UID = deterministic_uid(NAMESPACE, ["phantom scanner"])
"""Not the node's own: what the node derived is never routed, and phantoms must be."""
TABLE_HEIGHT_MM = 120.0


def write_ct(
    folder: Path,
    values: NDArray[np.float32],
    description: str,
    *,
    part: str,
    spacing_mm: tuple[float, float],
    seed: int,
) -> tuple[Path, ...]:
    """A CT series of (slices, rows, columns) HU, 12 bits unsigned with intercept -1024 as most scanners store it.

    spacing_mm: between slices, and of the square pixels; slice 0 lies nearest to the feet. The files, in slice order.
    """
    series = _series_attributes("CT", description, study=part.title(), seed=seed)
    series.BodyPartExamined = part
    series.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    series.KVP = 120
    series.ConvolutionKernel = "STANDARD"
    series.SpacingBetweenSlices = spacing_mm[0]
    series.GantryDetectorTilt = 0
    series.ImagesInAcquisition = len(values)  # by it the series is whole, however slowly it is sent
    series.BitsStored, series.HighBit, series.PixelRepresentation = 12, 11, 0
    series.RescaleIntercept, series.RescaleSlope, series.RescaleType = -1024, 1, "HU"
    series.WindowCenter, series.WindowWidth = 50, 400
    stored = np.clip(np.rint(values + 1024), 0, 4095).astype("<u2")
    paths = []
    for k, cut in enumerate(stored):
        dataset = _instance(series, cut, k, seed, spacing_mm=spacing_mm)
        dataset.AcquisitionNumber = 1
        paths.append(_save(folder, dataset, k))
    return tuple(paths)


def write_pet(
    folder: Path, values: NDArray[np.float32], description: str, *, spacing_mm: tuple[float, float], seed: int
) -> tuple[Path, ...]:
    """A PET series of (slices, rows, columns) counts per second in proportion, headed as a NAC reconstruction.

    Every slice has its own slope. spacing_mm and the result: as in `write_ct`.
    """
    series = _series_attributes("PT", description, study="Whole body FDG", seed=seed)
    series.ImageType = ["ORIGINAL", "PRIMARY"]
    series.BodyPartExamined = "CHEST"
    series.Units = "PROPCPS"
    series.CountsSource = "EMISSION"
    series.SeriesType = ["WHOLE BODY", "IMAGE"]
    series.NumberOfSlices = len(values)
    series.CorrectedImage = ["NORM", "DTIM", "DECY", "RAN"]
    series.RandomsCorrectionMethod = "DLYD"
    series.DecayCorrection = "START"
    series.ReconstructionMethod = "OSEM 3i6s"
    series.CollimatorType = "NONE"
    series.AxialAcceptance = 38
    series.ScanProgressionDirection = ""
    series.BitsStored, series.HighBit, series.PixelRepresentation = 16, 15, 1
    series.RescaleIntercept = 0
    series.RadiopharmaceuticalInformationSequence = DicomSequence([_fdg()])
    series.PatientOrientationCodeSequence = DicomSequence([_code("102538003", "SCT", "recumbent")])
    series.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = DicomSequence(
        [_code("40199007", "SCT", "supine")]
    )
    series.PatientGantryRelationshipCodeSequence = DicomSequence([_code("102540008", "SCT", "headfirst")])
    del series.PatientPosition
    paths = []
    for k, cut in enumerate(np.maximum(values, 0)):
        slope = float(f"{max(float(cut.max()), 1e-6) / 32000:.8g}")
        stored = np.rint(cut / slope).astype("<i2")
        dataset = _instance(series, stored, k, seed, spacing_mm=spacing_mm)
        dataset.RescaleSlope = slope
        width = max(32000 * slope, 1.0)  # PS3.3 C.11.2.1.2: never below 1
        dataset.WindowCenter, dataset.WindowWidth = f"{width / 2:.8g}", f"{width:.8g}"
        dataset.ImageIndex = len(values) - k
        dataset.ActualFrameDuration, dataset.FrameReferenceTime = 120000, 60000
        dataset.DecayFactor = 1.0063
        paths.append(_save(folder, dataset, k))
    return tuple(paths)


def _series_attributes(modality: str, description: str, *, study: str, seed: int) -> Dataset:
    """All that the slices of one series share."""
    series = Dataset()
    series.SOPClassUID = CTImageStorage if modality == "CT" else PositronEmissionTomographyImageStorage
    series.PatientName, series.PatientID = "PHANTOM^DEMO", "PHANTOM-DEMO"
    series.PatientBirthDate, series.PatientSex = "", "O"
    series.PatientWeight, series.PatientSize = 75, 1.75
    series.StudyInstanceUID = _uid(seed, description, "study")
    series.SeriesInstanceUID = _uid(seed, description, "series")
    series.FrameOfReferenceUID = _uid(seed, description, "frame of reference")
    series.StudyDate = series.SeriesDate = series.AcquisitionDate = series.ContentDate = "20240101"
    series.StudyTime = series.SeriesTime = series.AcquisitionTime = series.ContentTime = "120000"
    series.StudyDescription, series.SeriesDescription = study, description
    series.StudyID, series.AccessionNumber, series.ReferringPhysicianName = "1", "", ""
    series.Modality, series.SeriesNumber = modality, 2
    series.Manufacturer, series.ManufacturerModelName = "Phantom", "simulated scanner"
    series.PatientPosition, series.PositionReferenceIndicator = "HFS", ""
    return series


def _instance(
    series: Dataset,
    stored: NDArray[np.uint16] | NDArray[np.int16],
    k: int,
    seed: int,
    *,
    spacing_mm: tuple[float, float],
) -> FileDataset:
    """Slice k, counted from the feet upwards."""
    slice_mm, pixel_mm = spacing_mm
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset = FileDataset("", series, file_meta=meta, preamble=bytes(128))
    rows, columns = stored.shape
    dataset.SOPInstanceUID = _uid(seed, series.SeriesDescription, "instance", str(k))
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    corner_mm = -(columns - 1) / 2 * pixel_mm
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = [corner_mm, corner_mm - TABLE_HEIGHT_MM, round(k * slice_mm, 3)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SliceLocation = round(k * slice_mm, 3)
    dataset.PixelSpacing, dataset.SliceThickness = [pixel_mm, pixel_mm], slice_mm
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.PixelData = stored.tobytes()
    return dataset


def _save(folder: Path, dataset: FileDataset, k: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"slice{k + 1:03d}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _fdg() -> Dataset:
    item = Dataset()
    item.Radiopharmaceutical = "FDG"
    item.RadiopharmaceuticalStartTime = "110000"
    item.RadionuclideTotalDose, item.RadionuclideHalfLife, item.RadionuclidePositronFraction = 3e8, 6586.2, 0.967
    item.RadionuclideCodeSequence = DicomSequence([_code("77004003", "SCT", "^18^Fluorine")])
    item.RadiopharmaceuticalCodeSequence = DicomSequence([_code("35321007", "SCT", "Fluorodeoxyglucose F^18^")])
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _uid(seed: int, *parts: str) -> str:
    return deterministic_uid(NAMESPACE, ["phantom", str(seed), *parts])
