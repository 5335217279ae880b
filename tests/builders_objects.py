"""Made-up objects beside images: bit-packed segments, a float map, a colour picture, a document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from tests.builders_dicom import code, write_instance


def _common(sop_class_uid: str, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.SOPClassUID, dataset.SOPInstanceUID = (
        "ISO_IR 192",
        sop_class_uid,
        generate_uid(),
    )
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), generate_uid(), modality
    dataset.PatientName, dataset.PatientID = "Müller^Jürg", "PHANTOM-1"
    return dataset


def _image(dataset: Dataset, frames: int, rows: int, columns: int) -> None:
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"


def write_segmentation(path: Path, *, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """Three frames of 5 x 7 single bits: frames do not begin on a byte."""
    dataset = _common(SegmentationStorage, "SEG")
    _image(dataset, 3, 5, 7)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    bits = (np.arange(3 * 5 * 7) % 3 == 0).astype(np.uint8)
    dataset.add_new("PixelData", "OB", pack_bits(bits))
    write_instance(path, dataset, transfer_syntax_uid=transfer_syntax_uid)
    return path


def write_float_map(path: Path, *, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """Two frames of 32-bit floats."""
    dataset = _common(ParametricMapStorage, "OT")
    _image(dataset, 2, 6, 8)
    dataset.BitsAllocated = 32
    dataset.add_new("FloatPixelData", "OF", np.linspace(-1, 1e9, 96).astype("<f4").tobytes())
    write_instance(path, dataset, transfer_syntax_uid=transfer_syntax_uid)
    return path


def write_picture(path: Path, *, transfer_syntax_uid: str = ExplicitVRLittleEndian, planar: int = 0) -> Path:
    """A picture of 41 x 43 RGB pixels of 8 bits: an odd number of bytes."""
    dataset = _common(SecondaryCaptureImageStorage, "OT")
    dataset.Rows, dataset.Columns = 41, 43
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", planar
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    pixels = (np.arange(41 * 43 * 3) * 37 % 251).astype(np.uint8).reshape(41, 43, 3)
    content = pixels.transpose(2, 0, 1) if planar else pixels
    dataset.add_new("PixelData", "OB", content.tobytes() + b"\0")
    write_instance(path, dataset, transfer_syntax_uid=transfer_syntax_uid)
    return path


def write_document(path: Path, *, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """A document with nested sequences, texts in UTF-8 and a private element."""
    dataset = _common(ComprehensiveSRStorage, "SR")
    inner = Dataset()
    inner.RelationshipType, inner.ValueType, inner.TextValue = "CONTAINS", "TEXT", "Größe 3 mm, 大きさ"
    inner.ConceptNameCodeSequence = DicomSequence([code("121071", "DCM", "Finding")])
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ContentSequence = DicomSequence([inner])
    block = dataset.private_block(0x0099, "MAKER", create=True)
    block.add_new(0x01, "LO", "Schlüssel")
    block.add_new(0x02, "FD", 0.1)
    write_instance(path, dataset, transfer_syntax_uid=transfer_syntax_uid)
    return path
