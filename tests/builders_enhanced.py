"""Made-up enhanced multi-frame CT, MR and PET instances, each macro shared or per frame as the test wants it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from tests.builders_dicom import Array, _instance, code, ct_values, mr_values, pet_values, write_instance
from tests.builders_enhanced_groups import Groups, ct_groups, fill_mr_root, fill_pet_root, item, mr_groups, pet_groups

MendFrame = Callable[[int, Groups], None]
CLASSES = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage, "PT": EnhancedPETImageStorage}
FRAME_TYPE = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence", "PT": "PETFrameTypeSequence"}


def enhanced_values(modality: str, slices: int, rows: int, columns: int) -> Array:
    """What the frames of an enhanced instance hold: HU, Bq/ml or stored MR values, slice by slice."""
    made = {"CT": ct_values, "MR": mr_values, "PT": pet_values}
    return made[modality](slices, rows, columns)


def write_enhanced(
    path: Path,
    modality: str,
    *,
    values: Array | None = None,
    slices: int = 4,
    rows: int = 32,
    columns: int = 40,
    order: Sequence[int] | None = None,
    per_frame: Collection[str] = (),
    each: MendFrame | None = None,
    signed: bool = False,
    bits: int = 16,
    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 1.25),
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    **attributes: Any,
) -> Path:
    """One instance whose frame n shows slice `order[n - 1]` of `values`.

    A macro that is the same for all frames is shared unless named in `per_frame`. `each(slice, groups)` mends the
    functional groups of a slice; `attributes` are set at the root last of all (None takes one away).
    """
    real = enhanced_values(modality, slices, rows, columns) if values is None else values
    frames = list(range(len(real))) if order is None else list(order)
    groups, stored = [], []
    for k in frames:
        made, pixels = _groups(modality, k, real[k], spacing_mm=spacing_mm, signed=signed)
        if each is not None:
            each(k, made)
        groups.append(made)
        stored.append(pixels)
    dataset = _root(modality)
    _set_groups(dataset, groups, per_frame)
    dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = real.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed or modality == "PT")
    form = "<i2" if dataset.PixelRepresentation else "<u2"
    dataset.add_new("PixelData", "OW", np.stack(stored).astype(form).tobytes())
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_instance(path, dataset, transfer_syntax_uid=transfer_syntax_uid)
    return path


def _groups(
    modality: str, k: int, real: Array, *, spacing_mm: tuple[float, float, float], signed: bool
) -> tuple[Groups, Array]:
    groups: Groups = {
        "PixelMeasuresSequence": item(
            PixelSpacing=[str(spacing_mm[1]), str(spacing_mm[2])], SliceThickness=str(spacing_mm[0])
        ),
        "PlanePositionSequence": item(ImagePositionPatient=["-32", "-30", f"{100 + k * spacing_mm[0]:.10g}"]),
        "PlaneOrientationSequence": item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"]),
        "FrameVOILUTSequence": item(WindowCenter="40", WindowWidth="400"),
        "FrameAnatomySequence": item(
            FrameLaterality="U", AnatomicRegionSequence=DicomSequence([code("818981001", "SCT", "Abdomen")])
        ),
        "FrameContentSequence": item(
            FrameAcquisitionDateTime="20240229102010",
            FrameReferenceDateTime="20240229102110",
            FrameAcquisitionDuration=120000.0,
            StackID="1",
            InStackPositionNumber=k + 1,
            DimensionIndexValues=k + 1,
        ),
        FRAME_TYPE[modality]: item(
            FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
        ),
    }
    if modality == "PT":
        groups["FrameContentSequence"].TemporalPositionIndex = 1
    if modality == "CT":
        return groups | ct_groups(0.0 if signed else -1024.0), real - (0 if signed else -1024)
    if modality == "MR":
        groups[FRAME_TYPE["MR"]].ComplexImageComponent = "MAGNITUDE"
        groups[FRAME_TYPE["MR"]].AcquisitionContrast = "T1"
        return groups | mr_groups(), real
    slope = float(f"{float(np.abs(real).max() or 1) / 32767 * 1.001:.6g}")
    return groups | pet_groups(slope), np.rint(real / slope)


def _set_groups(dataset: Dataset, groups: Sequence[Groups], per_frame: Collection[str]) -> None:
    always = {"PlanePositionSequence", "FrameContentSequence", *per_frame}
    shared = {
        macro
        for macro in groups[0]
        if macro not in always and all(macro in other and other[macro] == groups[0][macro] for other in groups)
    }
    dataset.SharedFunctionalGroupsSequence = DicomSequence([_held({name: groups[0][name] for name in sorted(shared)})])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(
        [_held({name: part for name, part in made.items() if name not in shared}) for made in groups]
    )


def _held(groups: Mapping[str, Dataset]) -> Dataset:
    return item(**{macro: DicomSequence([part]) for macro, part in groups.items()})


def _root(modality: str) -> Dataset:
    dataset = _instance(CLASSES[modality], modality)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID, dataset.InstanceNumber = generate_uid(), 1
    dataset.DeviceSerialNumber = "77"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.AcquisitionDateTime, dataset.AcquisitionDuration = "20240229102010", 10.0
    del dataset.AcquisitionDate, dataset.AcquisitionTime
    dataset.PixelPresentation, dataset.VolumetricProperties = "MONOCHROME", "VOLUME"
    dataset.VolumeBasedCalculationTechnique, dataset.ContentQualification = "NONE", "PRODUCT"
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = DicomSequence()
    organization = generate_uid()
    dataset.DimensionOrganizationSequence = DicomSequence([item(DimensionOrganizationUID=organization)])
    dataset.DimensionIndexSequence = DicomSequence(
        [
            item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=0x00209057,
                FunctionalGroupPointer=0x00209111,
            )
        ]
    )
    if modality == "PT":
        fill_pet_root(dataset)
    else:
        dataset.PatientPosition, dataset.AcquisitionNumber = "HFS", "1"
    if modality == "MR":
        fill_mr_root(dataset)
    return dataset
