"""Single faults to put into a good derived file, each with the rule of DERIVED_SERIES that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import FileDataset, config, dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicomnode.derive import derive_series
from dicomnode.load import load_volume
from dicomnode.source_image import SourceImage
from inference.pipeline import Card, Outcome
from tests.builders_dicom import card_for, code, job_facts, write_ct_series, write_mr_series, write_pet_series

Spoil = Callable[[Dataset], None]


@dataclass(frozen=True)
class GoodImage:
    """A derived image that keeps every rule, with what it was made of and for."""

    content: bytes
    card: Card
    image: SourceImage
    values: NDArray[np.float32]
    outside: NDArray[np.bool_] | None


@cache
def good_image(kind: str) -> GoodImage:
    """The first derived image of a phantom: CT (with padding), PT, MR, or SYN for a synthetic CT of a PET."""
    more: dict[str, Any] = {
        "TimezoneOffsetFromUTC": "+0100",
        "PatientAge": "073Y",
        "ProtocolName": "Protocol",
        "SliceLocation": "100",
        "AcquisitionNumber": "4",
    }
    with TemporaryDirectory() as folder:
        if kind == "CT":
            values = np.full((3, 16, 16), 40)
            values[:, :3] = values[:, -3:] = -3024
            more |= {"Exposure": "100", "IrradiationEventUID": "1.2.3.4", "Laterality": "L", "BodyPartExamined": "KNEE"}
            files = write_ct_series(Path(folder), values=values, **more)
        elif kind == "MR":
            files = write_mr_series(Path(folder), slices=3, rows=16, columns=16, FlipAngle="90", **more)
        else:
            files = write_pet_series(Path(folder), slices=3, rows=16, columns=16, **more)
        card = {"SYN": card_for("PT", to="CT")}.get(kind) or card_for(kind)
        source, images = load_volume(files)
        values = np.minimum(source.values, 1000) if kind == "SYN" else source.values
        outcome = Outcome(source.with_values(values, card.makes))
        made = next(iter(derive_series(outcome, card, images, job=job_facts())))
    outside = None if source.outside is None or kind != "CT" else source.outside[0]
    return GoodImage(made.content, card, images[0], outcome.volume.values[0], outside)


def spoiled(content: bytes, spoil: Spoil) -> bytes:
    """The file with a fault in it, whatever the fault."""
    dataset, out = dcmread(BytesIO(content)), BytesIO()
    before = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    try:
        spoil(dataset)
        dataset.save_as(out)
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = before
    return out.getvalue()


def sets(**attributes: Any) -> Spoil:
    """A fault that gives attributes other values."""

    def spoil(dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return spoil


def lacks(*keywords: str) -> Spoil:
    """A fault that takes attributes away."""

    def spoil(dataset: Dataset) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return spoil


def in_item(keyword: str, index: int, **attributes: Any) -> Spoil:
    """A fault in an item of a sequence."""
    return lambda dataset: sets(**attributes)(dataset[keyword][index])


def purpose_of(keyword: str, value: str) -> Spoil:
    """Another purpose code in the last item of a sequence."""

    def spoil(dataset: Dataset) -> None:
        dataset[keyword][-1].PurposeOfReferenceCodeSequence[0].CodeValue = value

    return spoil


def meta(**attributes: Any) -> Spoil:
    """A fault in the file meta group."""

    def spoil(dataset: Dataset) -> None:
        assert isinstance(dataset, FileDataset)
        sets(**attributes)(dataset.file_meta)

    return spoil


def _another_reference(dataset: Dataset) -> None:
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _own_source(dataset: Dataset) -> None:
    dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = dataset.SOPInstanceUID


def _twice(dataset: Dataset) -> None:
    dataset.SourceImageSequence.append(dataset.SourceImageSequence[0])


def _no_model(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence = dataset.ContributingEquipmentSequence[:1]


def _one_more_equipment(dataset: Dataset) -> None:
    first = dataset.ContributingEquipmentSequence[0]
    dataset.ContributingEquipmentSequence = [first, *dataset.ContributingEquipmentSequence]


def _private(dataset: Dataset) -> None:
    dataset.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")


def _overlay(dataset: Dataset) -> None:
    dataset.add_new(0x60000010, "US", 16)


def _padding_above_limit(dataset: Dataset) -> None:
    dataset.add_new(0x00280120, "SS", -1000)
    dataset.add_new(0x00280121, "SS", -2000)


def _padding_of_a_voxel(dataset: Dataset) -> None:
    dataset.add_new(0x00280120, "SS", 40)


def _padding_of_the_wrong_kind(dataset: Dataset) -> None:
    dataset.add_new(0x00280120, "US", 3000)


def _one_pixel_more(dataset: Dataset) -> None:
    stored = np.frombuffer(dataset.PixelData, "<u2").copy()
    stored[len(stored) // 2 + 8] += 1
    dataset.PixelData = stored.tobytes()


def _short_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-32]


def _first_source_of_another_frame(dataset: Dataset) -> None:
    dataset.SourceImageSequence[0].ReferencedFrameNumber = 2


def _other_nuclide(dataset: Dataset) -> None:
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = "1"


EQUIPMENT, SOURCES, RELATED = "ContributingEquipmentSequence", "SourceImageSequence", "RelatedSeriesSequence"
LISTED = "ReferencedSeriesSequence"
OTHER_CODE = DicomSequence([code("1", "DCM", "x")])

G3_FAULTS: list[tuple[str, str, Spoil]] = [
    ("C11", "CT", sets(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])),
    ("C1", "CT", sets(Modality="PT")),
    ("C1", "CT", sets(Modality="OT")),
    ("T1", "CT", sets(RescaleType="US")),
    ("C10", "CT", purpose_of(EQUIPMENT, "121322")),
    ("C25", "CT", _padding_above_limit),
    ("C20", "CT", sets(LossyImageCompression="01")),
    ("C23", "CT", sets(SyntheticData="MAYBE")),
    ("P2", "PT", sets(CorrectedImage=["NORM", "DTIM", "SCAT", "DECY", "RAN"])),
    ("P2", "PT", sets(CorrectedImage=["NORM", "DTIM", "ATTN", "SCAT", "RAN"])),
    ("P4", "PT", sets(ImageIndex=0)),
    ("T1", "CT", sets(HighBit=14)),
    ("C14", "CT", lambda dataset: setattr(dataset[LISTED][0], "ReferencedInstanceSequence", [])),
    ("C13", "CT", lacks(SOURCES)),
    ("P7", "PT", sets(PatientPosition="HFS")),
]
"""The single faults that validators of other makers say nothing of, or do not end with a failure (G1, G3)."""

FAULTS: list[tuple[str, str, Spoil]] = [
    ("C1", "CT", sets(SOPInstanceUID="2.25.1")),
    ("C1", "CT", meta(MediaStorageSOPClassUID="1.2.840.10008.5.1.4.1.1.4")),
    ("C1", "MR", sets(SOPClassUID="1.2.840.10008.5.1.4.1.1.128")),
    ("U6", "CT", meta(ImplementationClassUID="1.2.3")),
    ("U6", "CT", meta(ImplementationVersionName="PYDICOM 3")),
    ("U1", "CT", sets(SeriesInstanceUID="1.2.3")),
    ("U2", "CT", sets(SeriesInstanceUID="2.25.3")),
    ("C2", "CT", sets(PatientID="PHANTOM-2")),
    ("C2", "CT", sets(PatientName="Other^Name")),
    ("C2", "PT", sets(PatientBirthDate="19500102")),
    ("C2", "MR", lacks("AccessionNumber")),
    ("C2", "PT", sets(PatientWeight="71")),
    ("C2", "CT", lacks("PatientAge")),
    ("C2", "CT", lacks("StudyInstanceUID")),
    ("C2", "SYN", sets(EthnicGroup="added")),
    ("C3", "CT", _own_source),
    ("C3", "CT", lambda dataset: setattr(dataset[LISTED][0], "SeriesInstanceUID", dataset.SeriesInstanceUID)),
    ("C4", "CT", sets(FrameOfReferenceUID="1.2.3")),
    ("C4", "MR", lacks("FrameOfReferenceUID")),
    ("C5", "CT", sets(ImagePositionPatient=["-32", "-32", "103"])),
    ("C5", "PT", sets(ImageOrientationPatient=["1", "0", "0", "0", "0.9", "0"])),
    ("C5", "MR", sets(ImageOrientationPatient=["0", "1", "0", "1", "0", "0"])),
    ("C5", "CT", sets(PixelSpacing=["1.0", "1.01"])),
    ("C5", "CT", lacks("SliceThickness")),
    ("C5", "CT", sets(SliceLocation="101")),
    ("C6", "CT", sets(InstanceNumber=None)),
    ("C7", "CT", sets(SeriesNumber=None)),
    ("C7", "CT", sets(SeriesNumber="3")),
    ("C8", "CT", sets(SeriesDescription="Abdomen 3.0 B30f")),
    ("C8", "CT", sets(SeriesDescription="Other identity (AI)")),
    ("C9", "CT", sets(Manufacturer="Maker")),
    ("C9", "CT", sets(ManufacturerModelName="Scanner 9")),
    ("C9", "CT", sets(SoftwareVersions="v1")),
    ("C9", "CT", sets(DeviceUID="1.2.3")),
    ("C9", "CT", sets(InstitutionName="Another")),
    ("C10", "CT", in_item(EQUIPMENT, 0, Manufacturer="")),
    ("C10", "CT", in_item(EQUIPMENT, 0, Manufacturer="Another")),
    ("C10", "CT", in_item(EQUIPMENT, -1, ManufacturerModelName="another")),
    ("C10", "CT", in_item(EQUIPMENT, -1, DeviceUID=None)),
    ("C10", "CT", _no_model),
    ("C10", "CT", _one_more_equipment),
    ("C11", "PT", sets(ImageType=["DERIVED", "SECONDARY", "", "IDENTITY"])),
    ("C11", "CT", sets(ImageType=["DERIVED", "SECONDARY", "AXIAL", "IDENTITY"])),
    ("C11", "CT", sets(ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "OTHER"])),
    ("C11", "MR", sets(ImageType=["DERIVED", "SECONDARY", "P", "IDENTITY"])),
    ("C12", "CT", lacks("DerivationDescription")),
    ("C12", "CT", lacks("DerivationCodeSequence")),
    ("C12", "CT", lacks("CodingSchemeIdentificationSequence")),
    ("C13", "CT", lacks(SOURCES, LISTED)),
    ("C13", "CT", lambda dataset: delattr(dataset[SOURCES][0], "SpatialLocationsPreserved")),
    ("C13", "CT", purpose_of(SOURCES, "121323")),
    ("C13", "CT", _twice),
    ("C14", "CT", _another_reference),
    ("C14", "CT", lacks(LISTED)),
    ("C15", "CT", lacks(RELATED)),
    ("C15", "CT", in_item(RELATED, 0, StudyInstanceUID="1.2.3")),
    ("C15", "CT", purpose_of(RELATED, "121322")),
    ("C16", "CT", sets(SeriesTime="000000")),
    ("C16", "CT", lacks("SeriesDate")),
    ("C17", "PT", sets(ContentTime="000000")),
    ("C17", "CT", lacks("InstanceCreationDate")),
    ("C18", "CT", sets(AcquisitionTime="000000")),
    ("C18", "CT", lacks("IrradiationEventUID")),
    ("C19", "CT", sets(TimezoneOffsetFromUTC="+0200")),
    ("C20", "CT", sets(LossyImageCompression="1")),
    ("C21", "CT", lacks("BurnedInAnnotation")),
    ("C21", "CT", sets(BurnedInAnnotation="YES")),
    ("C22", "CT", sets(ContentQualification="")),
    ("C23", "SYN", lacks("SyntheticData")),
    ("C23", "CT", sets(SyntheticData="YES")),
    ("C24", "CT", sets(ImageComments="Fine.")),
    ("C25", "CT", _private),
    ("C25", "CT", _overlay),
    ("C25", "CT", _padding_of_the_wrong_kind),
    ("C25", "CT", lambda dataset: dataset.add_new(0x00280107, "SS", 700)),
    ("C25", "CT", sets(OperatorsName="Somebody")),
    ("C26", "CT", sets(Units="HU")),
    ("C26", "MR", sets(KVP="120")),
    ("C27", "CT", sets(WindowWidth="0")),
    ("C27", "CT", sets(WindowWidth=["400", "80"])),
    ("C27", "CT", sets(WindowCenter="50")),
    ("C28", "CT", sets(SpecificCharacterSet="ISO_IR 192")),
    ("C29", "CT", lacks("PatientPosition")),
    ("C29", "CT", sets(PatientPosition="FFS")),
    ("C29", "CT", sets(Laterality="R")),
    ("C29", "CT", lacks("ProtocolName")),
    ("K1", "CT", sets(ImageComments="F\u00fcr Forschung: research only, not for diagnosis")),
    ("T1", "CT", sets(RescaleIntercept="-1024")),
    ("T1", "CT", sets(RescaleSlope="2")),
    ("T1", "CT", sets(BitsStored=14, HighBit=13)),
    ("T1", "CT", sets(PixelRepresentation=0)),
    ("T1", "CT", sets(PhotometricInterpretation="MONOCHROME1")),
    ("T1", "CT", _one_pixel_more),
    ("T1", "CT", _short_pixels),
    ("T2", "CT", sets(KVP="100")),
    ("T2", "CT", lacks("ConvolutionKernel")),
    ("T3", "SYN", sets(KVP="120")),
    ("T3", "SYN", sets(ConvolutionKernel="B30f")),
    ("T3", "SYN", lacks("AcquisitionNumber")),
    ("T4", "CT", _padding_of_a_voxel),
    ("P1", "PT", sets(SeriesTime="")),
    ("P1", "PT", sets(SeriesDate="20250301")),
    ("P1", "PT", sets(FrameReferenceTime="0")),
    ("P1", "PT", lacks("ActualFrameDuration")),
    ("P2", "PT", sets(Units="CNTS")),
    ("P2", "PT", sets(DecayCorrection="NONE")),
    ("P2", "PT", sets(CountsSource="TRANSMISSION")),
    ("P2", "PT", lacks("ReconstructionMethod")),
    ("P3", "PT", sets(RescaleIntercept="1")),
    ("P3", "PT", sets(RescaleSlope="-1")),
    ("P3", "PT", sets(BitsStored=12, HighBit=11)),
    ("P3", "PT", _one_pixel_more),
    ("P4", "PT", sets(ImageIndex=4)),
    ("P4", "PT", lacks("NumberOfSlices")),
    ("P5", "PT", _other_nuclide),
    ("P7", "PT", sets(RescaleType="BQML")),
    ("P7", "PT", lacks("PatientGantryRelationshipCodeSequence")),
    ("M1", "MR", sets(EchoTime="13")),
    ("M1", "MR", lacks("ScanningSequence")),
    ("M1", "MR", lacks("ScanOptions")),
    ("M2", "MR", sets(RescaleSlope="2", RescaleIntercept="0")),
    ("M2", "MR", sets(RescaleSlope="2")),
    ("M2", "MR", sets(HighBit=11)),
    ("M2", "MR", _one_pixel_more),
    ("C13", "CT", _first_source_of_another_frame),
]
"""At least one fault for each rule of DERIVED_SERIES that a finished file can be asked."""
